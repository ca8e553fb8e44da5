"""OpenAI embeddings, both directions (API reference, "Embeddings"): vectors as floats or as base64 of little-endian
float32. Beyond OpenAI's fields: `truncate` and `task`, see `EmbeddingRequest`.
"""

import sys
from array import array
from base64 import b64decode, b64encode
from typing import Any, Literal

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest, Usage
from llama_stack.errors import InvalidRequest, ProviderFailed
from llama_stack.wire.openai_answer import decode_usage
from llama_stack.wire.openai_errors import raise_error_in_answer
from llama_stack.wire.validation import OpenBody, invalid_request

EncodingFormat = Literal["float", "base64"]


class EmbeddingBody(OpenBody):
    """Body of POST /v1/embeddings. Fields it does not name go to the model's provider as they are."""

    model: str = Field(min_length=1)
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: EncodingFormat | None = None
    dimensions: int | None = None
    truncate: Literal["refuse", "end", "start"] | None = None
    task: Literal["query", "document"] | None = None
    user: str | None = None


def decode_embedding_call(body: object) -> tuple[EmbeddingRequest, EncodingFormat]:
    """The request, and the form its vectors shall have. Raises InvalidRequest naming the wrong field."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        parsed = EmbeddingBody.model_validate(body)
        request = EmbeddingRequest(
            model=parsed.model,
            inputs=_inputs(parsed.input),
            dimensions=parsed.dimensions,
            truncate=parsed.truncate or "refuse",
            task=parsed.task,
            user=parsed.user,
            extra=parsed.unknown(),
        )
    except ValidationError as error:
        raise invalid_request(error, body) from None
    return request, parsed.encoding_format or "float"


def _inputs(given: str | list[str] | list[int] | list[list[int]]) -> Any:
    if isinstance(given, str):
        return [given]
    if not given:
        raise InvalidRequest("input: must not be an empty list", param="input")
    if isinstance(given[0], int):
        return [given]
    for position, tokens in enumerate(given):
        if tokens == []:
            raise InvalidRequest(f"input.{position}: must hold at least one token", param=f"input.{position}")
    return given


def encode_embedding_request(request: EmbeddingRequest, encoding_format: EncodingFormat = "base64") -> JsonObject:
    """encoding_format: base64 is a third of the bytes and of the work; a few partners know floats only."""
    body: JsonObject = {
        **request.extra,
        "model": request.model,
        "input": request.inputs,
        "encoding_format": encoding_format,
    }
    if request.truncate != "refuse":
        body["truncate"] = request.truncate
    for name in ("dimensions", "task", "user"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    return body


def encode_embeddings(answer: EmbeddingAnswer, model: str, encoding_format: EncodingFormat) -> JsonObject:
    """`truncated` is ours: positions of the inputs that were cut; absent when there are none."""
    encode = _encode_base64 if encoding_format == "base64" else list
    usage = answer.usage
    body: JsonObject = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": encode(vector)}
            for index, vector in enumerate(answer.vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens},
    }
    if answer.truncated:
        body["truncated"] = answer.truncated
    return body


def decode_embeddings(body: object, *, expected: int) -> EmbeddingAnswer:
    """expected: how many vectors were asked for. Raises ProviderFailed for anything else."""
    if isinstance(body, dict) and body.get("error"):
        raise_error_in_answer(body["error"])
    try:
        items: list[Any] = body["data"]  # type: ignore[index]  # whatever it is, a wrong shape is caught below
        vectors = [_decode_vector(item["embedding"]) for item in sorted(items, key=lambda item: item["index"])]
        truncated = body.get("truncated") or []  # type: ignore[attr-defined]
        usage = decode_usage(body.get("usage")) or Usage()  # type: ignore[attr-defined]
        answer = EmbeddingAnswer(vectors=vectors, truncated=truncated, usage=usage)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProviderFailed("the upstream's embeddings are not in OpenAI's shape") from error
    if len(vectors) != expected:
        raise ProviderFailed(f"the upstream sent {len(vectors)} embeddings for {expected} inputs")
    return answer


def _encode_base64(vector: list[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode("ascii")


def _decode_vector(sent: Any) -> list[float]:
    if not isinstance(sent, str):
        if not isinstance(sent, list) or not sent:
            raise TypeError("a vector is a list of numbers")
        return sent
    numbers = array("f")
    numbers.frombytes(b64decode(sent, validate=True))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
