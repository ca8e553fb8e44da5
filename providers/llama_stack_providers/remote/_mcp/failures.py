"""What can go wrong between us and an MCP server, turned into this framework's errors once, without any secret."""

from collections.abc import Iterator, Sequence

import httpx
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED, PARSE_ERROR
from pydantic import ValidationError

from llama_stack.errors import ProviderFailed, ProviderTimeout, ProviderUnavailable, RateLimited, StackError
from llama_stack_providers.remote._mcp.exchange import Exchange

MASK = "**********"
MAX_MESSAGE_CHARS = 500

_NO_WORD_OF_THE_SERVER = frozenset({"Server returned an error response", "Not Found", "Session terminated"})
"""What the SDK says where the server's answer was no MCP."""


class NotDelivered(Exception):
    """The question did not reach a tool, and the session is of no more use; on a new one it may be asked again.

    failure: what to say when it is not.
    """

    def __init__(self, failure: StackError) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ServerRefused(ProviderFailed):
    """The server's own word on a question, in the words of its protocol. `reason` is that word."""

    def __init__(self, who: str, reason: str) -> None:
        super().__init__(f"{who} refused: {reason}")
        self.reason = reason


def failure_of(error: BaseException, exchange: Exchange, who: str, deed: str) -> StackError | NotDelivered:
    """The error that `error` means, for a question that was to do `deed` ("list its tools")."""
    failure = _failure(error, exchange, who, deed)
    return failure.failure if isinstance(failure, NotDelivered) and exchange.was_taken else failure


def _failure(error: BaseException, exchange: Exchange, who: str, deed: str) -> StackError | NotDelivered:
    if exchange.had_session and _is_about_the_session(error, exchange):
        return NotDelivered(ProviderUnavailable(f"{who} forgot this session and could not {deed}"))
    if exchange.failure is not None:
        return _network_failure(exchange.failure, who, deed)
    if exchange.status is not None and exchange.status >= 400:
        refusal = _status_failure(exchange, who)
        if refusal is not None:
            return refusal
    return _protocol_failure(error, exchange, who, deed)


def _is_about_the_session(error: BaseException, exchange: Exchange) -> bool:
    """A server that does not know our session must say 404 (MCP specification, "Session management").

    Servers built on the TypeScript SDK's examples say 400 with a message about the session.
    """
    if exchange.status == 404:
        return True
    return exchange.status == 400 and isinstance(error, MCPError) and "session" in error.message.lower()


def _network_failure(cause: Exception, who: str, deed: str) -> StackError | NotDelivered:
    match cause:
        case StackError():
            cause.message = f"{who}: {cause.message}"
            cause.args = (cause.message,)
            return cause
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.ProxyError():
            return NotDelivered(ProviderUnavailable(f"{who} cannot be reached: {cause}"))
        case httpx.TimeoutException():
            return ProviderTimeout(f"{who} did not {deed} in time")
        case _:
            return ProviderFailed(f"{who} broke off and did not {deed}: {cause}")


def _status_failure(exchange: Exchange, who: str) -> StackError | None:
    status = exchange.status
    match status:
        case 401 | 403:
            names = ", ".join(exchange.sent)
            fault = f"it does not accept the credentials in {names}" if names else "no credentials were sent to it"
            return ProviderFailed(
                f"{who} answered {status}: {fault}; send yours with the request"
                ' as provider data, {"mcp_headers": {"<its URL>": {"Authorization": "Bearer ..."}}}',
                upstream_status=status,
                code="mcp_authorization",
            )
        case 429:
            return RateLimited(f"{who} answered 429: too many requests", retry_after_s=_seconds(exchange.retry_after))
        case _:
            return None


def _protocol_failure(error: BaseException, exchange: Exchange, who: str, deed: str) -> StackError:
    match error:
        case TimeoutError():
            return ProviderTimeout(f"{who} did not {deed} in time")
        case MCPError(code=code) if code == CONNECTION_CLOSED:
            return ProviderFailed(f"{who} ended and did not {deed}")
        case MCPError(code=code) if code == PARSE_ERROR:
            return ProviderFailed(f"{who} sent an answer that is no MCP message")
        case MCPError(message=message) if message.startswith("Unexpected content type"):
            content_type = message.partition(":")[2].strip() or "nothing"
            return ProviderFailed(f"{who} answers with {content_type[:100]}: no MCP server is at this address")
        case MCPError(message=message) if message in _NO_WORD_OF_THE_SERVER:
            status = exchange.status
            hint = ": no MCP server is at this address" if status in (404, 405) else ""
            return ProviderFailed(f"{who} answered {status}{hint}", upstream_status=None if status == 404 else status)
        case MCPError(message=message):
            return ServerRefused(who, message[:MAX_MESSAGE_CHARS])
        case ValidationError():
            return ProviderFailed(f"{who} sent an answer that does not follow the MCP specification: {_fault(error)}")
        case FileNotFoundError() | PermissionError() | OSError():
            return ProviderUnavailable(f"{who} cannot be started: {error.strerror or error}; correct its `command`")
        case httpx.HTTPError():
            return ProviderFailed(f"{who} broke off and did not {deed}: {error}")
        case _:
            return ProviderFailed(f"{who} did not {deed}: {str(error)[:MAX_MESSAGE_CHARS] or type(error).__name__}")


def _fault(error: ValidationError) -> str:
    """The first fault, without the value, which may be anything."""
    first = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:MAX_MESSAGE_CHARS]


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not retry_after.strip().isdigit():
        return None
    return float(retry_after)


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """The errors inside groups of errors: what ended the tasks that the SDK runs side by side."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error


def masked(failure: StackError, secrets: Sequence[str]) -> StackError:
    """The same failure, with every secret in its message replaced."""
    failure.message = without(secrets, failure.message)
    failure.args = (failure.message,)
    if isinstance(failure, ServerRefused):
        failure.reason = without(secrets, failure.reason)
    return failure


def without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text
