"""Turns, their steps and sessions in the classic shape (`Turn`, `Session` and the steps of `llama-stack-client`
0.2.12).

A classic turn can be made of several of ours: the one that was begun, and a further one for each time a client went on
with it after it had ended, as the client's ReActAgent does with results of calls that it found in the model's text.
Their ids are the first one's with `.2`, `.3` ... after it; together they are shown as one turn under the first one's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from llama_stack.api.agents import (
    AgentConfig,
    ApprovalStep,
    DelegationStep,
    InferenceStep,
    MemoryRetrievalStep,
    Session,
    ShieldCallStep,
    Step,
    ToolExecutionStep,
    ToolGroupUse,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
)
from llama_stack.api.common import JsonObject
from llama_stack.api.messages import AssistantMessage, ToolCall, ToolMessage
from llama_stack.wire.classic.content import encode_content
from llama_stack.wire.classic.messages import (
    StopReason,
    encode_completion_message,
    encode_messages,
    encode_tool_call,
    stop_reason_of,
)
from llama_stack.wire.classic.safety import encode_violation
from llama_stack.wire.classic.turns import as_result

# --- the parts of a turn ------------------------------------------------------------------------------------------


def shown_id(turn_id: str) -> str:
    """The id under which the classic API shows a turn of ours."""
    first, dot, number = turn_id.rpartition(".")
    return first if dot and number.isdecimal() else turn_id


def parts_of(session: Session, turn_id: str) -> list[Turn]:
    """Our turns that the classic turn is made of, oldest first; none for an id the session does not have."""
    return [turn for turn in session.turns if shown_id(turn.turn_id) == turn_id]


def next_part_id(parts: Sequence[Turn]) -> str:
    return f"{shown_id(parts[0].turn_id)}.{len(parts) + 1}"


# --- sessions and turns --------------------------------------------------------------------------------------------


def encode_session(session: Session, config: AgentConfig, turn_ids: set[str] | None = None) -> JsonObject:
    """config: the agent's. turn_ids: only these turns; None for all."""
    parts: dict[str, list[Turn]] = {}
    for turn in session.turns:
        parts.setdefault(shown_id(turn.turn_id), []).append(turn)
    return {
        **encode_session_head(session),
        "turns": [
            encode_turn(of_turn, config)
            for turn_id, of_turn in parts.items()
            if turn_ids is None or turn_id in turn_ids
        ],
    }


def encode_session_head(session: Session) -> JsonObject:
    return {
        "session_id": session.session_id,
        "session_name": session.name,
        "started_at": session.started_at.isoformat(),
    }


def encode_turn(parts: Sequence[Turn], config: AgentConfig) -> JsonObject:
    """A stored turn; one that has not ended shows what it may be waiting for."""
    last = parts[-1]
    if last.end_reason is not None:
        return encode_ended_turn(parts)
    names = {tool.name for tool in config.client_tools}
    uses = config.tool_groups if last.settings.tool_groups is None else last.settings.tool_groups
    waiting = open_calls(last)
    approvals = [call for call in waiting if call.name not in names and any(_asks(use, call) for use in uses)]
    return encode_paused_turn(parts, [call for call in waiting if call.name in names], approvals)


def encode_stopped_turn(event: TurnAwaitingInput | TurnCompleted, earlier: Sequence[Turn]) -> JsonObject:
    """The turn that the last event of a run tells of. earlier: its parts before the one that was run."""
    parts = [*earlier, event.turn]
    if isinstance(event, TurnAwaitingInput):
        return encode_paused_turn(parts, event.tool_calls, event.approvals)
    return encode_ended_turn(parts)


def encode_ended_turn(parts: Sequence[Turn]) -> JsonObject:
    last = parts[-1]
    stop_reason: StopReason = "out_of_tokens" if last.end_reason == "max_tokens" else "end_of_turn"
    return _turn_body(parts, last.output or AssistantMessage(), stop_reason)


def encode_paused_turn(parts: Sequence[Turn], tool_calls: list[ToolCall], approvals: list[ToolCall]) -> JsonObject:
    """A turn that waits for its caller. Only a stop reason of `end_of_message` makes the client run the calls.

    approvals: calls that wait for a person's word. They are ours and stand beside the message: the client would run,
    or declare unknown, whatever call it finds in it.
    """
    last = _last_inference(parts[-1])
    said = AssistantMessage() if last is None else last.message
    output = AssistantMessage(content=said.content, reasoning=said.reasoning, tool_calls=tool_calls)
    return {
        **_turn_body(parts, output, "end_of_message"),
        "approvals": [encode_tool_call(call) for call in approvals],
    }


def _asks(use: ToolGroupUse, call: ToolCall) -> bool:
    """Whether calls of this name wait for a person's word, as far as the use of a group tells."""
    if isinstance(use.approval, list):
        return call.name in use.approval
    return use.approval == "always" and (use.tools is None or call.name in use.tools)


