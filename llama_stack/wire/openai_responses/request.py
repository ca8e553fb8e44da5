"""The body of POST /v1/responses (API reference, "Create a model response") and of the calls that share its fields."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    JsonObjectFormat,
    JsonSchemaFormat,
    ReasoningEffort,
    ResponseFormat,
    TextFormat,
)
from llama_stack.api.responses import LEAST_THRESHOLD_TOKENS, Compaction, Moderation, ResponseRequest
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.json_schemas import checked_schema
from llama_stack.wire.openai_body import JsonObjectFormatBody, TextFormatBody, refuse_unsupported
from llama_stack.wire.openai_responses.items import read_items
from llama_stack.wire.openai_responses.tools import read_tool_choice, read_tools
from llama_stack.wire.validation import Body, OpenBody, invalid_request

_COUNTED = frozenset(
    {
        "conversation",
        "input",
        "instructions",
        "model",
        "parallel_tool_calls",
        "previous_response_id",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "truncation",
    }
)
_COMPACTED = frozenset({"input", "instructions", "model", "previous_response_id", "prompt_cache_key", "service_tier"})

MAX_METADATA = 16
"""Pairs; a name has at most 64 characters, a value 512 (API reference, "metadata")."""

Includable = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class JsonSchemaFormatBody(Body):
    """As in chat completions, but without the object around the schema."""

    type: Literal["json_schema"]
    name: str = Field(min_length=1)
    schema_: JsonObject = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


FormatBody = Annotated[TextFormatBody | JsonObjectFormatBody | JsonSchemaFormatBody, Field(discriminator="type")]


class TextBody(Body):
    format: FormatBody | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningBody(OpenBody):
    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ConversationBody(Body):
    id: str = Field(min_length=1)


class ContextManagementBody(Body):
    type: Literal["compaction"]
    compact_threshold: int | None = Field(None, ge=LEAST_THRESHOLD_TOKENS)


class ModerationModeBody(Body):
    mode: Literal["score", "block"]


class ModerationPolicyBody(Body):
    input: ModerationModeBody | None = None
    output: ModerationModeBody | None = None


class ResponseModerationBody(Body):
    """model: the id of a shield, as in POST /v1/moderations."""

    model: str = Field(min_length=1)
    policy: ModerationPolicyBody | None = None


class ResponseStreamOptionsBody(Body):
    include_obfuscation: bool | None = None


class InputBody(OpenBody):
    """What all calls that take a response's input have in common. `input` and `tools` are read on their own."""

    model: str = Field(min_length=1)
    input: Any = None
    instructions: str | None = None
    previous_response_id: str | None = Field(None, min_length=1)


class ResponseBody(InputBody):
    """Body of POST /v1/responses. `max_infer_iters` is ours: how often the model is asked at most."""

    conversation: str | ConversationBody | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    text: TextBody | None = None
    reasoning: ReasoningBody | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    max_infer_iters: int | None = None
    truncation: Literal["auto", "disabled"] | None = None
    moderation: ResponseModerationBody | None = None
    context_management: list[ContextManagementBody] | None = Field(None, max_length=1)
    include: list[Includable] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptionsBody | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


_UNSUPPORTED: dict[str, tuple[tuple[object, ...], str]] = {
    "prompt": ((), "templates of that platform are not kept here; send instructions and input"),
    "service_tier": (("auto", "default"), "there is one tier; leave it out"),
    "image": (({}, {"context_compression": "auto"}, {"context_compression": "disabled"}), "leave it out"),
    "access_programs": ((), "leave it out"),
    "prompt_cache_options": (({}, {"mode": "implicit"}), "caching is up to the model's provider; leave it out"),
    "prompt_cache_retention": (("in_memory",), "caching is up to the model's provider; leave it out"),
    "personality": ((), "say it in the instructions"),
}

_REASONING_UNSUPPORTED: dict[str, tuple[tuple[object, ...], str]] = {
    "reasoning.context": (("auto", "all_turns"), "earlier reasoning is always part of the conversation; leave it out"),
    "reasoning.mode": (("standard",), "leave it out"),
}


