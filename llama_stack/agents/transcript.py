"""What a turn tells: the messages it adds to the conversation, and the calls that still wait for a result.

All of it is read from the turn's own steps and from nothing else. A turn that was stored can therefore be taken up
where it stopped, by whoever stopped it: a pause, a crash or another process.
"""

from collections.abc import Iterable

from llama_stack.api.agents import (
    ApprovalDecision,
    ApprovalStep,
    InferenceStep,
    MemoryRetrievalStep,
    ShieldCallStep,
    ToolExecutionStep,
    Turn,
)
from llama_stack.api.messages import Content, Message, TextPart, ToolCall, ToolMessage, UserMessage
from llama_stack.errors import StackError
from llama_stack.memory.context import around_question

_UNREADABLE = (400, 413, 415, 422)
NO_RESULT = "Error: no result was given for this call."


def messages_of(turn: Turn) -> list[Message]:
    """The turn as conversation: input with what was retrieved for it, answers, and each call's result in the order of
    the calls.

    A call that never got a result is given one that says so: providers refuse a conversation with open calls.
    """
    messages = _with_context(turn)
    last = last_inference(turn)
    for position, step in enumerate(turn.steps):
        if not isinstance(step, InferenceStep):
            continue
        calls = step.message.tool_calls
        is_superseded = not calls and step is not last
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
    """The messages of earlier turns, oldest first. What a shield kept from the model stays kept from it."""
    return [message for turn in turns if not is_input_blocked(turn) for message in messages_of(turn)]


def is_input_blocked(turn: Turn) -> bool:
    """Whether a shield refused what the user said, so that the model never read it."""
    return turn.end_reason == "blocked" and not any(isinstance(step, InferenceStep) for step in turn.steps)


def is_refused(error: StackError, turn: Turn) -> bool:
    """Whether what the user said cannot be read by the model that was to answer it: a picture, or more than its window.

    Such a turn must not stay in the conversation, or each following turn would be refused for it.
    """
    return error.http_status in _UNREADABLE and last_inference(turn) is None


def decisions_made(turn: Turn) -> dict[str, ApprovalDecision]:
    """What a person has said of the calls of the latest inference step, by call id."""
    made: dict[str, ApprovalDecision] = {}
    for step in reversed(turn.steps):
        if isinstance(step, InferenceStep):
            break
        if isinstance(step, ApprovalStep):
            made.update({decision.tool_call_id: decision for decision in step.decisions})
    return made


def shields_asked(turn: Turn) -> list[ShieldCallStep]:
    """What the shields said of the user's input."""
    return [step for step in turn.steps if isinstance(step, ShieldCallStep) and step.touchpoint == "input"]


def retrieval_of(turn: Turn) -> MemoryRetrievalStep | None:
    return next((step for step in turn.steps if isinstance(step, MemoryRetrievalStep)), None)


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


def _with_context(turn: Turn) -> list[Message]:
    """The turn's input; what was retrieved stands around the user's last words."""
    messages: list[Message] = list(turn.input)
    retrieval = retrieval_of(turn)
    if retrieval is None or not retrieval.inserted_context:
        return messages
    for position in reversed(range(len(messages))):
        message = messages[position]
        if isinstance(message, UserMessage):
            before, behind = around_question(retrieval.inserted_context)
            if isinstance(message.content, str):
                content: Content = f"{before}{message.content}{behind}"
            else:
                parts = [TextPart(text=text) if text else None for text in (before, behind)]
                content = [part for part in (parts[0], *message.content, parts[1]) if part is not None]
            messages[position] = message.model_copy(update={"content": content})
            break
    return messages


def _results_after(turn: Turn, position: int) -> dict[str, ToolMessage]:
    """Results for the calls of the inference step at `position`. Call ids are unique in one answer only."""
    results: dict[str, ToolMessage] = {}
    for step in turn.steps[position + 1 :]:
        if isinstance(step, InferenceStep):
            break
        if isinstance(step, ToolExecutionStep):
            results.update({result.tool_call_id: result for result in step.results})
    return results
