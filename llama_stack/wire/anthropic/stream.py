"""Streamed answers as Anthropic's events (API reference, "Streaming Messages").

An answer is `message_start`, its blocks one after the other (`content_block_start`, `content_block_delta`s,
`content_block_stop`), `message_delta` with why it ended and what it took, `message_stop`.
"""

import json
from dataclasses import dataclass, field
from typing import Literal

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    ChatEnd,
    ChatEvent,
    ChoiceEnd,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.errors import ProviderFailed
from llama_stack.wire.anthropic.answer import MessageHead, encode_usage, text_block, thinking_block, tool_use_block


@dataclass
class _Block:
    """One block of the content. waiting: pieces not sent yet; call: the number of the call it is; said: its text."""

    kind: Literal["text", "thinking", "tool_use"]
    opening: JsonObject
    call: int | None = None
    waiting: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    is_open: bool = False

    def is_whole(self) -> bool:
        """Whether nothing can follow, once something else has begun."""
        if self.kind != "tool_use":
            return True
        try:
            json.loads("".join(self.said))
        except ValueError:
            return False
        return True

    def delta(self, piece: str) -> JsonObject:
        match self.kind:
            case "text":
                return {"type": "text_delta", "text": piece}
            case "thinking":
                return {"type": "thinking_delta", "thinking": piece}
            case "tool_use":
                return {"type": "input_json_delta", "partial_json": piece}


class MessageStreamEncoder:
    """Writes the events of one answer as server-sent events.

    Only one block is open at a time. Of calls that the model makes side by side the first is streamed as it comes, and
    the next once its arguments are whole. The tokens of the prompt are known at the end: `message_start` says 0, and
    `message_delta` has the true usage.
    """

    def __init__(self, head: MessageHead) -> None:
        self._head = head
        self._blocks: list[_Block] = []
        self._index = -1
        self._began = False
        self._refused = False
        self._end = ChoiceEnd(finish_reason="stop")

    def encode(self, event: ChatEvent) -> bytes:
        """The event's frames; empty for what Anthropic's stream has no word for."""
        frames = [] if self._began else self._message_start()
        match event:
            case TextDelta():
                self._say("text", event.text)
            case RefusalDelta():
                self._refused = True
                self._say("text", event.text)
            case ReasoningDelta():
                if self._head.shows_thinking:
                    self._say("thinking", event.text)
            case ToolCallStart():
                opening = tool_use_block(event.id, event.name, {})
                self._blocks.append(_Block("tool_use", opening, call=event.index))
            case ToolCallDelta():
                self._add_arguments(event)
            case ChoiceEnd():
                self._end = event
                return b"".join([*frames, *self._advance(ended=True)])
            case ChatEnd():
                return b"".join([*frames, *self._message_end(event)])
        return b"".join([*frames, *self._advance(ended=False)])

    def _say(self, kind: Literal["text", "thinking"], text: str) -> None:
        if not text:
            return
        if not self._blocks or self._blocks[-1].kind != kind:
            self._blocks.append(_Block(kind, text_block("") if kind == "text" else thinking_block("")))
        self._add(self._blocks[-1], text)

    def _add_arguments(self, event: ToolCallDelta) -> None:
        block = next((block for block in self._blocks if block.call == event.index), None)
        if block is not None:
            self._add(block, event.arguments)
        elif event.arguments.strip():
            raise ProviderFailed("the model went on with the arguments of a call after they were complete")

    def _add(self, block: _Block, piece: str) -> None:
        if piece:
            block.waiting.append(piece)
            block.said.append(piece)

    def _advance(self, *, ended: bool) -> list[bytes]:
        """Everything that may be sent now, in order."""
        frames: list[bytes] = []
        while self._blocks:
            block = self._blocks[0]
            if not block.is_open:
                block.is_open = True
                self._index += 1
                frames.append(_frame("content_block_start", {"index": self._index, "content_block": block.opening}))
            frames += [
                _frame("content_block_delta", {"index": self._index, "delta": block.delta(piece)})
                for piece in block.waiting
            ]
            block.waiting.clear()
            if not ended and (len(self._blocks) == 1 or not block.is_whole()):
                break
            frames.append(_frame("content_block_stop", {"index": self._index}))
            self._blocks.pop(0)
        return frames

    def _message_start(self) -> list[bytes]:
        self._began = True
        message: JsonObject = {
            "id": self._head.id,
            "type": "message",
            "role": "assistant",
            "model": self._head.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": encode_usage(None),
        }
        return [_frame("message_start", {"message": message}), _frame("ping", {})]

    def _message_end(self, event: ChatEnd) -> list[bytes]:
        end = self._end
        delta: JsonObject = {
            "stop_reason": self._head.stop_reason(end.finish_reason, end.stop_sequence, refused=self._refused),
            "stop_sequence": end.stop_sequence if end.finish_reason == "stop" else None,
        }
        usage = encode_usage(event.usage)
        return [
            *self._advance(ended=True),
            _frame("message_delta", {"delta": delta, "usage": usage}),
            _frame("message_stop", {}),
        ]


def _frame(name: str, fields: JsonObject) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **fields}))
