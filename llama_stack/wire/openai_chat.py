"""OpenAI chat completions, whole requests and whole answers, both directions (API reference, "Chat").

Requests: `decode_chat_request` (from a caller), `encode_chat_request` (to an upstream).
Answers: `encode_answer` (to a caller), `decode_answer` (from an upstream).
Streams: `ChatChunkEncoder` and `ChatChunkDecoder` of `llama_stack.wire.openai_chat_stream`, also importable from here.
"""

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from llama_stack.api.answers import AnswerBuilder
from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ChatAnswer, ChatChoice, ChatRequest, ReasoningEffort, ToolPromptFormat
from llama_stack.api.messages import text_of
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest, ProviderFailed
from llama_stack.wire.json_schemas import checked_parameters
from llama_stack.wire.openai_answer import AnswerHead, encode_logprobs, encode_usage
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
from llama_stack.wire.openai_chat_stream import ChatChunkDecoder, ChatChunkEncoder
from llama_stack.wire.openai_messages import MessageBody, decode_messages, encode_assistant, encode_messages
from llama_stack.wire.validation import Body, invalid_request

__all__ = [
    "AnswerHead",
    "ChatBody",
    "ChatChunkDecoder",
    "ChatChunkEncoder",
    "StreamWish",
    "decode_answer",
    "decode_chat_call",
    "decode_chat_request",
    "encode_answer",
    "encode_chat_request",
]

# --- requests ------------------------------------------------------------------------------------------------------


class FunctionBody(Body):
    name: str = Field(min_length=1)
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ToolBody(Body):
    type: Literal["function"]
    function: FunctionBody


class NamedFunctionBody(Body):
    name: str


class NamedToolBody(Body):
    type: Literal["function"]
    function: NamedFunctionBody


class AllowedToolsBody(Body):
    mode: Literal["auto", "required"]
    tools: list[NamedToolBody] = Field(min_length=1)


class AllowedToolsChoiceBody(Body):
    type: Literal["allowed_tools"]
    allowed_tools: AllowedToolsBody


NamedToolChoiceBody = Annotated[NamedToolBody | AllowedToolsChoiceBody, Field(discriminator="type")]


class ChatBody(GenerationBody):
    """Body of POST /v1/chat/completions. Fields it does not name go to the model's provider as they are."""

    messages: list[MessageBody] = Field(min_length=1)
    tools: list[ToolBody] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedToolChoiceBody | None = None
    parallel_tool_calls: bool | None = None
    tool_prompt_format: ToolPromptFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning_effort: ReasoningEffort | None = None


_UNSUPPORTED: dict[str, tuple[tuple[object, ...], str]] = {
    "functions": (([],), "send tools instead"),
    "function_call": ((), "send tool_choice instead"),
    "audio": ((), "only text answers are given"),
    "modalities": ((["text"],), 'only ["text"] is given'),
    "store": ((False,), "this way of asking keeps no answers; set store to false"),
    "metadata": (({},), "it belongs to answers that are kept; set store to true, or leave it out"),
    "moderation": ((), "leave it out"),
    "service_tier": (("auto", "default"), "there is one tier; leave it out"),
}


def decode_chat_request(body: object) -> ChatRequest:
    """What the caller asks for; `decode_chat_call` also tells how the answer shall be delivered.

    Raises InvalidRequest naming the wrong field, and UnsupportedParameter for what would otherwise be ignored.
    """
    return decode_chat_call(body)[0]


def decode_chat_call(body: object) -> tuple[ChatRequest, StreamWish]:
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    try:
        parsed = ChatBody.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from None
    extra = refuse_unsupported(parsed.unknown(), _UNSUPPORTED)
    tools = [
        ToolDefinition(
            name=tool.function.name,
            description=tool.function.description,
            parameters=None
            if tool.function.parameters is None
            else checked_parameters(tool.function.parameters, f"tools.{position}.function.parameters"),
            strict=tool.function.strict,
        )
        for position, tool in enumerate(parsed.tools or ())
    ]
    if parsed.top_logprobs is not None and not parsed.logprobs:
        raise InvalidRequest("top_logprobs: needs logprobs to be true", param="top_logprobs")
    wish = decode_stream_wish(parsed)
    sampling = decode_sampling(parsed)
    try:
        request = ChatRequest(
            model=parsed.model,
            messages=decode_messages(parsed.messages),
            tools=tools,
            tool_choice=_decode_tool_choice(parsed, tools),
            parallel_tool_calls=parsed.parallel_tool_calls,
            tool_prompt_format=parsed.tool_prompt_format,
            response_format=decode_response_format(parsed.response_format),
            sampling=sampling,
            n=1 if parsed.n is None else parsed.n,
            logprobs=bool(parsed.logprobs),
            top_logprobs=parsed.top_logprobs,
            reasoning_effort=parsed.reasoning_effort,
            user=parsed.user,
            whole=not wish.stream,
            extra=extra,
        )
    except ValidationError as error:
        raise invalid_request(error, body) from None
    return request, wish


