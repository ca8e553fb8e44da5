"""OpenAI completions, the raw continuation of a text, both directions (API reference, "Completions").

One call may hold several prompts; inside there is one prompt a request. Choice numbers on the wire count through all
prompts: prompt p, answer k of n is choice p * n + k.
"""

from typing import Any

import orjson
from pydantic import ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    ChatAnswer,
    ChatChoice,
    ChatEnd,
    ChatEvent,
    ChoiceEnd,
    CompletionRequest,
    TextDelta,
    TokenLogprob,
    Usage,
)
from llama_stack.api.messages import text_of
from llama_stack.errors import InvalidRequest, ProviderFailed
from llama_stack.wire.openai_answer import (
    LEAST_LOGPROB,
    AnswerHead,
    decode_logprobs,
    decode_usage,
    encode_usage,
    finish_reason_of,
    response_fields,
)
from llama_stack.wire.openai_body import (
    GenerationBody,
    StreamWish,
    decode_response_format,
    decode_sampling,
    decode_stream_wish,
    encode_response_format,
    encode_sampling,
    refuse_unsupported,
)
from llama_stack.wire.openai_chat_stream import DONE_FRAME
from llama_stack.wire.openai_errors import raise_error_in_answer
from llama_stack.wire.validation import invalid_request

MAX_PROMPTS = 128


class CompletionBody(GenerationBody):
    """Body of POST /v1/completions. Fields it does not name go to the model's provider as they are."""

    prompt: str | list[str] | list[int] | list[list[int]]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = None


def decode_completion_call(body: object) -> tuple[list[CompletionRequest], StreamWish]:
    """One request for each prompt. Raises InvalidRequest and UnsupportedParameter as the chat decoder does."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        parsed = CompletionBody.model_validate(body)
        wish = decode_stream_wish(parsed)
        n = 1 if parsed.n is None else parsed.n
        best_of = {"best_of": ((n,), "set it equal to n, or leave it out")}
        common: JsonObject = {
            "model": parsed.model,
            "suffix": parsed.suffix,
            "echo": bool(parsed.echo),
            "response_format": decode_response_format(parsed.response_format),
            "sampling": decode_sampling(parsed),
            "n": n,
            "logprobs": parsed.logprobs,
            "user": parsed.user,
            "whole": not wish.stream,
            "extra": refuse_unsupported(parsed.unknown(), best_of),
        }
        requests = [CompletionRequest(prompt=prompt, **common) for prompt in _prompts(parsed.prompt)]
    except ValidationError as error:
        raise invalid_request(error, body) from None
    return requests, wish


def _prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> list[Any]:
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise InvalidRequest("prompt: must not be an empty list", param="prompt")
    if isinstance(prompt[0], int):
        return [prompt]
    if len(prompt) > MAX_PROMPTS:
        raise InvalidRequest(f"prompt: at most {MAX_PROMPTS} prompts a call, not {len(prompt)}", param="prompt")
    return list(prompt)


def encode_completion_request(request: CompletionRequest, *, stream: bool = True) -> JsonObject:
    body: JsonObject = {**request.extra, "model": request.model, "prompt": request.prompt}
    body.update(encode_sampling(request.sampling))
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if request.echo:
        body["echo"] = True
    if request.n != 1:
        body["n"] = request.n
    if (response_format := encode_response_format(request.response_format)) is not None:
        body["response_format"] = response_format
    for name in ("suffix", "logprobs", "user"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    return body


def encode_completion(answers: list[ChatAnswer], head: AnswerHead) -> JsonObject:
    """The answers to all prompts of one call, in their order, as one body."""
    choices = [choice for answer in answers for choice in answer.choices]
    return {
        "system_fingerprint": None,
        **(answers[0].extra if len(answers) == 1 else {}),
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [_encode_choice(choice, index) for index, choice in enumerate(choices)],
        "usage": encode_usage(_sum(answer.usage for answer in answers)),
    }


def _encode_choice(choice: ChatChoice, index: int) -> JsonObject:
    body: JsonObject = {
        "text": text_of(choice.message.content),
        "index": index,
        "logprobs": None if choice.logprobs is None else _encode_logprobs(choice.logprobs, 0),
        "finish_reason": choice.finish_reason,
    }
    if choice.stop_sequence is not None:
        body["stop_reason"] = choice.stop_sequence
    return body


def _encode_logprobs(logprobs: list[TokenLogprob], offset: int) -> JsonObject:
    """offset: characters of the choice's text before these tokens."""
    offsets: list[int] = []
    for token in logprobs:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in logprobs],
        "token_logprobs": [max(token.logprob, LEAST_LOGPROB) for token in logprobs],
        "top_logprobs": [{other.token: max(other.logprob, LEAST_LOGPROB) for other in token.top} for token in logprobs],
        "text_offset": offsets,
    }


def _sum(usages: Any) -> Usage:
    total = Usage()
    for usage in usages:
        if usage is not None:
            total = Usage(
                input_tokens=total.input_tokens + usage.input_tokens,
                output_tokens=total.output_tokens + usage.output_tokens,
                cached_input_tokens=_added(total.cached_input_tokens, usage.cached_input_tokens),
                reasoning_tokens=_added(total.reasoning_tokens, usage.reasoning_tokens),
            )
    return total


