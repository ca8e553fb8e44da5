"""Deltas of a streamed answer in the classic shape (`ContentDelta` of `llama-stack-client` 0.2.12)."""

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    ChatEvent,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.api.messages import ToolCall
from llama_stack.wire.classic.messages import encode_tool_call, parse_arguments


class DeltaEncoder:
    """Turns the events of one answer into deltas. The whole calls come with `end`: their parts may come mixed.

    Every delta has a `text`, if an empty one: the client's own event logger reads it off whatever comes.
    """

    def __init__(self) -> None:
        self._open: dict[int, tuple[ToolCallStart, list[str]]] = {}

    def encode(self, event: ChatEvent) -> list[JsonObject]:
        """The event's deltas; none for one that tells how the answer ended."""
        match event:
            case TextDelta() | RefusalDelta():
                return [{"type": "text", "text": event.text}]
            case ReasoningDelta():
                return [{"type": "reasoning", "reasoning": event.text, "text": ""}]
            case ToolCallStart():
                self._open[event.index] = (event, [])
                return [call_delta("started", "")]
            case ToolCallDelta():
                self._open[event.index][1].append(event.arguments)
                return [call_delta("in_progress", event.arguments)]
            case _:
                return []

    def end(self) -> list[JsonObject]:
        """The calls of the answer, whole and in order."""
        return [_whole_call(start, "".join(parts)) for _, (start, parts) in sorted(self._open.items())]


def _whole_call(start: ToolCallStart, arguments: str) -> JsonObject:
    if parse_arguments(arguments) is None:
        return call_delta("failed", arguments)
    return call_delta("succeeded", encode_tool_call(ToolCall(id=start.id, name=start.name, arguments=arguments)))


def call_delta(parse_status: str, tool_call: str | JsonObject) -> JsonObject:
    return {"type": "tool_call", "parse_status": parse_status, "tool_call": tool_call, "text": ""}