def decode_response_request(body: object, *, generate: bool = True) -> tuple[ResponseRequest, bool]:
    """What is asked, and whether the answer shall be streamed.

    generate: False for a request that only prepares the next one; it needs no input.

    Raises InvalidRequest naming the wrong field, and UnsupportedParameter for what would otherwise be ignored.
    """
    parsed, raw = _parsed(body)
    tools, repeated_tools, headers = read_tools(parsed.tools or [])
    conversation = parsed.conversation
    conversation_id = conversation.id if isinstance(conversation, ConversationBody) else conversation
    if conversation_id is not None and parsed.previous_response_id is not None:
        raise InvalidRequest(
            "conversation: cannot be used with previous_response_id; send one of them", param="conversation"
        )
    if parsed.background and parsed.store is False:
        raise InvalidRequest("background: needs the response to be stored; leave store out", param="background")
    read_metadata(parsed.metadata)
    items = [] if parsed.input is None else read_items(parsed.input)
    if generate and not items and parsed.previous_response_id is None and conversation_id is None:
        raise _nothing_to_read()
    try:
        request = ResponseRequest(
            model=parsed.model,
            input=items,
            instructions=parsed.instructions or "",
            previous_response_id=parsed.previous_response_id,
            conversation=conversation_id,
            tools=tools,
            tool_choice=read_tool_choice(parsed.tool_choice, tools),
            parallel_tool_calls=parsed.parallel_tool_calls,
            response_format=_decode_format(parsed.text),
            verbosity=parsed.text.verbosity if parsed.text is not None else None,
            reasoning_effort=parsed.reasoning.effort if parsed.reasoning is not None else None,
            reasoning_summary=_wants_summary(parsed.reasoning),
            temperature=parsed.temperature,
            top_p=parsed.top_p,
            top_logprobs=_logprobs(parsed),
            max_output_tokens=parsed.max_output_tokens,
            max_tool_calls=parsed.max_tool_calls,
            max_infer_iters=parsed.max_infer_iters,
            truncation=parsed.truncation or "disabled",
            compaction=_decode_compaction(parsed.context_management),
            moderation=_decode_moderation(parsed.moderation),
            include=parsed.include or [],
            store=parsed.store is not False,
            background=bool(parsed.background),
            generate=generate,
            obfuscates=_obfuscates(parsed),
            shown=_shown(parsed, raw, repeated_tools),
            mcp_headers=headers,
        )
    except ValidationError as error:
        raise invalid_request(error, raw) from None
    return request, bool(parsed.stream)


def decode_count_request(body: object) -> ResponseRequest:
    """The body of POST /v1/responses/input_tokens: the fields of a response that the model reads."""
    request = _decoded_part(body, _COUNTED, {"personality"}, needs_input=False)
    if not (request.input or request.instructions or request.previous_response_id or request.conversation):
        raise _nothing_to_read()
    return request


def decode_compact_request(body: object) -> ResponseRequest:
    """The body of POST /v1/responses/compact."""
    unsupported = {"image", "prompt_cache_options", "prompt_cache_retention"}
    return _decoded_part(body, _COMPACTED, unsupported)


def _decoded_part(
    body: object, names: frozenset[str], unsupported: set[str], *, needs_input: bool = True
) -> ResponseRequest:
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    for name, value in body.items():
        if name not in names and name not in unsupported and value is not None:
            raise InvalidRequest(f"{name}: is not a known field; remove it", param=name)
    return decode_response_request(body, generate=needs_input)[0]


def _nothing_to_read() -> InvalidRequest:
    return InvalidRequest("input: is required", param="input")


def _parsed(body: object) -> tuple[ResponseBody, JsonObject]:
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        parsed = ResponseBody.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from None
    extra = refuse_unsupported(parsed.unknown(), _UNSUPPORTED)
    for name in extra:
        raise InvalidRequest(f"{name}: is not a known field; remove it", param=name)
    if parsed.reasoning is not None:
        given = {f"reasoning.{name}": value for name, value in parsed.reasoning.unknown().items()}
        left = refuse_unsupported(given, _REASONING_UNSUPPORTED)
        for name in left:
            raise InvalidRequest(f"{name}: is not a known field; remove it", param=name)
    return parsed, body


def _logprobs(parsed: ResponseBody) -> int | None:
    """Either field asks for log probabilities; a `top_logprobs` of 0 alone does not."""
    is_included = "message.output_text.logprobs" in (parsed.include or ())
    return parsed.top_logprobs or 0 if is_included else parsed.top_logprobs or None


