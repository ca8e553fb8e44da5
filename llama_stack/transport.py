"""The network side of the one door out: httpx's API over aiohttp's connections.

`httpx_aiohttp` joins the two. What is added here: nothing of one exchange is kept for another (cookies), proxies of
the environment are honoured, one TLS context serves all, and failures carry httpx's proper names.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies, proxy_bypass

import httpx

if TYPE_CHECKING:
    import ssl

    import aiohttp
    from httpx_aiohttp import AiohttpTransport

KEEPALIVE_S = 30
MAX_STALE_CONNECTIONS = 5


def open_transport(*, max_connections: int = 256) -> httpx.AsyncBaseTransport:
    """A transport over a connection pool of its own. Must be called inside a running event loop."""
    return _Transport(max_connections)


class Client(httpx.AsyncClient):
    """httpx's client with a short way for the calls that are most of the work.

    `exchange` needs none of the client's redirects, cookies and authentication flow, and saves half of a call's cost.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport, **settings: Any) -> None:
        super().__init__(transport=transport, **settings)
        self._door = transport
        self._urls: dict[str, httpx.URL] = {}

    def merged(self, headers: Mapping[str, str]) -> httpx.Headers:
        """The client's headers and these, to be used for many calls."""
        merged = httpx.Headers(self.headers)
        merged.update(headers)
        return merged

    @asynccontextmanager
    async def exchange(
        self, method: str, path: str, *, headers: httpx.Headers, content: bytes, patience_s: float | None = None
    ) -> AsyncIterator[httpx.Response]:
        """The response, its body unread; closed at the end of the context.

        path: below the base URL, one of few. headers: all that are sent, from `merged`. patience_s: longest wait for
        data, where that is not the client's own read timeout.
        """
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = self.base_url.join(path)
        limits = self.timeout.as_dict()
        if patience_s is not None:
            limits["read"] = patience_s
        extensions = {"timeout": limits}
        request = httpx.Request(method, url, headers=headers, content=content, extensions=extensions)
        response = await self._door.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    @staticmethod
    def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
        """The body as it comes, decompressed."""
        if isinstance(response.stream, httpx.AsyncByteStream) and "content-encoding" not in response.headers:
            return aiter(response.stream)
        return response.aiter_bytes()


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

        connector = aiohttp.TCPConnector(limit=self._max_connections, keepalive_timeout=KEEPALIVE_S, ssl=_tls())
        # With a jar, a session would send one caller's cookies along with another caller's request.
        session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_tells_kept_connections()],
        )
        return AiohttpTransport(client=session, verify=_tls(), proxy=None if proxy is None else httpx.Proxy(proxy))

    def _pool_for(self, url: httpx.URL) -> "AiohttpTransport":
        proxy = None
        if self._proxies:
            proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
            if proxy is not None and proxy_bypass(url.host):
                proxy = None
        if proxy not in self._pools:
            self._pools[proxy] = self._pool(proxy)
        return self._pools[proxy]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._send(request)
        if "set-cookie" in response.headers:
            # httpx's client has a jar too; what it never sees it cannot keep.
            del response.headers["set-cookie"]
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _NamedStream(response.stream)
        return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Sends again when a connection that was kept from an earlier exchange turns out to be closed.

        A server may close it at any moment, also between our look at it and our writing to it, and some do so after
        each stream. Nothing was answered then, and practically nothing can have been done.
        """
        for _ in range(MAX_STALE_CONNECTIONS):
            _was_kept.set(False)
            try:
                with _NAMED:
                    return await self._pool_for(request.url).handle_async_request(request)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                if not _was_kept.get() or not isinstance(request.stream, httpx.ByteStream):
                    raise
        with _NAMED:
            return await self._pool_for(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()


_was_kept: ContextVar[bool] = ContextVar("_was_kept", default=False)
"""Whether the exchange this task is about to make goes over a connection kept from an earlier one."""


def _tells_kept_connections() -> "aiohttp.TraceConfig":
    import aiohttp

    async def kept(*_: object) -> None:
        _was_kept.set(True)

    tells = aiohttp.TraceConfig()
    tells.on_connection_reuseconn.append(kept)
    return tells


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
