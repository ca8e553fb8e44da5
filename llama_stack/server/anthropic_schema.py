"""The shape of Anthropic's answers, for the OpenAPI document; see `llama_stack.server.schema`."""

from typing import Any, Literal

from llama_stack.server.schema import Answer


class AnthropicErrorDetail(Answer):
    type: str
    message: str
    param: str | None
    code: str


class AnthropicErrorAnswer(Answer):
    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None


class AnthropicTokens(Answer):
    thinking_tokens: int


class AnthropicUsage(Answer):
    """What the model read is the sum of the three input counts."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: AnthropicTokens | None = None


class AnthropicBlock(Answer):
    """type: `text` (in `text`), `thinking` (in `thinking`), or `tool_use` (`id`, `name`, `input`)."""

    type: Literal["text", "thinking", "tool_use"]
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | None = None


class AnthropicMessage(Answer):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnthropicBlock]
    stop_reason: (
        Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal", "model_context_window_exceeded"]
        | None
    )
    stop_sequence: str | None
    usage: AnthropicUsage


class AnthropicEvent(Answer):
    """One frame of a streamed answer, named by its `type`; after `message_stop` the stream ends."""

    type: Literal[
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ]


class AnthropicTokenCount(Answer):
    """estimated: the model's provider cannot count before it answers, so the size of the text was."""

    input_tokens: int
    estimated: bool
