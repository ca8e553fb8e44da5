"""The SDK's HTTP, sent through the one door out.

The SDK speaks httpx2; the ground gives httpx over aiohttp. This transport joins them, so that proxies, tests and the
cost of a call are those of every other provider. It also keeps what the SDK would drop (the status and the failure
behind its errors) and holds a caller's endpoint to public addresses.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import httpx
import httpx2

from llama_stack.errors import ProviderFailed, StackError
from llama_stack_providers.remote._mcp.addresses import Resolve, public_addresses
from llama_stack_providers.remote._mcp.exchange import Exchange, current_exchange
from llama_stack_providers.remote._mcp.surrogates import MendedLines

if TYPE_CHECKING:
    from llama_stack.provider import Answer, Client

_NOT_PASSED_ON = frozenset({"user-agent", "connection", "accept-encoding"})
_KEPT_BACK = frozenset({b"content-encoding", b"set-cookie"})
"""Of an answer. Named again, an encoding would be undone without a bound; where there is one, the body is refused.
Cookies would be kept for other calls."""
_MAX_SSE_EVENT_BYTES = 1024 * 1024 - 4096
"""Of the SSE transport, for which the SDK has a bound of its own; ours is met first, and says what is wrong."""
_MAX_ANSWERS_A_STREAM = 8
"""How many times the longest answer a stream may hold that belongs to one question: its progress and its log."""
_END_OF_EVENT = re.compile(rb"\n\n|\n\r\n|\r\r|\n\r\r|\r\n\r")


@lru_cache(maxsize=256)
def _url_of(text: str) -> httpx.URL:
    return httpx.URL(text)


class Bridge(httpx2.AsyncBaseTransport):
    """resolve: how names become addresses, for an endpoint that is held to public ones; None holds it to nothing.

    max_answer_bytes: bounds an answer, whether it comes in one piece or as an event of a stream. Answers are asked for
    without compression, and refused with one: a megabyte of it may hold a gigabyte. end: ends the session, told why.
    sent: names of the headers that `http` sends along, for messages.
    answers_elsewhere: of the SSE transport, where the answer to a POST comes by another stream, so that a POST which
    fails leaves its question open for ever.
    """

    def __init__(
        self,
        http: "Client",
        *,
        resolve: Resolve | None,
        max_answer_bytes: int,
        answers_elsewhere: bool,
        end: Callable[[str], None],
        sent: Iterable[str] = (),
    ) -> None:
        self._http = http
        # They are the same for every call, and costly to merge.
        self._own_headers = dict(http.headers.items())
        self._resolve = resolve
        self._max_answer_bytes = max_answer_bytes
        self._answers_elsewhere = answers_elsewhere
        self._end = end
        self._sent = tuple(sent)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = current_exchange.get(None) or Exchange()
        content = await request.aread()
        try:
            answer = await self._send(request, content)
        except (httpx.TransportError, StackError) as failure:
            if request.method == "GET":
                exchange.note(failure)
                raise
            # Raised here, it would end the whole session: one lost connection must cost one question only.
            exchange.fail(failure)
            return httpx2.Response(self._status_for_failure(request), request=request)
        is_post = request.method == "POST"
        if request.method != "DELETE":
            exchange.status = answer.status_code
            exchange.sent = self._sent
            exchange.retry_after = answer.headers.get("retry-after")
            exchange.was_taken = exchange.was_taken or (is_post and answer.is_success)
            exchange.had_session = is_post and ("mcp-session-id" in request.headers or self._answers_elsewhere)
        if answer.is_success or request.method == "GET" or (is_post and not self._answers_elsewhere):
            return self._passed_on(answer, request, exchange)
        await answer.close()
        exchange.fail(ProviderFailed(f"it answered {answer.status_code}", upstream_status=answer.status_code))
        return httpx2.Response(self._status_for_failure(request), request=request)

    def _status_for_failure(self, request: httpx2.Request) -> int:
        """A status that the SDK takes without ending the session or writing to the log."""
        if request.method == "DELETE":
            return 405
        return 202 if self._answers_elsewhere else 503

    async def _send(self, request: httpx2.Request, content: bytes) -> "Answer":
        url = _url_of(str(request.url))
        if self._resolve is None:
            return await self._begin(request, url, content)
        port = url.port or (443 if url.scheme == "https" else 80)
        failure: httpx.TransportError | None = None
        for address in await public_addresses(url.host, port, self._resolve):
            server_hostname = url.host if url.host != address else None
            try:
                return await self._begin(request, url.copy_with(host=address), content, server_hostname)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure or httpx.ConnectError("it has no address")

    async def _begin(
        self, request: httpx2.Request, url: httpx.URL, content: bytes, server_hostname: str | None = None
    ) -> "Answer":
        passed_on = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED_ON}
        return await self._http.begin(
            request.method,
            url,
            headers={**self._own_headers, **passed_on, "accept-encoding": "identity"},
            content=content,
            limits=request.extensions.get("timeout") or self._http.timeout.as_dict(),
            server_hostname=server_hostname,
        )

    def _passed_on(self, answer: "Answer", request: httpx2.Request, exchange: Exchange) -> httpx2.Response:
        return httpx2.Response(
            answer.status_code,
            headers=[(name, value) for name, value in answer.raw_headers if name.lower() not in _KEPT_BACK],
            stream=_Body(answer, exchange, self._bounds(answer, request), ends_quietly=self._answers_elsewhere),
            request=request,
        )

    def _bounds(self, answer: "Answer", request: httpx2.Request) -> "_Bounds":
        longest = self._max_answer_bytes
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            return _Bounds(whole=longest)
        if request.method == "POST":
            return _Bounds(whole=longest * _MAX_ANSWERS_A_STREAM, event=longest)
        if self._answers_elsewhere:
            return _Bounds(event=min(longest, _MAX_SSE_EVENT_BYTES), end=self._end)
        return _Bounds(event=longest)


class _Bounds:
    """How long a body and each event of it may be.

    end: for a stream that holds the answers of every question, which ends with it.
    """

    def __init__(
        self,
        *,
        whole: int | None = None,
        event: int | None = None,
        end: Callable[[str], None] | None = None,
    ) -> None:
        self._whole = whole
        self._event = event
        self._end = end
        self._size = 0
        self._last_bytes = b""
        self._begun_bytes = 0

    def fault(self, piece: bytes) -> str | None:
        """What is wrong with the body once this piece of it has come."""
        self._size += len(piece)
        if self._whole is not None and self._size > self._whole:
            return f"sent an answer longer than {self._whole} bytes; raise max_answer_bytes or ask for less"
        if self._event is not None and self._longest_event(piece) > self._event:
            return f"sent a message longer than {self._event} bytes; raise max_answer_bytes or ask for less"
        return None

    def close(self, fault: str) -> None:
        """The body is refused for this fault."""
        if self._end is not None:
            self._end(fault)

    def _longest_event(self, piece: bytes) -> int:
        """Bytes of the longest event that this piece ends or goes on with."""
        known = len(self._last_bytes)
        text = self._last_bytes + piece
        longest, begin = 0, 0
        for match in _END_OF_EVENT.finditer(text):
            end = match.end() - known
            if end > 0:
                longest = max(longest, self._begun_bytes + end - begin)
                self._begun_bytes, begin = 0, end
        self._begun_bytes += len(piece) - begin
        self._last_bytes = text[-3:]
        return max(longest, self._begun_bytes)


class _Body(httpx2.AsyncByteStream):
    """The answer's bytes as they come.

    ends_quietly: a stream that breaks off looks like one that ends, which the SDK takes for the end of the session.
    """

    def __init__(self, answer: "Answer", exchange: Exchange, bounds: _Bounds, *, ends_quietly: bool) -> None:
        self._answer = answer
        self._exchange = exchange
        self._bounds = bounds
        self._ends_quietly = ends_quietly

    async def __aiter__(self) -> AsyncIterator[bytes]:
        encoding = self._answer.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            raise self._refused(f"sent an answer in the encoding {encoding[:20]!r}, which it was asked not to use")
        lines = MendedLines()
        try:
            async for piece in self._answer.pieces:
                fault = self._bounds.fault(piece)
                if fault is not None:
                    raise self._refused(fault)
                if whole := lines.feed(piece):
                    yield whole
            if rest := lines.rest():
                yield rest
        except httpx.HTTPError as failure:
            self._exchange.note(failure)
            if self._ends_quietly:
                return
            # A StreamError costs this answer; anything else would cost the session.
            raise httpx2.StreamError(str(failure)) from failure

    def _refused(self, fault: str) -> httpx2.StreamError:
        self._exchange.fail(ProviderFailed(f"it {fault}"))
        self._bounds.close(fault)
        return httpx2.StreamError(fault)

    async def aclose(self) -> None:
        await self._answer.close()
