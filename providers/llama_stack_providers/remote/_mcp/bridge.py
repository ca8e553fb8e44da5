"""The SDK's HTTP, sent through the one door out.

The SDK speaks httpx2; the ground gives httpx over aiohttp. This transport joins them, so that proxies, tests and the
cost of a call are those of every other provider. It also keeps what the SDK would drop (the status and the failure
behind its errors) and holds a caller's endpoint to public addresses.
"""

from collections.abc import AsyncIterator

import httpx
import httpx2

from llama_stack.errors import ProviderFailed, StackError
from llama_stack_providers.remote._mcp.addresses import Resolve, public_addresses
from llama_stack_providers.remote._mcp.exchange import Exchange, current_exchange

_NOT_PASSED_ON = frozenset({"user-agent", "connection"})


class Bridge(httpx2.AsyncBaseTransport):
    """resolve: how names become addresses, for an endpoint that is held to public ones; None holds it to nothing.

    max_answer_bytes: bounds an answer that comes in one piece; events of a stream are bounded by the SDK.
    answers_elsewhere: of the SSE transport, where the answer to a POST comes by another stream, so that a POST which
    fails leaves its question open for ever.
    """

    def __init__(
        self, http: httpx.AsyncClient, *, resolve: Resolve | None, max_answer_bytes: int, answers_elsewhere: bool
    ) -> None:
        self._http = http
        self._resolve = resolve
        self._max_answer_bytes = max_answer_bytes
        self._answers_elsewhere = answers_elsewhere

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = current_exchange.get(None) or Exchange()
        content = await request.aread()
        try:
            response = await self._send(request, content)
        except (httpx.TransportError, StackError) as failure:
            if request.method == "GET":
                exchange.note(failure)
                raise
            # Raised here, it would end the whole session: one lost connection must cost one question only.
            exchange.fail(failure)
            return httpx2.Response(self._status_for_failure(request), request=request)
        is_post = request.method == "POST"
        if request.method != "DELETE":
            exchange.status = response.status_code
            exchange.retry_after = response.headers.get("retry-after")
            exchange.was_taken = exchange.was_taken or (is_post and response.is_success)
            exchange.had_session = is_post and ("mcp-session-id" in request.headers or self._answers_elsewhere)
        if response.is_success or request.method == "GET" or (is_post and not self._answers_elsewhere):
            return self._passed_on(response, request, exchange)
        await response.aclose()
        exchange.fail(ProviderFailed(f"it answered {response.status_code}", upstream_status=response.status_code))
        return httpx2.Response(self._status_for_failure(request), request=request)

    def _status_for_failure(self, request: httpx2.Request) -> int:
        """A status that the SDK takes without ending the session or writing to the log."""
        if request.method == "DELETE":
            return 405
        return 202 if self._answers_elsewhere else 503

    async def _send(self, request: httpx2.Request, content: bytes) -> httpx.Response:
        url = httpx.URL(str(request.url))
        if self._resolve is None:
            return await self._http.send(self._built(request, url, content), stream=True)
        port = url.port or (443 if url.scheme == "https" else 80)
        failure: httpx.TransportError | None = None
        for address in await public_addresses(url.host, port, self._resolve):
            pinned = self._built(request, url.copy_with(host=address), content)
            if url.host != address:
                pinned.extensions = {**pinned.extensions, "sni_hostname": url.host}
            try:
                return await self._http.send(pinned, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure or httpx.ConnectError("it has no address")

    def _built(self, request: httpx2.Request, url: httpx.URL, content: bytes) -> httpx.Request:
        headers = [(name, value) for name, value in request.headers.multi_items() if name not in _NOT_PASSED_ON]
        extensions = {"timeout": request.extensions["timeout"]} if "timeout" in request.extensions else None
        return self._http.build_request(request.method, url, headers=headers, content=content, extensions=extensions)

    def _passed_on(self, response: httpx.Response, request: httpx2.Request, exchange: Exchange) -> httpx2.Response:
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        limit = None if is_stream else self._max_answer_bytes
        return httpx2.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=_Body(response, exchange, limit, ends_quietly=self._answers_elsewhere),
            request=request,
        )


class _Body(httpx2.AsyncByteStream):
    """The answer's bytes as they come, still compressed as the server sent them.

    ends_quietly: a stream that breaks off looks like one that ends, which the SDK takes for the end of the session.
    """

    def __init__(self, response: httpx.Response, exchange: Exchange, limit: int | None, *, ends_quietly: bool) -> None:
        self._response = response
        self._exchange = exchange
        self._limit = limit
        self._ends_quietly = ends_quietly

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        stream = self._response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for piece in stream:
                size += len(piece)
                if self._limit is not None and size > self._limit:
                    failure = ProviderFailed(
                        f"its answer is longer than {self._limit} bytes; raise max_answer_bytes or ask for less"
                    )
                    self._exchange.fail(failure)
                    raise httpx2.StreamError(failure.message)
                yield piece
        except httpx.HTTPError as failure:
            self._exchange.note(failure)
            if self._ends_quietly:
                return
            # A StreamError costs this answer; anything else would cost the session.
            raise httpx2.StreamError(str(failure)) from failure

    async def aclose(self) -> None:
        await self._response.aclose()
