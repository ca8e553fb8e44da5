"""Sampling, response format and log probabilities in the classic shape (`SamplingParams`, `ResponseFormat` and
`TokenLogProbs` of `llama-stack-client` 0.2.12).
"""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    GrammarFormat,
    JsonSchemaFormat,
    ResponseFormat,
    Sampling,
    TextFormat,
    TokenLogprob,
)
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.body import ClassicBody
from llama_stack.wire.json_schemas import checked_schema
from llama_stack.wire.openai_answer import LEAST_LOGPROB
from llama_stack.wire.validation import invalid_request


class GreedyBody(ClassicBody):
    type: Literal["greedy"]


class TopPBody(ClassicBody):
    type: Literal["top_p"]
    temperature: float | None = None
    top_p: float | None = None


class TopKBody(ClassicBody):
    type: Literal["top_k"]
    top_k: int


class SamplingBody(ClassicBody):
    """max_tokens: 0 leaves it to the provider. repetition_penalty: 1 is none."""

    strategy: Annotated[GreedyBody | TopPBody | TopKBody, Field(discriminator="type")] | None = None
    max_tokens: int | None = None
    repetition_penalty: float | None = None
    stop: list[str] | None = None


class JsonSchemaFormatBody(ClassicBody):
    type: Literal["json_schema"]
    json_schema: JsonObject


class GrammarFormatBody(ClassicBody):
    """`bnf` was never given a shape: the grammar's text, or an object that has it under `grammar`."""

    type: Literal["grammar"]
    bnf: str | JsonObject


ResponseFormatBody = Annotated[JsonSchemaFormatBody | GrammarFormatBody, Field(discriminator="type")]


class LogprobsBody(ClassicBody):
    """top_k: how many tokens for each position."""

    top_k: int | None = Field(None, ge=0, le=20)


def decode_sampling(body: SamplingBody | None, *, under: str = "sampling_params") -> Sampling:
    """Greedy unless a strategy says otherwise: classic callers count on it. Raises InvalidRequest."""
    body = body or SamplingBody()
    given: dict[str, Any] = {}
    match body.strategy:
        case None | GreedyBody():
            given["temperature"] = 0.0
        case TopPBody(temperature=temperature, top_p=top_p):
            given |= {"temperature": temperature, "top_p": top_p}
        case TopKBody(top_k=top_k):
            given["top_k"] = top_k
    if body.max_tokens:
        given["max_tokens"] = body.max_tokens
    if body.repetition_penalty not in (None, 1.0):
        given["repetition_penalty"] = body.repetition_penalty
    if body.stop:
        given["stop"] = body.stop
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Sampling(**given)
    except ValidationError as error:
        raise invalid_request(error, given, under=under) from None


def encode_sampling(sampling: Sampling) -> JsonObject:
    """What the classic shape has no word for is left out."""
    strategy: JsonObject
    if sampling.top_k is not None:
        strategy = {"type": "top_k", "top_k": sampling.top_k}
    elif sampling.temperature == 0 or (sampling.temperature is None and sampling.top_p is None):
        strategy = {"type": "greedy"}
    else:
        strategy = {"type": "top_p", "temperature": sampling.temperature, "top_p": sampling.top_p}
    return {
        "strategy": strategy,
        "max_tokens": sampling.max_tokens or 0,
        "repetition_penalty": sampling.repetition_penalty or 1.0,
        "stop": sampling.stop or None,
    }


def decode_response_format(body: JsonSchemaFormatBody | GrammarFormatBody | None) -> ResponseFormat:
    match body:
        case None:
            return TextFormat()
        case JsonSchemaFormatBody(json_schema=schema):
            return JsonSchemaFormat(json_schema=checked_schema(schema, "response_format.json_schema"))
        case GrammarFormatBody(bnf=bnf):
            grammar = bnf if isinstance(bnf, str) else bnf.get("grammar")
            if not isinstance(grammar, str):
                raise InvalidRequest(
                    'response_format.bnf: must be {"grammar": "..."} with a grammar in GBNF',
                    param="response_format.bnf",
                )
            return GrammarFormat(grammar=grammar)


def encode_response_format(wanted: ResponseFormat) -> JsonObject | None:
    match wanted:
        case JsonSchemaFormat():
            return {"type": "json_schema", "json_schema": wanted.json_schema}
        case GrammarFormat():
            return {"type": "grammar", "bnf": {"grammar": wanted.grammar}}
        case _:
            return None


def encode_logprobs(logprobs: list[TokenLogprob] | None) -> list[JsonObject] | None:
    """One object for each position: the token that was drawn first, then the alternatives."""
    if logprobs is None:
        return None
    return [
        {
            "logprobs_by_token": {
                candidate.token: max(candidate.logprob, LEAST_LOGPROB) for candidate in (token, *token.top)
            }
        }
        for token in logprobs
    ]
