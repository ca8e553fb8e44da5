"""The network side of the one door out: httpx's API over aiohttp's connections.

`httpx_aiohttp` joins the two. What is added here: nothing of one exchange is kept for another (cookies), proxies of
the environment are honoured, one TLS context serves all, and failures carry httpx's proper names.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

if TYPE_CHECKING:
    import ssl

    import aiohttp
    from httpx_aiohttp import AiohttpTransport

ResponseT = TypeVar("ResponseT")

KEEPALIVE_S = 30
MAX_STALE_CONNECTIONS = 5
REMEMBERED_PATHS = 256
"""URLs that are not put together anew for each request; most upstreams are asked for a handful."""


def open_transport(*, max_connections: int = 256) -> httpx.AsyncBaseTransport:
    """A transport over a connection pool of its own. Must be called inside a running event loop."""
    return _Transport(max_connections)


@dataclass(slots=True)
class Answer:
    """A response whose body is not read yet.

    headers: found by a name in any case. raw_headers: as they came, in their order. pieces: the body as it comes,
    decompressed; read once. close: gives the connection back, or closes it where the body was not read to its end.
    """

    status_code: int
    headers: Mapping[str, str]
    raw_headers: Sequence[tuple[bytes, bytes]]
    pieces: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300


class Client(httpx.AsyncClient):
    """httpx's client with a short way for the calls that are most of the work.

    `exchange` needs none of the client's redirects, cookies and authentication flow, nor httpx's request and response
    where nothing but the network is behind it: that saves three quarters of a call's cost.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport, **settings: Any) -> None:
        super().__init__(transport=transport, **settings)
        self._door = transport
        self._urls: dict[str, httpx.URL] = {}

    def merged(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The client's headers and these, to be used for many calls."""
        merged = httpx.Headers(self.headers)
        merged.update(headers)
        return dict(merged.items())

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        content: bytes,
        query: Mapping[str, str] | None = None,
        patience_s: float | None = None,
    ) -> AsyncIterator[Answer]:
        """The answer, its body unread; closed at the end of the context.

        path: below the base URL. headers: all that are sent, from `merged`. query: added to the URL, kept
        and logged nowhere. patience_s: longest wait for data, where that is not the client's own read timeout.
        """
        url = self._urls.get(path)
        if url is None:
            url = self.base_url.join(path)
            if len(self._urls) < REMEMBERED_PATHS:
                self._urls[path] = url
        if query:
            url = url.copy_merge_params(query)
        limits = self.timeout.as_dict()
        if patience_s is not None:
            limits["read"] = patience_s
        answer = await self.begin(method, url, headers=headers, content=content, limits=limits)
        try:
            yield answer
        finally:
            await answer.close()

    async def begin(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: Mapping[str, str],
        content: bytes,
        limits: Mapping[str, float | None],
        server_hostname: str | None = None,
    ) -> Answer:
        """As `exchange`, for an answer that is closed by whoever reads it.

        limits: httpx's timeouts, in seconds. server_hostname: whose certificate is wanted, where the URL has another.
        """
        if isinstance(self._door, _Transport) and self._door.proxy_of(url) is None:
            direct = await self._door.send(method, url, headers, content, limits, server_hostname)
            return Answer(direct.status, direct.headers, direct.raw_headers, _pieces(direct), partial(_close, direct))
        extensions: dict[str, Any] = {"timeout": limits}
        if server_hostname is not None:
            extensions["sni_hostname"] = server_hostname
        request = httpx.Request(method, url, headers=headers, content=content, extensions=extensions)
        response = await self._door.handle_async_request(request)
        known = response.headers
        return Answer(response.status_code, known, known.raw, response.aiter_bytes(), response.aclose)


async def _close(response: "aiohttp.ClientResponse") -> None:
    with _NAMED:
        await response.__aexit__(None, None, None)


async def _pieces(response: "aiohttp.ClientResponse") -> AsyncIterator[bytes]:
    from httpx_aiohttp.transport import AiohttpResponseStream

    with _NAMED:
        if "content-encoding" in response.headers:
            stream = AiohttpResponseStream(response)
            async for piece in httpx.Response(200, headers=response.raw_headers, stream=stream).aiter_bytes():
                yield piece
        else:
            async for piece in response.content.iter_any():
                yield piece


@lru_cache(maxsize=1)
def _tls() -> "ssl.SSLContext":
    """Reading the certificates takes longer than a request; they are read once."""
    return httpx.create_ssl_context()


