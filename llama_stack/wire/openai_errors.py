"""The one error body, `{"error": {message, type, param, code}}` (OpenAI API reference, "Error codes"), both directions.

`encode_error` writes it. `upstream_error` reads whatever a partner answered with instead of an answer, and
`raise_error_in_answer` an error inside a stream. `decode_error` and `decode_error_frame` read what another Llama Stack
server wrote and give back the very class it raised, so that a remote stack fails like a local one. What that takes
beyond OpenAI's four members stands beside them, where there is something to tell: `upstream_status`, `retry_after_s`,
and in the frame of a stream, which has no HTTP status of its own, `status`.
"""

from typing import Any, NoReturn, TypeVar

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.errors import (
    ConfigError,
    ContextOverflow,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StackError,
    StructuredOutputInvalid,
)

ErrorT = TypeVar("ErrorT", bound=StackError)

_MESSAGE_LIMIT = 2000
"""Characters of an upstream's message that are passed on; some answer with a whole web page."""


def encode_error(error: StackError) -> JsonObject:
    told: JsonObject = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    if isinstance(error, ProviderFailed) and error.upstream_status is not None:
        told["upstream_status"] = error.upstream_status
    if error.retry_after_s is not None:
        told["retry_after_s"] = error.retry_after_s
    return {"error": told}


def error_frame(error: StackError) -> bytes:
    """The last frame of a stream that failed after it had begun."""
    told = {**encode_error(error)["error"], "status": error.http_status}
    return b"data: " + orjson.dumps({"error": told}) + b"\n\n"


def upstream_error(who: str, status: int, body: bytes, retry_after: str | None = None) -> StackError:
    """What a partner's error response means to our caller.

    who: the partner, for the message. body: as it came, JSON or not. retry_after: its Retry-After header.
    """
    message, param, code = _told(body)
    text = f"{who} answered {status}" + (f": {message}" if message else "")
    if status == 429:
        return RateLimited(text, retry_after_s=_seconds(retry_after), code=code)
    if status == 400 and _is_context_overflow(code, message):
        return ContextOverflow(text, param=param)
    if status == 504:
        return ProviderTimeout(text, upstream_status=status, param=param, code=code)
    return ProviderFailed(text, upstream_status=status, param=param, code=code)


def raise_error_in_answer(error: Any) -> NoReturn:
    """Raises what an `error` member inside a stream or an answer with status 200 tells of."""
    message, param, code = _told_by(error)
    text = f"the upstream failed while answering: {message or 'it did not say why'}"
    status = _status_in(error)
    if status == 429:
        wait = error.get("retry_after_s")
        raise RateLimited(text, retry_after_s=_seconds(None if wait is None else str(wait)), code=code)
    if _is_context_overflow(code, message):
        raise ContextOverflow(text, param=param)
    raise ProviderFailed(text, upstream_status=status, param=param, code=code)


def decode_error(status: int, body: object, retry_after: str | None = None) -> StackError:
    """The error another Llama Stack server sent, as the class it was raised as there. retry_after: its header."""
    told = body.get("error") if isinstance(body, dict) else None
    fields: JsonObject = told if isinstance(told, dict) else {}
    message = str(fields.get("message") or f"the server answered {status} without saying why")
    param, code, kind = fields.get("param"), fields.get("code"), fields.get("type")
    if kind == ProviderFailed.type and code != StructuredOutputInvalid.code:
        # The code may be the upstream's own word; then the status tells the classes apart.
        provider = _PROVIDER_BY_CODE.get(str(code)) or _PROVIDER_BY_STATUS.get(status, ProviderFailed)
        upstream_status = fields.get("upstream_status", status if status < 500 else None)
        return provider(message, upstream_status=upstream_status, param=param, code=code)
    if status == 429:
        wait = fields.get("retry_after_s", retry_after)
        return RateLimited(message, retry_after_s=_seconds(None if wait is None else str(wait)), code=code)
    cls = _BY_CODE.get(str(code)) or _BY_STATUS.get(status, StackError)
    return cls(message, param=param, code=code)


def decode_error_frame(frame: JsonObject) -> StackError:
    """The error that ended a stream of another Llama Stack server; see `error_frame`."""
    status = frame["error"].get("status")
    if not isinstance(status, int):
        status = _STATUS_OF_TYPE.get(frame["error"].get("type"), 500)
    return decode_error(status, frame)


def _family(cls: type[ErrorT]) -> list[type[ErrorT]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _family(child))]


# ConfigError ends a command and never a request; RateLimited is told by its status alone.
_REQUEST_ERRORS = [cls for cls in _family(StackError) if cls is not RateLimited and not issubclass(cls, ConfigError)]
_BY_CODE = {cls.code: cls for cls in _REQUEST_ERRORS}
_PROVIDER_BY_CODE = {cls.code: cls for cls in _family(ProviderFailed)}
# The first one drawn in the tree stands for its status, or its type.
_BY_STATUS = {cls.status: cls for cls in reversed(_REQUEST_ERRORS)}
_PROVIDER_BY_STATUS = {cls.status: cls for cls in _family(ProviderFailed)}
_TOP: list[type[StackError]] = [StackError, *StackError.__subclasses__()]
_STATUS_OF_TYPE = {cls.type: cls.status for cls in reversed(_TOP)}


def _told(body: bytes) -> tuple[str, str | None, str | None]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:_MESSAGE_LIMIT].decode("utf-8", "replace").strip(), None, None
    if isinstance(parsed, list) and parsed:
        parsed = parsed[0]
    if not isinstance(parsed, dict):
        return str(parsed)[:_MESSAGE_LIMIT], None, None
    return _told_by(parsed.get("error") or parsed)


def _told_by(error: Any) -> tuple[str, str | None, str | None]:
    """(message, param, code) of an error in any of the shapes partners use."""
    if not isinstance(error, dict):
        return str(error)[:_MESSAGE_LIMIT], None, None
    message = next((error[name] for name in ("message", "detail", "error", "title") if error.get(name)), "")
    if not isinstance(message, str):
        message = orjson.dumps(message).decode()
    param, code = error.get("param"), error.get("code") or error.get("type")
    return message[:_MESSAGE_LIMIT], param if isinstance(param, str) else None, code if isinstance(code, str) else None


def _status_in(error: Any) -> int | None:
    if not isinstance(error, dict):
        return None
    for name in ("code", "status", "status_code", "http_status_code"):
        value = error.get(name)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None


def _is_context_overflow(code: str | None, message: str) -> bool:
    if code in ("context_length_exceeded", "exceed_context_size_error"):
        return True
    return "maximum context length" in message or "context size" in message


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is rare among model servers and read as unknown."""
    try:
        return None if retry_after is None else max(0.0, float(retry_after))
    except ValueError:
        return None