def _decode_tool_choice(body: ChatBody, tools: list[ToolDefinition]) -> ToolChoice:
    choice = body.tool_choice
    if choice is None:
        return "auto"
    if choice in ("auto", "none"):
        return choice
    if not tools:
        raise InvalidRequest("tool_choice: needs tools to choose from; send tools", param="tool_choice")
    match choice:
        case NamedToolBody():
            named = NamedToolChoice(names=[choice.function.name])
        case AllowedToolsChoiceBody(allowed_tools=allowed):
            named = NamedToolChoice(names=[tool.function.name for tool in allowed.tools], mode=allowed.mode)
        case _:
            return "required"
    offered = [tool.name for tool in tools]
    for name in named.names:
        if name not in offered:
            raise InvalidRequest(
                f"tool_choice: {name!r} is not among the tools sent ({', '.join(offered)})", param="tool_choice"
            )
    return named


def encode_chat_request(
    request: ChatRequest, *, stream: bool = True, max_tokens_name: str = "max_tokens"
) -> JsonObject:
    """The body for an upstream. stream: ask for chunks, with the usage in the last one."""
    body: JsonObject = {**request.extra, "model": request.model, "messages": encode_messages(request.messages)}
    body.update(encode_sampling(request.sampling, max_tokens_name=max_tokens_name))
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_encode_tool(tool) for tool in request.tools]
        if request.tool_choice != "auto":
            body["tool_choice"] = _encode_tool_choice(request.tool_choice)
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if (response_format := encode_response_format(request.response_format)) is not None:
        body["response_format"] = response_format
    if request.n != 1:
        body["n"] = request.n
    if request.logprobs:
        body["logprobs"] = True
        if request.top_logprobs is not None:
            body["top_logprobs"] = request.top_logprobs
    for name in ("reasoning_effort", "tool_prompt_format", "user"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    return body


def _encode_tool(tool: ToolDefinition) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    for name in ("description", "parameters", "strict"):
        if (value := getattr(tool, name)) is not None:
            function[name] = value
    return {"type": "function", "function": function}


def _encode_tool_choice(choice: ToolChoice) -> object:
    if not isinstance(choice, NamedToolChoice):
        return choice
    named = [{"type": "function", "function": {"name": name}} for name in choice.names]
    if choice.mode == "required" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}


# --- answers -------------------------------------------------------------------------------------------------------


def encode_answer(answer: ChatAnswer, head: AnswerHead) -> JsonObject:
    return {
        "system_fingerprint": None,
        **answer.extra,
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [encode_choice(choice, index) for index, choice in enumerate(answer.choices)],
        "usage": None if answer.usage is None else encode_usage(answer.usage),
    }


def encode_choice(choice: ChatChoice, index: int) -> JsonObject:
    message = encode_assistant(choice.message)
    message.setdefault("refusal", None)
    if isinstance(choice.message.content, list):
        message["content"] = text_of(choice.message.content)
    if message["content"] is None and not choice.message.tool_calls and choice.message.refusal is None:
        # A caller that only reads `content` may rely on text where nothing else was said.
        message["content"] = ""
    body: JsonObject = {
        "index": index,
        "message": message,
        "logprobs": None if choice.logprobs is None else encode_logprobs(choice.logprobs),
        "finish_reason": choice.finish_reason,
    }
    if choice.stop_sequence is not None:
        body["stop_reason"] = choice.stop_sequence
    return body


def encode_token_count(input_tokens: int, *, estimated: bool) -> JsonObject:
    """Ours, in the manner of OpenAI's count for Responses: how many tokens a model would read for a chat request."""
    return {"object": "chat.completion.input_tokens", "input_tokens": input_tokens, "estimated": estimated}


def decode_token_count(body: object) -> int:
    """Raises ProviderFailed for something that is not a count."""
    counted = body.get("input_tokens") if isinstance(body, dict) else None
    if not isinstance(counted, int):
        raise ProviderFailed("the server answered without a count of input tokens")
    return counted


def decode_answer(body: object) -> ChatAnswer:
    """A whole answer of an upstream, under the same rules as a streamed one.

    Raises ProviderFailed for something that is not a chat completion.
    """
    builder = AnswerBuilder()
    decoder = ChatChunkDecoder()
    for event in [*decoder.feed(body), *decoder.end(complete=True)]:
        builder.feed(event)
    return builder.answer
