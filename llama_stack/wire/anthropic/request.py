"""The body of POST /v1/messages and of /v1/messages/count_tokens as a ChatRequest.

A field of Anthropic's that cannot be honoured is refused with its name unless its value is the default; one that is
not Anthropic's is sent on to the model's provider, as on the other routes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    ChatRequest,
    JsonSchemaFormat,
    ReasoningEffort,
    ResponseFormat,
    Sampling,
    TextFormat,
)
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.anthropic.blocks import Block, TextBlock
from llama_stack.wire.anthropic.messages import MessageBody, decode_messages, decode_system
from llama_stack.wire.json_schemas import checked_schema
from llama_stack.wire.openai_body import refuse_unsupported
from llama_stack.wire.validation import Body, OpenBody, invalid_request

LEAST_THINKING_TOKENS = 1024
_EFFORT_BY_BUDGET: tuple[tuple[int, ReasoningEffort], ...] = ((4096, "low"), (16384, "medium"))


class ToolBody(Block):
    """A tool of the caller's own. eager_input_streaming: how its input is delivered, not what it is."""

    name: str = Field(min_length=1)
    input_schema: JsonObject
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    input_examples: list[JsonObject] | None = None
    eager_input_streaming: bool | None = None
    defer_loading: Literal[False] | None = None
    allowed_callers: list[Literal["direct"]] | None = None


