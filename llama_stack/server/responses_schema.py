"""The shape of answers of the Responses API and what stands beside it, for the OpenAPI document."""

from typing import Any, Literal

from llama_stack.server.schema import Answer, ChatCompletion


class ResponseObject(Answer):
    """A response (OpenAI API reference, "The response object")."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None = None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    model: str
    output: list[dict[str, Any]]
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None


class ResponseStreamEvent(Answer):
    """One event of a streamed response; which other fields it has is told by its type."""

    type: str
    sequence_number: int


class ResponseList(Answer):
    object: Literal["list"]
    data: list[ResponseObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ItemList(Answer):
    """Items of a response or of a conversation."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InputTokens(Answer):
    object: Literal["response.input_tokens"]
    input_tokens: int


class CompactedResponse(Answer):
    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[dict[str, Any]]
    usage: dict[str, Any]


class Deleted(Answer):
    id: str
    object: str
    deleted: bool


class ConversationObject(Answer):
    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]


class ConversationItem(Answer):
    """One item; which other fields it has is told by its type."""

    id: str
    type: str


class StoredCompletionList(Answer):
    object: Literal["list"]
    data: list[ChatCompletion]
    first_id: str | None
    last_id: str | None
    has_more: bool


class StoredMessageList(Answer):
    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
