"""The classic inference API (`/v1/inference/...` of `llama-stack-client` 0.2.12): requests in, whole answers out.

Streams are written by `llama_stack.wire.classic.inference_stream`.
"""

from typing import Literal

from pydantic import Field

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import (
    ChatAnswer,
    ChatRequest,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    ToolPromptFormat,
    Usage,
)
from llama_stack.api.messages import ImagePart, Message, SystemMessage, text_of
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.classic.content import ContentBody, ContentItemBody, decode_content
from llama_stack.wire.classic.messages import (
    MessageBody,
    decode_messages,
    encode_completion_message,
    stop_reason_of,
)
from llama_stack.wire.classic.sampling import (
    LogprobsBody,
    ResponseFormatBody,
    SamplingBody,
    decode_response_format,
    decode_sampling,
    encode_logprobs,
)
from llama_stack.wire.classic.tools import (
    ToolConfigBody,
    ToolDefinitionBody,
    decode_tool_choice,
    decode_tool_definition,
    fills_definitions_in,
    with_function_definitions,
)

MOST_IN_BATCH = 512
"""Requests of one batch call; more belong in a batch job."""

# --- what comes in -------------------------------------------------------------------------------------------------


class _GenerationBody(ClassicBody):
    model_id: str = Field(min_length=1)
    sampling_params: SamplingBody | None = None
    response_format: ResponseFormatBody | None = None
    logprobs: LogprobsBody | None = None


class _ChatSettingsBody(_GenerationBody):
    """tool_choice, tool_prompt_format: older places of what `tool_config` says."""

    tools: list[ToolDefinitionBody] | None = None
    tool_config: ToolConfigBody | None = None
    tool_choice: str | None = None
    tool_prompt_format: ToolPromptFormat | None = None


class ClassicChatBody(_ChatSettingsBody):
    """Body of POST /v1/inference/chat-completion."""

    messages: list[MessageBody] = Field(min_length=1)
    stream: bool | None = None


class ClassicBatchChatBody(_ChatSettingsBody):
    """Body of POST /v1/inference/batch-chat-completion."""

    messages_batch: list[list[MessageBody]] = Field(min_length=1, max_length=MOST_IN_BATCH)


class ClassicCompletionBody(_GenerationBody):
    """Body of POST /v1/inference/completion."""

    content: ContentBody
    stream: bool | None = None


class ClassicBatchCompletionBody(_GenerationBody):
    """Body of POST /v1/inference/batch-completion."""

    content_batch: list[ContentBody] = Field(min_length=1, max_length=MOST_IN_BATCH)


class ClassicEmbeddingsBody(ClassicBody):
    """Body of POST /v1/inference/embeddings."""

    model_id: str = Field(min_length=1)
    contents: list[str | ContentItemBody] = Field(min_length=1)
    text_truncation: Literal["none", "start", "end"] | None = None
    output_dimension: int | None = Field(None, ge=1)
    task_type: Literal["query", "document"] | None = None


