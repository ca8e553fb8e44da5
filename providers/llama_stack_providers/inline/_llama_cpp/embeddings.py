"""Texts to vectors, and documents in order of relevance."""

import base64
import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from llama_stack.api.inference import (
    EmbeddingAnswer,
    EmbeddingRequest,
    RankedDocument,
    RerankAnswer,
    RerankRequest,
    Usage,
)
from llama_stack.errors import ContextOverflow, InvalidRequest, UnsupportedParameter
from llama_stack_providers.inline._llama_cpp.engine import Engine, utf8_length

INPUTS_A_CALL = 16
BYTES_A_CALL = 4096
"""One exchange with the worker has no more inputs, and no more text unless one alone has: what comes next waits for
it. On one core, 4,096 bytes are about half a second, and smaller parts make no more vectors a second.
"""
QUESTION, SHORT = -2, -1
"""Before the parts of long requests: a query, and a request that is one part."""

BYTES_A_TOKEN = 4

ADDED_TOKENS = 2
"""Begin and end tokens a model may put around an input."""

_HANGUL = re.compile("[\uac00-\ud7a3]+")


@dataclass(frozen=True)
class _Input:
    """Something to embed: a text known to fit, or token ids."""

    content: str | list[int]
    truncated: bool = False

    @property
    def size(self) -> int:
        """Bytes, or what so many tokens are about."""
        return len(self.content.encode()) if isinstance(self.content, str) else len(self.content) * BYTES_A_TOKEN


async def embed(engine: Engine, request: EmbeddingRequest) -> EmbeddingAnswer:
    """Raises ContextOverflow, with the numbers, for an input over the window when `truncate` is "refuse"."""
    if request.extra:
        raise UnsupportedParameter(f"embeddings take no {next(iter(request.extra))!r}", param=next(iter(request.extra)))
    if request.dimensions not in (None, engine.header.width):
        raise UnsupportedParameter(
            f"model {engine.model!r} makes vectors of {engine.header.width} numbers and cannot shorten them",
            param="dimensions",
        )
    inputs = [await _prepared(engine, request, position) for position in range(len(request.inputs))]
    parts = _parts(inputs)
    is_question = request.task == "query" and len(parts) == 1
    vectors: list[list[float]] = []
    usage = Usage()
    for number, part in enumerate(parts):
        # Of long requests, the one that has had least goes on: none waits for the whole of another.
        precedence = QUESTION if is_question else SHORT if len(parts) == 1 else number
        async with engine.turn(precedence, is_bulk=not is_question):
            made, tokens = await _vectors(engine, part)
        vectors.extend(made)
        usage.input_tokens += tokens
    truncated = [position for position, one in enumerate(inputs) if one.truncated]
    return EmbeddingAnswer(vectors=vectors, usage=usage, truncated=truncated)


def _parts(inputs: Sequence[_Input]) -> list[list[_Input]]:
    parts: list[list[_Input]] = []
    room = 0
    for one in inputs:
        if not parts or room < one.size or len(parts[-1]) == INPUTS_A_CALL:
            parts.append([])
            room = BYTES_A_CALL
        parts[-1].append(one)
        room -= one.size
    return parts


async def _vectors(engine: Engine, inputs: list[_Input]) -> tuple[list[list[float]], int]:
    """The caller holds a turn."""
    body = {"input": [one.content for one in inputs], "encoding_format": "base64"}
    answer = await engine.work("/v1/embeddings", body)
    rows = sorted(answer["data"], key=lambda row: row["index"])
    vectors = [array("f", base64.b64decode(row["embedding"])).tolist() for row in rows]
    return vectors, int(answer["usage"]["prompt_tokens"])


async def _prepared(engine: Engine, request: EmbeddingRequest, position: int) -> _Input:
    given = request.inputs[position]
    if isinstance(given, str):
        prefix = {"query": engine.settings.query_prefix, "document": engine.settings.document_prefix}
        text = as_tokenized(engine, prefix.get(request.task or "", "") + given)
        if utf8_length(text, "input") + ADDED_TOKENS <= engine.window:
            return _Input(text)  # a token is at least one byte
        tokens = await engine.tokens_of(text, special=True, parse_special=False)
        if len(tokens) <= engine.window:
            return _Input(tokens)
        plain = await engine.tokens_of(text, special=False, parse_special=False)
    else:
        tokens = plain = _checked_tokens(engine, given, position)
        if len(tokens) <= engine.window:
            return _Input(tokens)
    if request.truncate == "refuse":
        raise ContextOverflow(
            f"input {position} has {len(tokens)} tokens; model {engine.model!r} takes {engine.window}. Split it, or "
            'set truncate to "end" or "start"',
            param="input",
        )
    return _Input(_cut(tokens, plain, engine.window, keep_end=request.truncate == "start"), truncated=True)


def as_tokenized(engine: Engine, text: str) -> str:
    """BERT's tokenizer reads Korean syllables as their letters (Unicode NFD); llama.cpp's takes them for unknown."""
    if engine.header.values.get("tokenizer.ggml.model") != "bert":
        return text
    return _HANGUL.sub(lambda syllables: unicodedata.normalize("NFD", syllables[0]), text)


def _cut(tokens: list[int], plain: list[int], window: int, *, keep_end: bool) -> list[int]:
    """The first or last tokens that fit: of a text, between the begin and end tokens it had."""
    added = len(tokens) - len(plain)
    begin = next((at for at in range(added + 1) if tokens[at : at + len(plain)] == plain), 0)
    room = window - added
    kept = plain[len(plain) - room :] if keep_end else plain[:room]
    return tokens[:begin] + kept + tokens[begin + len(plain) :]


def _checked_tokens(engine: Engine, tokens: list[int], position: int) -> list[int]:
    vocabulary = len(engine.header.tokens)
    if not tokens:
        raise InvalidRequest(f"input {position} holds no tokens", param="input")
    wrong = next((token for token in tokens if not 0 <= token < vocabulary), None)
    if wrong is not None:
        raise InvalidRequest(f"input {position}: {wrong} is no token id; ids go up to {vocabulary - 1}", param="input")
    return tokens


async def rerank(engine: Engine, request: RerankRequest) -> RerankAnswer:
    if request.extra:
        raise UnsupportedParameter(f"reranking takes no {next(iter(request.extra))!r}", param=next(iter(request.extra)))
    if not request.documents:
        return RerankAnswer(results=[])
    async with engine.turn(QUESTION):
        answer = await engine.work("/v1/rerank", {"query": request.query, "documents": request.documents})
    ranked = [RankedDocument(index=row["index"], score=row["relevance_score"]) for row in answer["results"]]
    ranked.sort(key=lambda document: (-document.score, document.index))
    usage = Usage(input_tokens=int(answer.get("usage", {}).get("prompt_tokens", 0)))
    return RerankAnswer(results=ranked[: request.top_n], usage=usage)
