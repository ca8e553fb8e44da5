"""What answers of OpenAI's chat and completion endpoints have in common: their head, usage and log probabilities."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from uuid import uuid4

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import FinishReason, TokenLogprob, Usage


@dataclass(frozen=True)
class AnswerHead:
    """What every object of one answer repeats. model: the name the caller used. created: seconds since 1970."""

    model: str
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def for_chat(cls, model: str) -> Self:
        return cls(model, f"chatcmpl-{uuid4().hex}")

    @classmethod
    def for_completion(cls, model: str) -> Self:
        return cls(model, f"cmpl-{uuid4().hex}")


def encode_logprobs(logprobs: list[TokenLogprob]) -> JsonObject:
    return {"content": encode_token_logprobs(logprobs), "refusal": None}


def encode_token_logprobs(logprobs: Sequence[TokenLogprob]) -> list[JsonObject]:
    return [
        {**_encode_token(token), "top_logprobs": [_encode_token(other) for other in token.top]} for token in logprobs
    ]


LEAST_LOGPROB = -9999.0
"""What OpenAI writes for a token that could not be drawn; JSON has no minus infinity."""


def _encode_token(token: TokenLogprob) -> JsonObject:
    return {"token": token.token, "logprob": max(token.logprob, LEAST_LOGPROB), "bytes": token.bytes}


def encode_usage(usage: Usage) -> JsonObject:
    body: JsonObject = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_input_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.cached_input_tokens}
    if usage.reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return body


def decode_usage(body: object) -> Usage | None:
    """Lenient: partners leave fields out or null. None when there is no usage at all."""
    if not isinstance(body, dict):
        return None
    prompt_details = body.get("prompt_tokens_details") or {}
    completion_details = body.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=body.get("prompt_tokens") or 0,
        output_tokens=body.get("completion_tokens") or 0,
        cached_input_tokens=prompt_details.get("cached_tokens"),
        reasoning_tokens=completion_details.get("reasoning_tokens"),
    )


def decode_logprobs(body: object) -> list[TokenLogprob] | None:
    if not isinstance(body, dict) or not isinstance(body.get("content"), list):
        return None
    return decode_token_logprobs(body["content"])


def decode_token_logprobs(body: Sequence[JsonObject]) -> list[TokenLogprob]:
    return [_decode_token(token) for token in body]


def _decode_token(body: JsonObject) -> TokenLogprob:
    return TokenLogprob(
        token=body["token"],
        logprob=LEAST_LOGPROB if body["logprob"] is None else body["logprob"],
        bytes=body.get("bytes"),
        top=[_decode_token(other) for other in body.get("top_logprobs") or ()],
    )


_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def finish_reason_of(word: str) -> FinishReason:
    """A partner's finish reason in OpenAI's words; "stop" for one that is not known."""
    return _FINISH_REASONS.get(word, "stop")


_KNOWN_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation", "error"})


def response_fields(body: JsonObject) -> JsonObject:
    """The fields of an answer, or of a chunk of one, that are the partner's own."""
    return {name: body[name] for name in body.keys() - _KNOWN_FIELDS if body[name] is not None}
