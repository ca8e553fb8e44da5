"""Continuing a prompt: the raw generation under chat and completion.

Wire: llama.cpp's `POST /completion` (README of its server tool). Its streamed frames carry `index`, `content` and
`completion_probabilities`; the last frame of each choice carries `stop_type` ("eos", "word" or "limit").
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from llama_stack.api.inference import TokenLogprob, Usage
from llama_stack.errors import ProviderFailed
from llama_stack_providers.inline._llama_cpp.engine import Engine, Frame, utf8_length

Prompt = str | Sequence[int | str]
"""Text; or token ids and texts mixed, each text tokenised on its own."""

# Without this the last frame repeats the prompt and every setting.
_LAST_FRAME = ["index", "content", "stop_type", "stopping_word", "tokens_predicted", "tokens_evaluated",
               "completion_probabilities", "timings/cache_n"]  # fmt: skip
_ADDED_TOKENS = 16
"""A prompt's tokens are at most its bytes and these few the model adds."""


@dataclass(frozen=True)
class Generation:
    """What to generate. `fields`: llama.cpp's further fields (sampling, grammar, ...)."""

    prompt: Prompt
    max_tokens: int | None
    n: int = 1
    top_logprobs: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    param: str = "messages"


@dataclass(slots=True)
class Piece:
    """More of one choice. Its last piece has a `stop_type`."""

    choice: int
    text: str
    logprobs: list[TokenLogprob] | None = None
    stop_type: str | None = None
    stop_sequence: str | None = None


class Tally:
    """Counts the tokens of all choices; a shared prompt counts once."""

    def __init__(self) -> None:
        self.usage = Usage()

    def add(self, frame: Frame) -> None:
        usage = self.usage
        usage.input_tokens = max(usage.input_tokens, int(frame.get("tokens_evaluated", 0)))
        usage.output_tokens += int(frame.get("tokens_predicted", 0))
        cached = int(frame.get("timings/cache_n", 0))
        usage.cached_input_tokens = cached if usage.cached_input_tokens is None else usage.cached_input_tokens


async def generate(engine: Engine, wanted: Generation, tally: Tally) -> AsyncGenerator[Piece, None]:
    """Pieces of all choices as they are made; `tally` is complete at the end. Closing it frees the slots.

    Raises ContextOverflow with the numbers, RateLimited, or what the engine fails with.
    """
    await check_room(engine, wanted)
    for first in range(0, wanted.n, engine.slots):
        together = min(engine.slots, wanted.n - first)
        async with engine.turn(), aclosing(engine.frames("/completion", _body(wanted, first, together))) as frames:
            unfinished = together
            async for frame in frames:
                piece = _piece(frame, first)
                if wanted.top_logprobs is not None:
                    piece.logprobs = _logprobs(engine, frame, wanted.top_logprobs)
                if piece.stop_type is not None:
                    unfinished -= 1
                    tally.add(frame)
                yield piece
            if unfinished:
                raise await engine.worker.failure()


def _body(wanted: Generation, first: int, together: int) -> Frame:
    body: Frame = {**wanted.fields, "prompt": wanted.prompt, "stream": True, "response_fields": _LAST_FRAME}
    body["n_predict"] = -1 if wanted.max_tokens is None else wanted.max_tokens
    if together > 1:
        body["n_cmpl"] = together
    if first and "seed" in body:
        body["seed"] += first
    if wanted.top_logprobs is not None:
        body["n_probs"] = max(1, wanted.top_logprobs)
    return body


def _piece(frame: Frame, first: int) -> Piece:
    try:
        piece = Piece(first + frame["index"], frame["content"])
    except KeyError as error:
        raise ProviderFailed(f"the engine sent a frame without {error}") from error
    stop_type = frame.get("stop_type")
    if stop_type is not None:
        piece.stop_type = stop_type
        piece.stop_sequence = frame.get("stopping_word") or None
    return piece


def _logprobs(engine: Engine, frame: Frame, top: int) -> list[TokenLogprob]:
    """Probabilities of the frame's text; the token that ends an answer is none of it."""
    return [
        TokenLogprob(
            token=entry["token"],
            logprob=entry["logprob"],
            bytes=entry["bytes"],
            top=[
                # llama.cpp names no special tokens, but they are what might have come instead.
                TokenLogprob(
                    token=other["token"] or engine.header.tokens[other["id"]],
                    logprob=other["logprob"],
                    bytes=other["bytes"] or None,
                )
                for other in entry["top_logprobs"][:top]
            ],
        )
        for entry in frame.get("completion_probabilities") or ()
        if entry["bytes"]
    ]


async def check_room(engine: Engine, wanted: Generation) -> None:
    """Refuse an answer that may not fit the window; counts tokens only where the prompt's bytes leave a doubt.

    Without max_tokens the answer ends where the window does, with finish reason "length"; a prompt that fills the
    window by itself is refused by the engine, which counts it anyway.
    """
    most_tokens = _most_tokens(wanted)
    # Counting takes time that grows faster than the text: what cannot fit by its length alone is not counted.
    fewest = most_tokens // engine.header.longest_token_bytes
    if fewest > engine.window:
        raise engine.overflow(fewest, wanted.max_tokens, param=wanted.param)
    if wanted.max_tokens is None or most_tokens + wanted.max_tokens <= engine.window:
        return
    prompt_tokens = await count_tokens(engine, wanted.prompt)
    if prompt_tokens + wanted.max_tokens > engine.window:
        raise engine.overflow(prompt_tokens, wanted.max_tokens, param=wanted.param)


def _most_tokens(wanted: Generation) -> int:
    parts = [wanted.prompt] if isinstance(wanted.prompt, str) else wanted.prompt
    return _ADDED_TOKENS + sum(1 if isinstance(part, int) else utf8_length(part, wanted.param) for part in parts)


async def count_tokens(engine: Engine, prompt: Prompt) -> int:
    """Tokens of the prompt as the engine would read it."""
    if not isinstance(prompt, str) and all(isinstance(part, int) for part in prompt):
        return len(prompt)
    content = prompt if isinstance(prompt, str) else list(prompt)
    return len(await engine.tokens_of(content, special=isinstance(prompt, str)))
