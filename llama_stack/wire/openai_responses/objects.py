"""The response object and what stands beside it (API reference, "The response object", "Conversations")."""

from collections.abc import Collection, Sequence
from typing import Literal

from llama_stack.api.agents import TurnEndReason
from llama_stack.api.common import JsonObject
from llama_stack.api.inference import Usage
from llama_stack.api.responses import Conversation, ResponseRequest
from llama_stack.errors import InvalidRequest, RateLimited, StackError
from llama_stack.wire.openai_responses.items import shown

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"completed", "incomplete", "failed", "cancelled"})


def new_response(request: ResponseRequest, response_id: str, created_at: int, status: Status) -> JsonObject:
    """A response nothing has been said in yet. created_at: seconds since 1970."""
    return {
        **request.shown,
        **({} if request.moderation is None else {"moderation": None}),
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "completed_at": None,
        "model": request.model,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "output": [],
        "usage": None,
    }


def shown_response(response: JsonObject, include: Collection[str] = ()) -> JsonObject:
    """The response as callers see it."""
    return {**response, "output": [shown(item, include) for item in response["output"]]}


def encode_response_usage(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_input_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens,
    }


def incomplete_reason(reason: TurnEndReason | None) -> str | None:
    """Why a response is incomplete, in OpenAI's words; None for one that is not."""
    match reason:
        case "max_tokens":
            return "max_output_tokens"
        case "max_infer_iters" | "max_seconds":
            return "max_messages"
        case "blocked":
            return "content_filter"
        case _:
            # max_tool_calls: the caller's limit was kept, and the model answered within it.
            return None


def encode_failure(error: StackError) -> JsonObject:
    """The `error` of a failed response."""
    code = "server_error"
    if isinstance(error, RateLimited):
        code = "rate_limit_exceeded"
    elif isinstance(error, InvalidRequest):
        code = "invalid_prompt"
    return {"code": code, "message": error.message, "param": error.param, "type": error.type}


def encode_list(entries: Sequence[JsonObject], *, has_more: bool) -> JsonObject:
    return {
        "object": "list",
        "data": list(entries),
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
        "has_more": has_more,
    }


def encode_conversation(conversation: Conversation) -> JsonObject:
    return {
        "id": conversation.conversation_id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": conversation.metadata,
    }
