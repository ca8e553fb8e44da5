"""What the tests of the loop share: a setup in one line, scripted answers, and what a turn came to."""

import json
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from llama_stack.agents.functions import tool_from_function
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.tools import Tool, Toolbox
from llama_stack.api.agents import AgentConfig, AgentEvent, StepProgress, Turn, TurnAwaitingInput, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest, FinishReason, TextDelta, Usage
from llama_stack.api.messages import ToolMessage, UserMessage, text_of
from llama_stack.testing import scripted
from llama_stack.testing.scripted import Script, ScriptedInference


def says(text: str, *, finish_reason: FinishReason = "stop", tokens: int = 1) -> Script:
    return scripted.says(text, finish_reason=finish_reason, usage=Usage(input_tokens=10, output_tokens=tokens))


def calls(*wanted: tuple[str, Any], tokens: int = 1) -> Script:
    """One (name, arguments) per call; arguments that are no text are written as JSON. Ids are call_0, call_1, ..."""
    texts = [(name, given if isinstance(given, str) else json.dumps(given)) for name, given in wanted]
    return scripted.calls(*texts, usage=Usage(input_tokens=10, output_tokens=tokens))


def setup_of(script: ScriptedInference, *tools: Tool | Callable[..., Any], **config: Any) -> AgentSetup:
    toolbox = Toolbox(tool if isinstance(tool, Tool) else tool_from_function(tool) for tool in tools)
    return AgentSetup(script, AgentConfig(model="m", **config), Caller(owner="alice"), toolbox)


def chats(script: ScriptedInference) -> list[ChatRequest]:
    """What the model was asked, in order."""
    return [request for request in script.requests if isinstance(request, ChatRequest)]


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


def texts_in(events: Iterable[AgentEvent]) -> list[str]:
    """What a reader of the stream was told, piece by piece."""
    return [one.event.text for one in events if isinstance(one, StepProgress) and isinstance(one.event, TextDelta)]


def results_in(request: ChatRequest) -> list[str]:
    """What the model reads as results of its calls."""
    return [text_of(message.content) for message in request.messages if isinstance(message, ToolMessage)]
