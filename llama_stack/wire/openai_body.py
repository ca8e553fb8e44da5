"""Fields that several OpenAI request bodies share: sampling, response format, stream options (API reference, "Chat"
and "Completions"), and what happens to OpenAI fields this stack cannot honour.

Beyond OpenAI's own, the vendor-neutral sampling fields of vLLM and llama.cpp are accepted under their common names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    GrammarFormat,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponseFormat,
    Sampling,
    TextFormat,
)
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.json_schemas import checked_schema
from llama_stack.wire.validation import Body, OpenBody, invalid_request


class StreamOptionsBody(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class JsonSchemaBody(Body):
    name: str = "response"
    schema_: JsonObject = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormatBody(Body):
    type: Literal["text"]


class JsonObjectFormatBody(Body):
    type: Literal["json_object"]


class JsonSchemaFormatBody(Body):
    type: Literal["json_schema"]
    json_schema: JsonSchemaBody


class GrammarFormatBody(Body):
    """Ours: text the grammar accepts."""

    type: Literal["grammar"]
    grammar: str
    syntax: Literal["gbnf", "lark", "regex"] = "gbnf"


ResponseFormatBody = Annotated[
    TextFormatBody | JsonObjectFormatBody | JsonSchemaFormatBody | GrammarFormatBody, Field(discriminator="type")
]


class GenerationBody(OpenBody):
    """What chat and completion bodies have in common. Null always means "not given"."""

    model: str = Field(min_length=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int | None = None
    logit_bias: dict[str, float] | None = None
    n: int | None = None
    response_format: ResponseFormatBody | None = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    user: str | None = None


_SAMPLING_NAMES = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "seed",
        "min_tokens",
    }
)


def decode_sampling(body: GenerationBody) -> Sampling:
    """Raises InvalidRequest for a value out of its range."""
    sent = _SAMPLING_NAMES & body.model_fields_set
    given: dict[str, Any] = {name: value for name in sent if (value := getattr(body, name)) is not None}
    if body.stop is not None:
        given["stop"] = [body.stop] if isinstance(body.stop, str) else body.stop
    if body.logit_bias:
        given["logit_bias"] = body.logit_bias
    limit_name = "max_tokens" if body.max_tokens is not None else "max_completion_tokens"
    limit = getattr(body, limit_name)
    if body.max_completion_tokens not in (None, limit):
        raise InvalidRequest(
            "max_completion_tokens: differs from max_tokens; send one of them", param="max_completion_tokens"
        )
    if limit is not None:
        given["max_tokens"] = limit
    try:
        return Sampling(**given)
    except ValidationError as error:
        wrong = invalid_request(error, given)
        if wrong.param == "max_tokens" and limit_name != "max_tokens":
            raise InvalidRequest(wrong.message.replace("max_tokens", limit_name, 1), param=limit_name) from None
        raise wrong from None


def encode_sampling(sampling: Sampling, *, max_tokens_name: str = "max_tokens") -> JsonObject:
    """max_tokens_name: some partners know only `max_completion_tokens`."""
    sent = _SAMPLING_NAMES & sampling.model_fields_set
    fields: JsonObject = {name: value for name in sorted(sent) if (value := getattr(sampling, name)) is not None}
    if sampling.stop:
        fields["stop"] = sampling.stop
    if sampling.logit_bias:
        fields["logit_bias"] = sampling.logit_bias
    if sampling.max_tokens is not None:
        fields[max_tokens_name] = sampling.max_tokens
    return fields


def decode_response_format(body: ResponseFormatBody | None) -> ResponseFormat:
    match body:
        case None | TextFormatBody():
            return TextFormat()
        case JsonObjectFormatBody():
            return JsonObjectFormat()
        case JsonSchemaFormatBody(json_schema=wanted):
            schema = checked_schema(wanted.schema_, "response_format.json_schema.schema")
            return JsonSchemaFormat(
                name=wanted.name, json_schema=schema, description=wanted.description, strict=wanted.strict
            )
        case GrammarFormatBody():
            return GrammarFormat(grammar=body.grammar, syntax=body.syntax)


def encode_response_format(wanted: ResponseFormat) -> JsonObject | None:
    """None for plain text, which needs no field."""
    match wanted:
        case TextFormat():
            return None
        case JsonObjectFormat():
            return {"type": "json_object"}
        case JsonSchemaFormat():
            schema: JsonObject = {"name": wanted.name, "schema": wanted.json_schema}
            if wanted.description is not None:
                schema["description"] = wanted.description
            if wanted.strict is not None:
                schema["strict"] = wanted.strict
            return {"type": "json_schema", "json_schema": schema}
        case GrammarFormat():
            return {"type": "grammar", "grammar": wanted.grammar, "syntax": wanted.syntax}


@dataclass(frozen=True)
class StreamWish:
    """How the caller wants the answer delivered. include_usage: end the stream with a chunk that holds the usage."""

    stream: bool = False
    include_usage: bool = False


def decode_stream_wish(body: GenerationBody) -> StreamWish:
    options = body.stream_options
    if options is None:
        return StreamWish(stream=bool(body.stream))
    if not body.stream:
        raise InvalidRequest(
            "stream_options: only allowed when stream is true; remove it or set stream", param="stream_options"
        )
    if options.include_obfuscation:
        raise UnsupportedParameter(
            "stream_options.include_obfuscation: padding of chunks is not supported; leave it out",
            param="stream_options.include_obfuscation",
        )
    return StreamWish(stream=True, include_usage=bool(options.include_usage))


def refuse_unsupported(extra: JsonObject, unsupported: Mapping[str, tuple[tuple[object, ...], str]]) -> JsonObject:
    """`extra` without the fields whose value changes nothing. Raises UnsupportedParameter for a value that would.

    unsupported: field name to (values that mean the default, what to do instead).
    """
    kept: JsonObject = {}
    for name, value in extra.items():
        if name not in unsupported:
            kept[name] = value
            continue
        harmless, remedy = unsupported[name]
        if not any(value == same and type(value) is type(same) for same in harmless):
            raise UnsupportedParameter(f"{name}: not supported; {remedy}", param=name)
    return kept