class ToolChoiceBody(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingOffBody(Body):
    type: Literal["disabled"]


class ThinkingOnBody(Body):
    type: Literal["enabled"]
    budget_tokens: int = Field(ge=LEAST_THINKING_TOKENS)
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptiveBody(Body):
    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


ThinkingBody = Annotated[ThinkingOffBody | ThinkingOnBody | ThinkingAdaptiveBody, Field(discriminator="type")]


class OutputFormatBody(Body):
    type: Literal["json_schema"]
    schema_: JsonObject = Field(alias="schema")


class OutputConfigBody(Body):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormatBody | None = None


class MetadataBody(Body):
    user_id: str | None = None


class CountTokensBody(OpenBody):
    """Body of POST /v1/messages/count_tokens."""

    model: str = Field(min_length=1)
    messages: list[MessageBody] = Field(min_length=1)
    system: str | list[TextBlock] | None = None
    tools: list[ToolBody] | None = None
    tool_choice: ToolChoiceBody | None = None
    thinking: ThinkingBody | None = None
    output_config: OutputConfigBody | None = None
    cache_control: Any = None


class MessagesBody(CountTokensBody):
    """Body of POST /v1/messages."""

    max_tokens: int = Field(ge=1)
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: MetadataBody | None = None


_UNSUPPORTED: Mapping[str, tuple[tuple[object, ...], str]] = {
    "billing_policy": (({"type": "billing_policy", "bill_to": "self"},), "nothing is billed here; leave it out"),
    "compaction": ((), "send a message that asks for a summary"),
    "container": ((), "there are no containers here"),
    "context_management": (({},), "send the messages that the model is to read"),
    "diagnostics": ((), "leave it out"),
    "fallback_credit_token": ((), "nothing is billed here; leave it out"),
    "fallbacks": (([],), "name the model that is to answer in model"),
    "inference_geo": ((), "there is one place; leave it out"),
    "mcp_servers": (([],), "run the server's tools yourself, or use POST /v1/responses"),
    "output_format": ((), "send output_config.format instead"),
    "service_tier": (("auto", "standard_only"), "there is one tier; leave it out"),
    "speed": (("standard",), "there is one speed; leave it out"),
    "thread": ((), "no conversation is held here; send the whole conversation in messages"),
    "user_profile_id": ((), "send metadata.user_id instead"),
    "workspace_id": ((), "there are no workspaces; leave it out"),
}


BodyT = TypeVar("BodyT", bound=CountTokensBody)


@dataclass(frozen=True)
class MessageWish:
    """How the caller wants the answer. shows_thinking: the model's reasoning was asked for and is to be seen."""

    stream: bool = False
    shows_thinking: bool = False


def decode_messages_call(body: object) -> tuple[ChatRequest, MessageWish]:
    """Raises InvalidRequest naming the wrong field, UnsupportedParameter for what would otherwise be ignored."""
    parsed = _parsed(MessagesBody, body)
    given = {
        "temperature": parsed.temperature,
        "top_p": parsed.top_p,
        "top_k": parsed.top_k,
        "stop": parsed.stop_sequences,
        "max_tokens": parsed.max_tokens,
    }
    _check_thinking(parsed)
    try:
        sampling = Sampling(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise invalid_request(error, given) from None
    request = _chat_request(parsed).model_copy(
        update={
            "sampling": sampling,
            "user": parsed.metadata.user_id if parsed.metadata is not None else None,
            "whole": not parsed.stream,
        }
    )
    thinking = parsed.thinking
    shows = isinstance(thinking, ThinkingOnBody | ThinkingAdaptiveBody) and thinking.display != "omitted"
    return request, MessageWish(stream=bool(parsed.stream), shows_thinking=shows)


def decode_count_call(body: object) -> ChatRequest:
    """As `decode_messages_call`, of a request whose tokens are to be counted."""
    return _chat_request(_parsed(CountTokensBody, body))


def _parsed(shape: type[BodyT], body: object) -> BodyT:
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    _refuse_server_tools(body.get("tools"))
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from None


def _refuse_server_tools(tools: object) -> None:
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "custom":
            raise UnsupportedParameter(
                f"tools.{number}.type: {kind!r} is a tool of Anthropic's own servers; send a tool with name and "
                "input_schema and run its calls yourself",
                param=f"tools.{number}.type",
            )


def _chat_request(body: CountTokensBody) -> ChatRequest:
    extra = refuse_unsupported(body.unknown(), _UNSUPPORTED)
    tools = [_decode_tool(tool, number) for number, tool in enumerate(body.tools or ())]
    choice = body.tool_choice
    return ChatRequest(
        model=body.model,
        messages=[*decode_system(body.system), *decode_messages(body.messages)],
        tools=tools,
        tool_choice=_decode_tool_choice(choice, [tool.name for tool in tools]),
        parallel_tool_calls=False if choice is not None and choice.disable_parallel_tool_use else None,
        response_format=_decode_format(body.output_config),
        reasoning_effort=_decode_effort(body),
        extra=extra,
    )


def _decode_tool(body: ToolBody, number: int) -> ToolDefinition:
    schema = checked_schema(body.input_schema, f"tools.{number}.input_schema")
    if body.input_examples:
        schema = {**schema, "examples": body.input_examples}
    return ToolDefinition(name=body.name, description=body.description, parameters=schema, strict=body.strict)


def _decode_tool_choice(body: ToolChoiceBody | None, offered: list[str]) -> ToolChoice:
    if body is None or body.type == "auto":
        return "auto"
    if body.type == "none":
        return "none"
    if not offered:
        raise InvalidRequest("tool_choice: needs tools to choose from; send tools", param="tool_choice")
    if body.type == "any":
        return "required"
    if body.name not in offered:
        raise InvalidRequest(
            f"tool_choice.name: {body.name!r} is not among the tools sent ({', '.join(offered)})",
            param="tool_choice.name",
        )
    return NamedToolChoice(names=[body.name])


def _decode_format(body: OutputConfigBody | None) -> ResponseFormat:
    if body is None or body.format is None:
        return TextFormat()
    schema = checked_schema(body.format.schema_, "output_config.format.schema")
    return JsonSchemaFormat(json_schema=schema, strict=True)


def _decode_effort(body: CountTokensBody) -> ReasoningEffort | None:
    """A budget of thinking tokens has no counterpart; it becomes the effort that spends about as much."""
    effort = body.output_config.effort if body.output_config is not None else None
    if isinstance(body.thinking, ThinkingOffBody):
        return "none"
    if effort is not None:
        return "xhigh" if effort == "max" else effort
    if isinstance(body.thinking, ThinkingOnBody):
        budget = body.thinking.budget_tokens
        return next((name for limit, name in _EFFORT_BY_BUDGET if budget < limit), "high")
    return None


def _check_thinking(body: MessagesBody) -> None:
    if isinstance(body.thinking, ThinkingOnBody) and body.thinking.budget_tokens >= body.max_tokens:
        raise InvalidRequest(
            f"thinking.budget_tokens: {body.thinking.budget_tokens} leaves no room for an answer within max_tokens "
            f"({body.max_tokens}); raise max_tokens",
            param="thinking.budget_tokens",
        )