def _turn_body(parts: Sequence[Turn], output: AssistantMessage, stop_reason: StopReason) -> JsonObject:
    first, last = parts[0], parts[-1]
    body: JsonObject = {
        "turn_id": shown_id(first.turn_id),
        "session_id": first.session_id,
        "input_messages": encode_messages([*first.input]),
        "steps": encode_steps(parts),
        "output_message": encode_completion_message(output, stop_reason),
        "output_attachments": [],
        "started_at": first.started_at.isoformat(),
        "completed_at": _moment(last.completed_at),
    }
    if last.citations:
        # Ours: what the output rests on, for which the classic shape has no word.
        body["citations"] = [one.model_dump(mode="json") for one in last.citations]
    return body


def _last_inference(turn: Turn) -> InferenceStep | None:
    return next((step for step in reversed(turn.steps) if isinstance(step, InferenceStep)), None)


def open_calls(turn: Turn) -> list[ToolCall]:
    """Calls of the latest answer that have neither a result nor a person's word."""
    last = _last_inference(turn)
    if last is None:
        return []
    done: set[str] = set()
    for step in turn.steps[turn.steps.index(last) + 1 :]:
        if isinstance(step, ToolExecutionStep):
            done.update(result.tool_call_id for result in step.results)
        elif isinstance(step, ApprovalStep):
            done.update(made.tool_call_id for made in step.decisions)
    return [call for call in last.message.tool_calls if call.id not in done]


def calls_of(parts: Iterable[Turn]) -> set[str]:
    """Ids of every call the model has made in the turn."""
    steps = [step for part in parts for step in part.steps if isinstance(step, InferenceStep)]
    return {call.id for step in steps for call in step.message.tool_calls}


# --- steps ---------------------------------------------------------------------------------------------------------


def encode_steps(parts: Sequence[Turn]) -> list[JsonObject]:
    turn_id = shown_id(parts[0].turn_id)
    steps: list[JsonObject] = []
    for part in parts:
        if part is not parts[0]:
            steps.append(encode_step(_brought(part), turn_id))
        steps.extend(encode_step(step, turn_id) for step in part.steps)
    return steps


def brought_step(part_id: str, results: list[ToolMessage], moment: datetime) -> ToolExecutionStep:
    """The results a client went on with, as a step; the calls themselves are known to the client only."""
    return ToolExecutionStep(
        step_id=f"step_{part_id}", tool_calls=[], results=results, started_at=moment, completed_at=moment
    )


def _brought(part: Turn) -> ToolExecutionStep:
    results = [
        result
        for number, message in enumerate(part.input)
        if (result := as_result(message, f"{part.turn_id}.{number}")) is not None
    ]
    return brought_step(part.turn_id, results, part.started_at)


def shown_type(step: Step) -> str:
    """A call that an agent serves, and that waits, is a tool execution without a response so far."""
    return "tool_execution" if isinstance(step, DelegationStep) else step.type


def encode_step(step: Step, turn_id: str) -> JsonObject:
    body: JsonObject = {
        "turn_id": turn_id,
        "step_id": step.step_id,
        "step_type": shown_type(step),
        "completed_at": _moment(step.completed_at),
    }
    if not isinstance(step, ApprovalStep):
        body["started_at"] = _moment(step.started_at)
    match step:
        case InferenceStep():
            stop_reason = "end_of_message" if step.message.tool_calls else stop_reason_of(step.finish_reason)
            body["model_response"] = encode_completion_message(step.message, stop_reason)
        case ToolExecutionStep():
            body["tool_calls"] = [encode_tool_call(call) for call in step.tool_calls]
            body["tool_responses"] = [_encode_result(result, step) for result in step.results]
        case DelegationStep():
            body["tool_calls"] = [encode_tool_call(step.tool_call)]
            body["tool_responses"] = []
        case ShieldCallStep():
            body["violation"] = None if step.violation is None else encode_violation(step.violation)
        case MemoryRetrievalStep():
            body["vector_db_ids"] = ",".join(step.memory_banks)
            body["inserted_context"] = step.inserted_context
        case ApprovalStep():
            body["decisions"] = [
                {"call_id": made.tool_call_id, "approve": made.approve, "reason": made.reason}
                for made in step.decisions
            ]
    return body


def _encode_result(result: ToolMessage, step: ToolExecutionStep) -> JsonObject:
    call_id = result.tool_call_id
    body: JsonObject = {
        "call_id": call_id,
        "tool_name": result.name or next((call.name for call in step.tool_calls if call.id == call_id), ""),
        "content": encode_content(result.content),
        "metadata": step.metadata.get(call_id, {}),
    }
    return {**body, "is_error": True} if call_id in step.failed else body


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
