"""Whole answers as Anthropic's messages (API reference, "Messages", the response)."""

from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ChatAnswer, FinishReason, Usage
from llama_stack.api.messages import text_of
from llama_stack.wire.anthropic.blocks import encode_tool_input


def _message_id() -> str:
    return f"msg_{uuid4().hex}"


@dataclass
class MessageHead:
    """What all of an answer shares. model: the name the caller used.

    shows_thinking: the model's reasoning is part of the content. Programs that did not ask for it read the first block
    and expect text. length_reason: what it means that the answer was cut, `max_tokens` unless the window was smaller.
    """

    model: str
    id: str = field(default_factory=_message_id)
    shows_thinking: bool = False
    length_reason: Literal["max_tokens", "model_context_window_exceeded"] = "max_tokens"

    def stop_reason(self, finish: FinishReason, stop_sequence: str | None, *, refused: bool = False) -> str:
        match finish:
            case "length":
                return self.length_reason
            case "tool_calls":
                return "tool_use"
            case "content_filter":
                return "refusal"
            case "stop":
                return "refusal" if refused else "end_turn" if stop_sequence is None else "stop_sequence"


def encode_answer(answer: ChatAnswer, head: MessageHead) -> JsonObject:
    choice = answer.choices[0]
    message = choice.message
    content: list[JsonObject] = []
    if head.shows_thinking and message.reasoning:
        content.append(thinking_block(message.reasoning))
    if text := text_of(message.content) + (message.refusal or ""):
        content.append(text_block(text))
    content += [tool_use_block(call.id, call.name, encode_tool_input(call.arguments)) for call in message.tool_calls]
    return {
        "id": head.id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
        "stop_reason": head.stop_reason(
            choice.finish_reason, choice.stop_sequence, refused=message.refusal is not None
        ),
        "stop_sequence": choice.stop_sequence if choice.finish_reason == "stop" else None,
        "usage": encode_usage(answer.usage),
    }


def text_block(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def thinking_block(thinking: str) -> JsonObject:
    """There is nothing that a signature could prove here; it is empty."""
    return {"type": "thinking", "thinking": thinking, "signature": ""}


def tool_use_block(call_id: str, name: str, arguments: JsonObject) -> JsonObject:
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def encode_usage(usage: Usage | None) -> JsonObject:
    """Tokens read from a cache are counted apart: what the model read is the sum of the three input counts."""
    usage = usage or Usage()
    cached = usage.cached_input_tokens or 0
    body: JsonObject = {
        "input_tokens": usage.input_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens is not None:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body


def encode_count(input_tokens: int, *, estimated: bool) -> JsonObject:
    """estimated: ours, beside Anthropic's `input_tokens`: the model's provider cannot count before it answers."""
    return {"input_tokens": input_tokens, "estimated": estimated}