def _wants_summary(reasoning: ReasoningBody | None) -> bool:
    """A model's reasoning is never shortened by us, so the one summary there can be is the whole."""
    wanted = None if reasoning is None else reasoning.summary or reasoning.generate_summary
    if wanted == "concise":
        raise UnsupportedParameter(
            'reasoning.summary: reasoning is given whole; send "auto" or "detailed", or leave it out',
            param="reasoning.summary",
        )
    return wanted is not None


def _obfuscates(parsed: ResponseBody) -> bool:
    options = parsed.stream_options
    if options is None or not options.include_obfuscation:
        return False
    if not parsed.stream:
        field = "stream_options.include_obfuscation"
        raise InvalidRequest(f"{field}: is for streams; send stream: true with it", param=field)
    return True


def _decode_compaction(entries: list[ContextManagementBody] | None) -> Compaction | None:
    return Compaction(threshold_tokens=entries[0].compact_threshold) if entries else None


def _decode_moderation(wanted: ResponseModerationBody | None) -> Moderation | None:
    if wanted is None:
        return None
    policy = wanted.policy or ModerationPolicyBody()
    return Moderation(
        shield=wanted.model,
        blocks_input=policy.input is not None and policy.input.mode == "block",
        blocks_output=policy.output is not None and policy.output.mode == "block",
    )


def _decode_format(text: TextBody | None) -> ResponseFormat:
    match None if text is None else text.format:
        case JsonObjectFormatBody():
            return JsonObjectFormat()
        case JsonSchemaFormatBody() as wanted:
            schema = checked_schema(wanted.schema_, "text.format.schema")
            return JsonSchemaFormat(
                name=wanted.name, json_schema=schema, description=wanted.description, strict=wanted.strict
            )
        case _:
            return TextFormat()


def read_include(names: list[str]) -> list[str]:
    """What is asked for as a query. Raises InvalidRequest for what cannot be included."""
    known = get_args(Includable)
    for name in names:
        if name not in known:
            raise InvalidRequest(f"include: must be among {', '.join(known)}, not {name[:50]!r}", param="include")
    return names


def read_metadata(metadata: object) -> dict[str, str]:
    """Metadata within OpenAI's limits. Raises InvalidRequest."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidRequest("metadata: must be an object of texts", param="metadata")
    if len(metadata) > MAX_METADATA:
        raise InvalidRequest(f"metadata: has {len(metadata)} pairs; at most {MAX_METADATA} fit", param="metadata")
    for name, value in metadata.items():
        if len(name) > 64 or len(value) > 512:
            raise InvalidRequest(
                f"metadata.{name[:64]}: a name has at most 64 characters, a value 512", param="metadata"
            )
    return metadata


def _shown(parsed: ResponseBody, raw: JsonObject, tools: list[JsonObject]) -> JsonObject:
    """The request's fields as the response object repeats them."""
    reasoning, text = parsed.reasoning, parsed.text
    format_body = raw["text"]["format"] if text is not None and text.format is not None else {"type": "text"}
    shown: JsonObject = {
        "background": bool(parsed.background),
        "instructions": parsed.instructions,
        "max_output_tokens": parsed.max_output_tokens,
        "max_tool_calls": parsed.max_tool_calls,
        "metadata": parsed.metadata or {},
        "parallel_tool_calls": parsed.parallel_tool_calls is not False,
        "previous_response_id": parsed.previous_response_id,
        "prompt_cache_key": parsed.prompt_cache_key,
        "prompt_cache_retention": raw.get("prompt_cache_retention"),
        "reasoning": {
            "effort": None if reasoning is None else reasoning.effort,
            "summary": None if reasoning is None else reasoning.summary or reasoning.generate_summary,
        },
        "safety_identifier": parsed.safety_identifier,
        "service_tier": "default",
        "store": parsed.store is not False,
        "temperature": parsed.temperature,
        "text": {"format": format_body, "verbosity": (text.verbosity if text is not None else None) or "medium"},
        "tool_choice": "auto" if parsed.tool_choice is None else parsed.tool_choice,
        "tools": tools,
        "top_logprobs": parsed.top_logprobs or 0,
        "top_p": parsed.top_p,
        "truncation": parsed.truncation or "disabled",
        "user": parsed.user,
    }
    if parsed.conversation is not None:
        conversation = parsed.conversation
        shown["conversation"] = {"id": conversation if isinstance(conversation, str) else conversation.id}
    return shown
