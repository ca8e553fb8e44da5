"""The one error body, `{"error": {message, type, param, code}}` (OpenAI API reference, "Error codes"), both directions.

`encode_error` writes it. `upstream_error` reads whatever a partner answered with instead of an answer, and
`raise_error_in_answer` an error inside a stream. `decode_error` reads what another Llama Stack server wrote and gives
back the very class it raised, so that a remote stack fails like a local one.
"""

from typing import Any, NoReturn

import orjson

from llama_stack import errors
from llama_stack.api.common import JsonObject
from llama_stack.errors import ContextOverflow, ProviderFailed, ProviderTimeout, RateLimited, StackError

_MESSAGE_LIMIT = 2000
"""Characters of an upstream's message that are passed on; some answer with a whole web page."""


def encode_error(error: StackError) -> JsonObject:
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_frame(error: StackError) -> bytes:
    """The last frame of a stream that failed after it had begun."""
    return b"data: " + orjson.dumps(encode_error(error)) + b"\n\n"


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
        raise RateLimited(text, code=code)
    if _is_context_overflow(code, message):
        raise ContextOverflow(text, param=param)
    raise ProviderFailed(text, upstream_status=status, param=param, code=code)


def decode_error(status: int, body: object, retry_after: str | None = None) -> StackError:
    """The error another Llama Stack server sent, as the class it was raised as there."""
    told = body.get("error") if isinstance(body, dict) else None
    fields: JsonObject = told if isinstance(told, dict) else {}
    message = str(fields.get("message") or f"the server answered {status} without saying why")
    param, code, kind = fields.get("param"), fields.get("code"), fields.get("type")
    if status == 429:
        return RateLimited(message, retry_after_s=_seconds(retry_after), code=code)
    if kind == ProviderFailed.type:
        cls = _BY_CODE.get(str(code), ProviderFailed)
        if issubclass(cls, ProviderFailed):
            return cls(message, upstream_status=status if status < 500 else None, param=param, code=code)
        return cls(message, param=param, code=code)
    cls = _BY_CODE.get(str(code)) or _BY_STATUS.get(status, StackError)
    return cls(message, param=param, code=code)


def _family(cls: type[StackError]) -> list[type[StackError]]:
    return [cls, *(found for child in cls.__subclasses__() for found in _family(child))]


_REQUEST_ERRORS = [cls for cls in _family(StackError) if cls not in (RateLimited, errors.ConfigError)]
_BY_CODE = {cls.code: cls for cls in _REQUEST_ERRORS}
_BY_STATUS: dict[int, type[StackError]] = {}
for _cls in _REQUEST_ERRORS:
    if not issubclass(_cls, ProviderFailed):
        _BY_STATUS.setdefault(_cls.status, _cls)


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