class _Transport(httpx.AsyncBaseTransport):
    """One pool for direct connections, and one for each proxy that the environment asks for."""

    def __init__(self, max_connections: int) -> None:
        self._max_connections = max_connections
        self._pools: dict[str | None, AiohttpTransport] = {None: self._pool(None)}
        self._proxies: dict[str, str] = getproxies()

    def _pool(self, proxy: str | None) -> "AiohttpTransport":
        import aiohttp
        from httpx_aiohttp import AiohttpTransport

        connector = _connector(limit=self._max_connections, keepalive_timeout=KEEPALIVE_S, ssl=_tls())
        # With a jar, a session would send one caller's cookies along with another caller's request.
        session = aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        return AiohttpTransport(client=session, verify=_tls(), proxy=None if proxy is None else httpx.Proxy(proxy))

    def proxy_of(self, url: httpx.URL) -> str | None:
        """The proxy that the environment asks for on the way to the URL."""
        if not self._proxies:
            return None
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        return None if proxy is not None and proxy_bypass(url.host) else proxy

    def _pool_for(self, url: httpx.URL) -> "AiohttpTransport":
        proxy = self.proxy_of(url)
        if proxy not in self._pools:
            self._pools[proxy] = self._pool(proxy)
        return self._pools[proxy]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        pool = self._pool_for(request.url)
        repeatable = isinstance(request.stream, httpx.ByteStream)
        response = await _unless_stale(lambda: pool.handle_async_request(request), repeatable=repeatable)
        if "set-cookie" in response.headers:
            # httpx's client has a jar too; what it never sees it cannot keep.
            del response.headers["set-cookie"]
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _NamedStream(response.stream)
        return response

    async def send(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        content: bytes,
        limits: Mapping[str, float | None],
        server_hostname: str | None = None,
    ) -> "aiohttp.ClientResponse":
        """The response without httpx's objects; `limits` and `server_hostname` as of `Client.begin`."""
        import aiohttp

        session = self._pool_for(url).get_client()
        timeout = aiohttp.ClientTimeout(
            sock_connect=limits["connect"], sock_read=limits["read"], connect=limits["pool"]
        )

        async def attempt() -> aiohttp.ClientResponse:
            return await session.request(
                method,
                str(url),
                data=content or None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=server_hostname,
            )

        return await _unless_stale(attempt, repeatable=True)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


async def _unless_stale(attempt: Callable[[], Awaitable[ResponseT]], *, repeatable: bool) -> ResponseT:
    """Tries again when a connection that was kept from an earlier exchange turns out to be closed.

    A server may close it at any moment, also between our look at it and our writing to it, and some do so after each
    stream. Nothing was answered then, and practically nothing can have been done.
    """
    for _ in range(MAX_STALE_CONNECTIONS):
        _was_kept.set(True)
        try:
            with _NAMED:
                return await attempt()
        except (httpx.ReadError, httpx.RemoteProtocolError):
            if not _was_kept.get() or not repeatable:
                raise
    with _NAMED:
        return await attempt()


_was_kept: ContextVar[bool] = ContextVar("_was_kept", default=False)
"""Whether the exchange this task makes goes over a connection that was kept: unless one was opened for it."""


def _connector(**settings: Any) -> "aiohttp.TCPConnector":
    """A connector that tells when it opens a connection; aiohttp's tracing would cost an eighth of each call."""
    import aiohttp

    class Telling(aiohttp.TCPConnector):
        async def _create_connection(self, *arguments: Any, **more: Any) -> Any:
            _was_kept.set(False)
            return await super()._create_connection(*arguments, **more)

    return Telling(**settings)


class _NamedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _NAMED:
            async for piece in self._stream:
                yield piece

    async def aclose(self) -> None:
        with _NAMED:
            await self._stream.aclose()


class _NamedFailures:
    """Failures leave it under httpx's names for them.

    `httpx_aiohttp` calls every lost connection a connect timeout, and lets malformed answers through unnamed.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        named = None if error is None else _named(error)
        if named is not None:
            raise named from error


_NAMED = _NamedFailures()


def _named(error: BaseException) -> httpx.TransportError | None:
    import aiohttp

    source = error if isinstance(error, aiohttp.ClientError) else error.__cause__
    match source:
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout("connecting took too long")
        case aiohttp.ServerTimeoutError():
            return httpx.ReadTimeout("no data came in time")
        case aiohttp.ClientConnectorCertificateError():
            return httpx.ConnectError(f"its certificate is not trusted: {source.certificate_error}")
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(source.os_error.strerror or str(source))
        case aiohttp.ServerDisconnectedError():
            return httpx.RemoteProtocolError("the server closed the connection without an answer")
        case aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError("the server closed the connection within its answer")
        case aiohttp.ClientOSError():
            return httpx.ReadError(source.strerror or "the connection was lost")
        case aiohttp.ClientError() if source is error:
            return httpx.RemoteProtocolError("the server's answer is not valid HTTP")
        case _:
            return None
