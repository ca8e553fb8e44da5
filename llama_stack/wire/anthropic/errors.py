"""Errors in Anthropic's shape (API reference, "Errors"): `{"type": "error", "error": {"type", "message"}}`."""

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.errors import StackError, UnsupportedParameter

_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_type(status: int) -> str:
    """Anthropic's class of an HTTP status."""
    return _BY_STATUS.get(status) or ("invalid_request_error" if status < 500 else "api_error")


def encode_error(error: StackError, request_id: str | None = None) -> JsonObject:
    """`param` and `code` are ours, beside what Anthropic has."""
    told: JsonObject = {"type": error_type(error.http_status), "message": error.message}
    told |= {"param": error.param, "code": error.code}
    if isinstance(error, UnsupportedParameter) and error.param == "thread":
        # By this Anthropic's clients know to go on without a thread, sending the whole conversation.
        told["details"] = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    return {"type": "error", "error": told, "request_id": request_id}


def error_frame(error: StackError) -> bytes:
    """The last frame of a stream that failed after it had begun."""
    return b"event: error\ndata: " + orjson.dumps(encode_error(error)) + b"\n\n"