def decode_chat(body: object) -> tuple[ChatRequest, bool]:
    """The request, and whether the answer is to be streamed. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(ClassicChatBody, body)
    stream = bool(parsed.stream)
    return _chat_request(parsed, decode_messages(parsed.messages), whole=not stream), stream


def decode_chat_batch(body: object) -> list[ChatRequest]:
    parsed = parse_body(ClassicBatchChatBody, body)
    return [_chat_request(parsed, decode_messages(messages), whole=True) for messages in parsed.messages_batch]


def decode_completion(body: object) -> tuple[CompletionRequest, bool]:
    """As `decode_chat`."""
    parsed = parse_body(ClassicCompletionBody, body)
    stream = bool(parsed.stream)
    return _completion_request(parsed, parsed.content, "content", whole=not stream), stream


def decode_completion_batch(body: object) -> list[CompletionRequest]:
    parsed = parse_body(ClassicBatchCompletionBody, body)
    return [
        _completion_request(parsed, content, f"content_batch.{position}", whole=True)
        for position, content in enumerate(parsed.content_batch)
    ]


def decode_embeddings(body: object) -> EmbeddingRequest:
    parsed = parse_body(ClassicEmbeddingsBody, body)
    truncation = parsed.text_truncation
    return EmbeddingRequest(
        model=parsed.model_id,
        inputs=[_plain_text(content, f"contents.{position}") for position, content in enumerate(parsed.contents)],
        dimensions=parsed.output_dimension,
        truncate="refuse" if truncation in (None, "none") else truncation,
        task=parsed.task_type,
    )


def _chat_request(body: _ChatSettingsBody, messages: list[Message], *, whole: bool) -> ChatRequest:
    tools = [decode_tool_definition(tool, f"tools.{number}") for number, tool in enumerate(body.tools or ())]
    choice, prompt_format = decode_tool_choice(body.tool_config, body.tool_choice, body.tool_prompt_format)
    _check_choice(choice, tools)
    if body.tool_config is not None and body.tool_config.system_message_behavior == "replace":
        messages, tools = _replacing_prompt(messages, tools)
    return ChatRequest(
        model=body.model_id,
        messages=messages,
        tools=tools,
        tool_choice="auto" if choice is None or not tools else choice,
        tool_prompt_format=prompt_format,
        response_format=decode_response_format(body.response_format),
        sampling=decode_sampling(body.sampling_params),
        logprobs=body.logprobs is not None,
        top_logprobs=None if body.logprobs is None else body.logprobs.top_k or None,
        whole=whole,
    )


def _check_choice(choice: ToolChoice | None, tools: list[ToolDefinition]) -> None:
    offered = [tool.name for tool in tools]
    if isinstance(choice, NamedToolChoice) and choice.names[0] not in offered:
        raise InvalidRequest(
            f"tool_config.tool_choice: {choice.names[0]!r} is neither auto, required, none nor one of the tools sent"
            f" ({', '.join(offered) or 'there are none'})",
            param="tool_config.tool_choice",
        )


def _replacing_prompt(
    messages: list[Message], tools: list[ToolDefinition]
) -> tuple[list[Message], list[ToolDefinition]]:
    """The caller writes the whole system prompt: tools are offered only where it says to put their definitions."""
    filled: list[Message] = []
    is_filled = False
    for message in messages:
        if isinstance(message, SystemMessage) and fills_definitions_in(text := text_of(message.content)):
            is_filled = True
            message = message.model_copy(update={"content": with_function_definitions(text, tools)})
        filled.append(message)
    return filled, tools if is_filled else []


def _completion_request(body: _GenerationBody, content: ContentBody, path: str, *, whole: bool) -> CompletionRequest:
    return CompletionRequest(
        model=body.model_id,
        prompt=_plain_text(content, path),
        response_format=decode_response_format(body.response_format),
        sampling=decode_sampling(body.sampling_params),
        logprobs=None if body.logprobs is None else body.logprobs.top_k or 0,
        whole=whole,
    )


def _plain_text(body: ContentBody, path: str) -> str:
    content = decode_content(body)
    if not isinstance(content, str) and any(isinstance(part, ImagePart) for part in content):
        raise UnsupportedParameter(f"{path}: only text can be used here; send images in a chat", param=path)
    return text_of(content)


# --- what goes out -------------------------------------------------------------------------------------------------


def encode_chat_answer(answer: ChatAnswer) -> JsonObject:
    choice = answer.choices[0]
    return {
        "completion_message": encode_completion_message(choice.message, stop_reason_of(choice.finish_reason)),
        "logprobs": encode_logprobs(choice.logprobs),
        "metrics": encode_metrics(answer.usage),
    }


def encode_completion_answer(answer: ChatAnswer) -> JsonObject:
    choice = answer.choices[0]
    return {
        "content": answer.text,
        "stop_reason": stop_reason_of(choice.finish_reason),
        "logprobs": encode_logprobs(choice.logprobs),
        "metrics": encode_metrics(answer.usage),
    }


def encode_embeddings(answer: EmbeddingAnswer) -> JsonObject:
    return {"embeddings": answer.vectors}


def encode_metrics(usage: Usage | None) -> list[JsonObject] | None:
    if usage is None:
        return None
    counts = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    return [{"metric": name, "value": count, "unit": "tokens"} for name, count in counts.items()]
