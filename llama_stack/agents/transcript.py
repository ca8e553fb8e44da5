"""What a turn tells: the messages it adds to the conversation, and the calls that still wait for a result.

All of it is read from the turn's own steps and from nothing else. A turn that was stored can therefore be taken up
where it stopped, by whoever stopped it: a pause, a crash or another process.
"""

from collections.abc import Iterable

from llama_stack.api.agents import InferenceStep, ToolExecutionStep, Turn
from llama_stack.api.messages import Message, ToolCall, ToolMessage

NO_RESULT = "Error: no result was given for this call."


def messages_of(turn: Turn) -> list[Message]:
    """The turn as conversation: input, answers, and each call's result in the order of the calls.

    A call that never got a result is given one that says so: providers refuse a conversation with open calls.
    """
    messages: list[Message] = list(turn.input)
    for position, step in enumerate(turn.steps):
        if not isinstance(step, InferenceStep):
            continue
        calls = step.message.tool_calls
        is_superseded = not calls and position + 1 < len(turn.steps)
        if is_superseded:
            continue
        results = _results_after(turn, position)
        messages.append(step.message)
        messages.extend(
            results.get(call.id) or ToolMessage(tool_call_id=call.id, content=NO_RESULT, name=call.name)
            for call in calls
        )
    return messages


def history_of(turns: Iterable[Turn]) -> list[Message]:
    """The messages of earlier turns, oldest first."""
    return [message for turn in turns for message in messages_of(turn)]


def open_calls(turn: Turn) -> list[ToolCall]:
    """Calls of the latest inference step that have no result yet, in their order."""
    for position in reversed(range(len(turn.steps))):
        step = turn.steps[position]
        if isinstance(step, InferenceStep):
            results = _results_after(turn, position)
            return [call for call in step.message.tool_calls if call.id not in results]
    return []


def last_inference(turn: Turn) -> InferenceStep | None:
    return next((step for step in reversed(turn.steps) if isinstance(step, InferenceStep)), None)


def calls_made(turn: Turn) -> list[ToolCall]:
    """Every call of the turn that has got a result, oldest first."""
    return [call for step in turn.steps if isinstance(step, ToolExecutionStep) for call in step.tool_calls]


def _results_after(turn: Turn, position: int) -> dict[str, ToolMessage]:
    """Results for the calls of the inference step at `position`. Call ids are unique in one answer only."""
    results: dict[str, ToolMessage] = {}
    for step in turn.steps[position + 1 :]:
        if isinstance(step, InferenceStep):
            break
        if isinstance(step, ToolExecutionStep):
            results.update({result.tool_call_id: result for result in step.results})
    return results
