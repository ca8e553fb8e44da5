"""The calls of one answer, run side by side within the turn's limits."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from llama_stack.agents.context import ToolContext, serving
from llama_stack.agents.handoff import HANDED_TO
from llama_stack.agents.retrieval import as_one_reads
from llama_stack.agents.setup import new_id
from llama_stack.agents.tools import Toolbox, bounded, denial, error_result, meaning_of
from llama_stack.agents.transcript import last_inference
from llama_stack.api.agents import (
    ApprovalDecision,
    ToolCallFinished,
    ToolCallStarted,
    ToolExecutionStep,
    ToolOutcome,
    Turn,
)
from llama_stack.api.messages import Content, TextPart, ToolCall, ToolMessage
from llama_stack.api.tools import ToolResult

MAX_PARALLEL_CALLS = 16
REPEATED = (
    "(This same call was already made in this turn, with the same arguments. "
    "Do not repeat it: use its result, or try something else.)"
)


class Unfinished(ToolResult):
    """In place of a result: an agent serves the call, and its turn awaits these calls. tool_shields: of that agent."""

    turn: Turn
    tool_calls: list[ToolCall]
    approvals: list[ToolCall]
    tool_shields: list[str] = []


@dataclass(frozen=True)
class CallPutAside:
    """The agent that serves a call has to wait; the call gets no result for now."""

    step_id: str
    tool_call: ToolCall
    unfinished: Unfinished


ToolCallEvent = ToolCallStarted | ToolCallFinished
RunningEvent = ToolCallEvent | CallPutAside


async def run_calls(
    toolbox: Toolbox,
    calls: Sequence[ToolCall],
    step_ids: Sequence[str],
    events: "asyncio.Queue[RunningEvent | None]",
    *,
    earlier: Sequence[ToolCall],
    allowed: int,
    deadline: float | None,
    context: Callable[[ToolCall], ToolContext],
    room: Callable[[], Awaitable[int]] | None = None,
) -> None:
    """Run the calls; cancelling this stops them all.

    step_ids: the step of each call. events: told of each call's beginning and end as they happen, or that it was put
    aside; None says that nothing will follow.
    earlier: calls made before in this turn, for the note on repeated ones. allowed: how many may be run at all.
    deadline: of the event loop's clock; calls that are not done by then are stopped. context: of each call. room: how
    many tokens of passages the model is shown of what a call has found.
    """
    repeated = _repeated(earlier, calls)
    free = asyncio.Semaphore(MAX_PARALLEL_CALLS)

    async def answer(position: int, call: ToolCall) -> None:
        step_id = step_ids[position]
        async with free:
            events.put_nowait(ToolCallStarted(step_id=step_id, tool_call=call))
            with serving(context(call)):
                is_allowed = position < allowed
                result = await _run_until(toolbox, call, deadline) if is_allowed else error_result(_NO_CALLS_LEFT)
        if isinstance(result, Unfinished):
            events.put_nowait(CallPutAside(step_id, call, result))
            return
        if room is not None:
            result = await as_one_reads(result, call, room)
        content = _with_note(result.content) if position in repeated else result.content
        message = ToolMessage(tool_call_id=call.id, name=call.name, content=content)
        events.put_nowait(
            ToolCallFinished(step_id=step_id, result=message, is_error=result.is_error, metadata=result.metadata)
        )

    try:
        async with asyncio.TaskGroup() as group:
            for position, call in enumerate(calls):
                group.create_task(answer(position, call))
    finally:
        events.put_nowait(None)


def awaited_step_id(turn: Turn, calls: Sequence[ToolCall]) -> str:
    """The id of the step that will keep the results of these open calls, where they come together.

    It is known before the results are, so that a face can tell of the step at once; the first of the calls can be
    answered only once.
    """
    asked_in = last_inference(turn)
    key = f"{asked_in.step_id if asked_in is not None else turn.turn_id}/{calls[0].id}"
    return f"step_{sha256(key.encode(errors='replace')).hexdigest()[:32]}"


def brought_step(
    turn: Turn, calls: Sequence[ToolCall], results: Sequence[ToolMessage], outcomes: Sequence[ToolOutcome], limit: int
) -> ToolExecutionStep:
    """The step of calls of the turn that their caller ran. limit: characters of a result that are kept."""
    given = {result.tool_call_id: result for result in results}
    told = {outcome.tool_call_id: outcome for outcome in outcomes if outcome.tool_call_id in given}
    answers = [
        ToolMessage(
            tool_call_id=call.id,
            name=call.name,
            content=bounded(ToolResult(content=given[call.id].content), limit).content,
        )
        for call in calls
    ]
    moment = datetime.now(UTC)
    return ToolExecutionStep(
        step_id=awaited_step_id(turn, calls),
        tool_calls=list(calls),
        results=answers,
        failed=[call_id for call_id, outcome in told.items() if outcome.is_error],
        # Only tools of this process hand a conversation over.
        metadata={
            call_id: {key: value for key, value in outcome.metadata.items() if key != HANDED_TO}
            for call_id, outcome in told.items()
            if outcome.metadata
        },
        started_at=moment,
        completed_at=moment,
    )


def denied_step(calls: Sequence[ToolCall], decisions: Sequence[ApprovalDecision]) -> ToolExecutionStep:
    """The step of calls that a person said no to, with the decision on each."""
    results = [
        ToolMessage(tool_call_id=call.id, name=call.name, content=denial(decision.reason))
        for call, decision in zip(calls, decisions, strict=True)
    ]
    return ToolExecutionStep(
        step_id=new_id("step"), tool_calls=list(calls), results=results, failed=[call.id for call in calls]
    )


_NO_CALLS_LEFT = "The call was not made: this turn may make no more tool calls."


async def _run_until(toolbox: Toolbox, call: ToolCall, deadline: float | None) -> ToolResult:
    if deadline is not None and asyncio.get_running_loop().time() >= deadline:
        return error_result("The call was not made: the time for this turn is used up.")
    try:
        async with asyncio.timeout_at(deadline):
            return await toolbox.run(call)
    except TimeoutError:
        return error_result(f"{call.name} was stopped: the time for this turn is used up.")


def _repeated(earlier: Sequence[ToolCall], calls: Sequence[ToolCall]) -> set[int]:
    """Positions of the calls that were made before, in this turn or in this very answer."""
    seen = {meaning_of(call) for call in earlier}
    positions: set[int] = set()
    for position, call in enumerate(calls):
        meaning = meaning_of(call)
        if meaning in seen:
            positions.add(position)
        seen.add(meaning)
    return positions


def _with_note(content: Content) -> Content:
    return f"{content}\n{REPEATED}" if isinstance(content, str) else [*content, TextPart(text=REPEATED)]
