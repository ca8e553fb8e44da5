"""What a database's HTTP error means to our caller."""

from typing import TYPE_CHECKING

from llama_stack.errors import (
    Conflict,
    NotFound,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StackError,
)

if TYPE_CHECKING:
    import httpx

MAX_MESSAGE_CHARACTERS = 2000


def refusal(who: str, response: "httpx.Response", message: str, *, is_missing: bool) -> StackError:
    """who: the database, for the message. is_missing: whether a 404 speaks of a collection, not of a wrong address."""
    status = response.status_code
    text = f"{who} answered {status}: {message[:MAX_MESSAGE_CHARACTERS]}".removesuffix(": ")
    match status:
        case 404 if is_missing:
            return NotFound(text)
        case 409:
            return Conflict(text)
        case 401 | 403:
            # Not the caller's to mend, so its status is not kept.
            return ProviderFailed(f"{text}; check the config field api_key", code="invalid_api_key")
        case 429:
            wait = response.headers.get("retry-after", "")
            return RateLimited(text, retry_after_s=float(wait) if wait.isdecimal() else None)
        case 408 | 504:
            return ProviderTimeout(text, upstream_status=status)
        case 502 | 503:
            return ProviderUnavailable(text, upstream_status=status)
        case _:
            return ProviderFailed(text, upstream_status=status)
