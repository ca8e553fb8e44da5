"""Streamed answers of the classic inference API: `data:` frames without `[DONE]`, which the classic client would try
to read as JSON; the stream ends with its body.
"""

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ChatEnd, ChatEvent, ChoiceEnd, FinishReason, TextDelta
from llama_stack.wire.classic.deltas import DeltaEncoder
from llama_stack.wire.classic.inference import encode_metrics
from llama_stack.wire.classic.messages import stop_reason_of
from llama_stack.wire.classic.sampling import encode_logprobs


def frame(body: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


class ClassicChatEncoder:
    """One `start`, a `progress` for each delta, one `complete` with the stop reason and the metrics."""

    def __init__(self) -> None:
        self._deltas = DeltaEncoder()
        self._has_started = False
        self._finish_reason: FinishReason = "stop"

    def encode(self, event: ChatEvent) -> bytes:
        frames = [] if self._has_started else [_chat_frame("start", _EMPTY)]
        self._has_started = True
        match event:
            case ChoiceEnd():
                self._finish_reason = event.finish_reason
                frames += [_chat_frame("progress", delta) for delta in self._deltas.end()]
            case ChatEnd():
                metrics = encode_metrics(event.usage)
                stop_reason = stop_reason_of(self._finish_reason)
                frames.append(_chat_frame("complete", _EMPTY, stop_reason=stop_reason, metrics=metrics))
            case _:
                logprobs = encode_logprobs(event.logprobs) if isinstance(event, TextDelta) else None
                frames += [_chat_frame("progress", delta, logprobs=logprobs) for delta in self._deltas.encode(event)]
        return b"".join(frames)


_EMPTY: JsonObject = {"type": "text", "text": ""}


def _chat_frame(
    event_type: str,
    delta: JsonObject,
    *,
    logprobs: list[JsonObject] | None = None,
    stop_reason: str | None = None,
    metrics: list[JsonObject] | None = None,
) -> bytes:
    event = {"event_type": event_type, "delta": delta, "logprobs": logprobs, "stop_reason": stop_reason}
    return frame({"event": event, "metrics": metrics})


class ClassicCompletionEncoder:
    """A frame for each piece of text, and a last one with the stop reason and the metrics."""

    def __init__(self) -> None:
        self._finish_reason: FinishReason = "stop"

    def encode(self, event: ChatEvent) -> bytes:
        match event:
            case TextDelta():
                return frame({"delta": event.text, "stop_reason": None, "logprobs": encode_logprobs(event.logprobs)})
            case ChoiceEnd():
                self._finish_reason = event.finish_reason
                return b""
            case ChatEnd():
                stop_reason = stop_reason_of(self._finish_reason)
                metrics = encode_metrics(event.usage)
                return frame({"delta": "", "stop_reason": stop_reason, "logprobs": None, "metrics": metrics})
            case _:
                return b""
