"""What a response begins with: the conversation so far, and what of it is new."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llama_stack.agents.setup import new_id
from llama_stack.agents.transcript import is_input_blocked, messages_of, open_calls
from llama_stack.api.agents import ApprovalDecision, InferenceStep, Step, ToolExecutionStep, Turn
from llama_stack.api.common import JsonObject
from llama_stack.api.messages import AssistantMessage, Message, ToolMessage, UserMessage
from llama_stack.storage.responses import StoredResponse
from llama_stack.wire.openai_responses.telling import Told, tell


@dataclass(frozen=True)
class Beginning:
    """history: what stands before the turn. input: the turn's own. steps: an answer whose calls wait for a person's
    word, and what is known of them: the turn goes on from there. decisions: that word. requests: by call id, the
    request it answers.
    """

    history: list[Message]
    input: list[UserMessage | ToolMessage]
    steps: list[Step] = field(default_factory=list)
    decisions: list[ApprovalDecision] = field(default_factory=list)
    requests: dict[str, str] = field(default_factory=dict)


def beginning(told: Told) -> Beginning:
    """How a turn begins after these messages.

    The user's last messages are the turn's input, or else the outputs of the caller's tools. Where a person decided
    on calls, the answer that made them becomes part of the turn, so that it can go on from there.
    """
    messages = told.messages
    requests = {call_id: request_id for request_id, call_id in told.requests.items()}
    if told.decisions:
        asked_at = max(position for position, one in enumerate(messages) if isinstance(one, AssistantMessage))
        steps = _steps_of(messages[asked_at:])
        return Beginning(messages[:asked_at], [], steps, list(told.decisions.values()), requests)
    for kind in (UserMessage, ToolMessage):
        begin = len(messages)
        while begin and isinstance(messages[begin - 1], kind):
            begin -= 1
        if begin < len(messages):
            new = [one for one in messages[begin:] if isinstance(one, UserMessage | ToolMessage)]
            return Beginning(messages[:begin], new, requests=requests)
    return Beginning(messages, [], requests=requests)


def _steps_of(messages: Sequence[Message]) -> list[Step]:
    asked, *rest = messages
    if not isinstance(asked, AssistantMessage):
        raise TypeError("only an answer can have calls")
    steps: list[Step] = [InferenceStep(step_id=new_id("step"), message=asked, finish_reason="tool_calls")]
    results = [message for message in rest if isinstance(message, ToolMessage)]
    if results:
        answered = {result.tool_call_id for result in results}
        calls = [call for call in asked.tool_calls if call.id in answered]
        steps.append(ToolExecutionStep(step_id=new_id("step"), tool_calls=calls, results=results))
    return steps


def told_by(chain: Iterable[tuple[StoredResponse, Turn]]) -> Told:
    """The conversation that a chain of responses made, from their own steps and not from what was shown of them."""
    told = Told()
    for record, turn in chain:
        told = told_after(told, record.request.input, (record.body or {}).get("output", ()), turn)
    return told


def told_after(told: Told, items: list[JsonObject], output: Iterable[JsonObject], turn: Turn) -> Told:
    """The conversation `told` with one response more. items: its input. output: with our own keys."""
    if is_input_blocked(turn):
        return told
    before = beginning(tell(items, told))
    requests = {request_id: call_id for call_id, request_id in before.requests.items()}
    history, rest = before.history, turn
    for item in output:
        match item["type"]:
            case "mcp_approval_request":
                requests[item["id"]] = item["_call_id"]
            case "compaction":
                history, rest = _compacted(item, turn)
    return Told([*history, *_said_in(rest)], {}, requests)


def _compacted(item: JsonObject, turn: Turn) -> tuple[list[Message], Turn]:
    """What stands for everything up to the compaction, and the turn's rest."""
    window = tell([item]).messages
    return window, turn.model_copy(update={"input": [], "steps": turn.steps[item["_steps"] :]})


def _said_in(turn: Turn) -> list[Message]:
    """The turn's messages; calls that wait for the caller are left without an output, for the next input to give."""
    messages = messages_of(turn)
    waiting = {call.id for call in open_calls(turn)}
    if not waiting:
        return messages
    asked_at = max(position for position, one in enumerate(messages) if isinstance(one, AssistantMessage))
    outputs = [one for one in messages[asked_at + 1 :] if isinstance(one, ToolMessage)]
    return [*messages[: asked_at + 1], *(one for one in outputs if one.tool_call_id not in waiting)]


def labels_listed(outputs: Iterable[JsonObject]) -> set[str]:
    """MCP servers whose tools were told before."""
    return {item["server_label"] for item in outputs if item["type"] == "mcp_list_tools"}
