"""A model that says what the test wrote down, and records what it was asked."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from llama_stack.agents.functions import tool_from_function
from llama_stack.agents.loop import AgentSetup
from llama_stack.agents.tools import Tool, Toolbox
from llama_stack.api.agents import AgentConfig, AgentEvent, Turn, TurnAwaitingInput, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    FinishReason,
    PartialInference,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from llama_stack.api.messages import ToolMessage, UserMessage, text_of


def says(text: str, *, finish_reason: FinishReason = "stop", tokens: int = 1) -> list[ChatEvent]:
    return [
        TextDelta(text=text),
        ChoiceEnd(finish_reason=finish_reason),
        ChatEnd(usage=Usage(input_tokens=10, output_tokens=tokens)),
    ]


def calls(*wanted: tuple[str, Any], tokens: int = 1) -> list[ChatEvent]:
    """One (name, arguments) per call; arguments that are no text are written as JSON. Ids are c0, c1, ..."""
    events: list[ChatEvent] = []
    for index, (name, arguments) in enumerate(wanted):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        events += [ToolCallStart(index=index, id=f"c{index}", name=name), ToolCallDelta(index=index, arguments=text)]
    return [
        *events,
        ChoiceEnd(finish_reason="tool_calls"),
        ChatEnd(usage=Usage(input_tokens=10, output_tokens=tokens)),
    ]


class Script(PartialInference):
    """Plays one answer per request. Call ids are made unique by the number of the answer, as a provider's are.

    otherwise: played for every request after the last answer. A `asyncio.Event` in an answer holds it up forever.
    """

    def __init__(self, *answers: Sequence[ChatEvent | asyncio.Event], otherwise: Sequence[ChatEvent] = ()) -> None:
        self.requests: list[ChatRequest] = []
        self.closed = asyncio.Event()
        self._answers = list(answers)
        self._otherwise = otherwise

    async def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        number = len(self.requests)
        self.requests.append(request)
        answer = self._answers.pop(0) if self._answers else self._otherwise
        assert answer, f"the script has no answer for request {number}"
        try:
            for event in answer:
                if isinstance(event, asyncio.Event):
                    event.set()
                    await asyncio.Event().wait()
                elif isinstance(event, ToolCallStart):
                    yield event.model_copy(update={"id": f"{event.id}.{number}"})
                else:
                    yield event
        finally:
            self.closed.set()


def setup_of(script: Script, *tools: Tool | Callable[..., Any], **config: Any) -> AgentSetup:
    toolbox = Toolbox(tool if isinstance(tool, Tool) else tool_from_function(tool) for tool in tools)
    return AgentSetup(script, AgentConfig(model="m", **config), Caller(owner="alice"), toolbox)


def asks(text: str) -> list[UserMessage | ToolMessage]:
    return [UserMessage(content=text)]


async def everything(events: AsyncGenerator[AgentEvent, None]) -> tuple[list[AgentEvent], Turn]:
    """All events, and the turn the last one holds."""
    seen = [event async for event in events]
    last = seen[-1]
    assert isinstance(last, TurnCompleted | TurnAwaitingInput)
    return seen, last.turn


def text_out(turn: Turn) -> str:
    assert turn.output is not None
    return text_of(turn.output.content)


def results_in(request: ChatRequest) -> list[str]:
    """What the model reads as results of its calls."""
    return [text_of(message.content) for message in request.messages if isinstance(message, ToolMessage)]