def _added(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)


class CompletionChunkEncoder:
    """Writes the events of all prompts of one call as frames; `[DONE]` follows the last ChatEnd.

    n: answers a prompt. prompts: how many ChatEnds to wait for.
    """

    def __init__(self, head: AnswerHead, *, n: int = 1, prompts: int = 1, include_usage: bool = False) -> None:
        self._head: JsonObject = {
            "id": head.id,
            "object": "text_completion",
            "created": head.created,
            "model": head.model,
            "system_fingerprint": None,
        }
        self._n = n
        self._open_prompts = prompts
        self._include_usage = include_usage
        self._usages: list[Usage | None] = []
        self._offsets: dict[int, int] = {}

    def encode(self, event: ChatEvent, prompt: int = 0) -> bytes:
        """prompt: position of the prompt this event answers."""
        match event:
            case TextDelta():
                index = prompt * self._n + event.choice
                offset = self._offsets.get(index, 0)
                self._offsets[index] = offset + len(event.text)
                logprobs = None if event.logprobs is None else _encode_logprobs(event.logprobs, offset)
                return self._frame(index, text=event.text, logprobs=logprobs)
            case ChoiceEnd():
                return self._frame(
                    prompt * self._n + event.choice,
                    finish_reason=event.finish_reason,
                    stop_sequence=event.stop_sequence,
                )
            case ChatEnd():
                return self._end(event)
            case _:
                return b""

    def _end(self, event: ChatEnd) -> bytes:
        self._usages.append(event.usage)
        self._open_prompts -= 1
        if self._open_prompts:
            return b""
        if not self._include_usage:
            return DONE_FRAME
        return _frame_of({**self._head, "choices": [], "usage": encode_usage(_sum(self._usages))}) + DONE_FRAME

    def _frame(
        self,
        index: int,
        *,
        text: str = "",
        logprobs: JsonObject | None = None,
        finish_reason: str | None = None,
        stop_sequence: str | None = None,
    ) -> bytes:
        choice: JsonObject = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
        if stop_sequence is not None:
            choice["stop_reason"] = stop_sequence
        usage: JsonObject = {"usage": None} if self._include_usage else {}
        return _frame_of({**self._head, "choices": [choice], **usage})


def _frame_of(body: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


class CompletionChunkDecoder:
    """Reads an upstream's completion chunks, or a whole completion as one chunk; `end` closes what is open."""

    def __init__(self) -> None:
        self._ends: dict[int, ChoiceEnd | None] = {}
        self._end = ChatEnd()

    def feed(self, chunk: object) -> list[ChatEvent]:
        """Raises ProviderFailed for an error inside the stream, or for what is no chunk at all."""
        if not isinstance(chunk, dict):
            raise ProviderFailed(f"the upstream sent {type(chunk).__name__} where a completion chunk was expected")
        if chunk.get("error"):
            raise_error_in_answer(chunk["error"])
        self._end.extra.update(response_fields(chunk))
        self._end.model = self._end.model or chunk.get("model")
        events: list[ChatEvent] = []
        try:
            self._end.usage = decode_usage(chunk.get("usage")) or self._end.usage
            for position, choice in enumerate(chunk.get("choices") or ()):
                self._feed_choice(choice, choice.get("index", position), events)
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise ProviderFailed("the upstream sent a chunk that is not in OpenAI's shape") from error
        return events

    def _feed_choice(self, choice: JsonObject, number: int, events: list[ChatEvent]) -> None:
        self._ends.setdefault(number, None)
        logprobs = _decode_logprobs(choice.get("logprobs"))
        if choice.get("text") or logprobs:
            events.append(TextDelta(text=choice.get("text") or "", choice=number, logprobs=logprobs))
        if reason := choice.get("finish_reason"):
            stop = choice.get("stop_reason")
            self._ends[number] = ChoiceEnd(
                finish_reason=finish_reason_of(reason),
                choice=number,
                stop_sequence=stop if isinstance(stop, str) else None,
            )

    def end(self, *, complete: bool = False) -> list[ChatEvent]:
        """As `ChatChunkDecoder.end`."""
        if not self._ends:
            raise ProviderFailed("the upstream's answer ended without any choice")
        if not complete and None in self._ends.values():
            raise ProviderFailed("the upstream's answer broke off before it was finished")
        ends = [end or ChoiceEnd(finish_reason="stop", choice=number) for number, end in sorted(self._ends.items())]
        return [*ends, self._end]


def _decode_logprobs(body: Any) -> list[TokenLogprob] | None:
    if not isinstance(body, dict):
        return None
    if "content" in body:
        # llama.cpp answers completions with chat's form of log probabilities.
        return decode_logprobs(body)
    tokens = body.get("tokens") or []
    values = body.get("token_logprobs") or []
    tops = body.get("top_logprobs") or [None] * len(tokens)
    # The first token of an echoed prompt has no probability: nothing stands before it.
    return [
        TokenLogprob(
            token=token,
            logprob=value or 0.0,
            top=[TokenLogprob(token=other, logprob=its) for other, its in (top or {}).items()],
        )
        for token, value, top in zip(tokens, values, tops, strict=True)
    ] or None
