"""Opening a connection to an MCP server: a process of our own, streamable HTTP, or SSE."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self, TextIO

import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client import IncomingMessage
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import Implementation, ToolListChangedNotification

from llama_stack.provider import Ground
from llama_stack_providers.remote._mcp.addresses import Resolve
from llama_stack_providers.remote._mcp.bridge import Bridge
from llama_stack_providers.remote._mcp.endpoints import Endpoint
from llama_stack_providers.remote._mcp.exchange import current_exchange
from llama_stack_providers.remote._mcp.settings import Config, StdioServer

MAX_STDERR_BYTES = 2000
LAST_WORDS_WAIT_S = 0.5
_TRY_SSE = frozenset({400, 404, 405})
"""Answers of a server that speaks only the older transport (MCP specification, "Backwards Compatibility")."""


@dataclass
class Link:
    """An open connection. lost: set when the server has gone."""

    client: Client
    lost: asyncio.Event


@dataclass
class Opener:
    """Opens a link to one endpoint. resolve: for names that must lead to public addresses."""

    endpoint: Endpoint
    ground: Ground
    config: Config
    resolve: Resolve
    _stderr: "_Stderr | None" = field(default=None, init=False)

    async def last_words(self) -> str:
        """The last line that an ended process wrote to stderr; empty for a server that is no process of ours."""
        return "" if self._stderr is None else await self._stderr.last_line()

    @asynccontextmanager
    async def open(self, tools_changed: Callable[[], None]) -> AsyncIterator[Link]:
        async with AsyncExitStack() as exits:
            yield await self._entered(exits, tools_changed)

    async def _entered(self, exits: AsyncExitStack, tools_changed: Callable[[], None]) -> Link:
        endpoint = self.endpoint
        if endpoint.process is not None:
            return await exits.enter_async_context(self._process_link(endpoint.process, tools_changed))
        if endpoint.transport == "sse":
            return await exits.enter_async_context(self._sse_link(tools_changed))
        exchange = current_exchange.get()
        try:
            return await exits.enter_async_context(self._streamable_link(tools_changed))
        except (MCPError, ExceptionGroup) as error:
            status = exchange.status
            if endpoint.transport != "auto" or status not in _TRY_SSE:
                raise
            try:
                return await exits.enter_async_context(self._sse_link(tools_changed))
            except Exception:  # whatever it is, the older transport is not spoken either
                exchange.status, exchange.failure = status, None
                raise error from None

    @asynccontextmanager
    async def _process_link(self, server: StdioServer, tools_changed: Callable[[], None]) -> AsyncIterator[Link]:
        parameters = StdioServerParameters(
            command=server.command,
            args=server.args,
            env={name: value.get_secret_value() for name, value in server.env.items()},
            cwd=server.cwd,
        )
        self._stderr = _Stderr()
        with self._stderr.writing() as stream:
            async with _client(stdio_client(parameters, errlog=stream), tools_changed) as link:
                stream.close()
                yield link

    @asynccontextmanager
    async def _streamable_link(self, tools_changed: Callable[[], None]) -> AsyncIterator[Link]:
        async with self._http(answers_elsewhere=False) as http:
            transport = streamable_http_client(
                self.endpoint.url, http_client=http, max_sse_event_size=self.config.max_answer_bytes
            )
            async with _client(transport, tools_changed) as link:
                yield link

    @asynccontextmanager
    async def _sse_link(self, tools_changed: Callable[[], None]) -> AsyncIterator[Link]:
        async with self._http(answers_elsewhere=True) as http:

            def ours(headers: object = None, timeout: object = None, auth: object = None) -> httpx2.AsyncClient:
                return http

            async with _client(sse_client(self.endpoint.url, httpx_client_factory=ours), tools_changed) as link:
                yield link

    @asynccontextmanager
    async def _http(self, *, answers_elsewhere: bool) -> AsyncIterator[httpx2.AsyncClient]:
        """A client of this session's own, so that neither headers nor connections are ever another caller's."""
        async with self.ground.http(
            self.endpoint.url,
            headers=self.endpoint.headers,
            max_connections=self.config.max_parallel_calls + 4,
        ) as http:
            bridge = Bridge(
                http,
                resolve=self.resolve if self.endpoint.is_guarded else None,
                max_answer_bytes=self.config.max_answer_bytes,
                answers_elsewhere=answers_elsewhere,
            )
            # Streams stay open between two events for as long as the session lasts; questions have their own limit.
            timeout = httpx2.Timeout(None, connect=self.config.connect_timeout_s)
            yield httpx2.AsyncClient(transport=bridge, timeout=timeout, trust_env=False)


@asynccontextmanager
async def _client(
    transport: AbstractAsyncContextManager[TransportStreams], tools_changed: Callable[[], None]
) -> AsyncIterator[Link]:
    async def heard(message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            tools_changed()

    lost = asyncio.Event()
    us = Implementation(name="llama-stack", version=version("llama-stack"))
    async with Client(_watched(transport, lost), message_handler=heard, client_info=us, cache=None) as client:
        yield Link(client, lost)


@asynccontextmanager
async def _watched(
    transport: AbstractAsyncContextManager[TransportStreams], lost: asyncio.Event
) -> AsyncIterator[TransportStreams]:
    """The transport, whose end is told: the SDK tells it only to those who ask next."""
    async with transport as (incoming, outgoing):
        yield _Watched(incoming, lost), outgoing


class _Watched:
    """A stream of incoming messages that sets `lost` when it ends."""

    def __init__(self, incoming: ReadStream[SessionMessage | Exception], lost: asyncio.Event) -> None:
        self._incoming = incoming
        self._lost = lost

    @property
    def last_context(self) -> Any:
        """The sender's context variables, where the stream carries them; the SDK looks for this name."""
        return getattr(self._incoming, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        with self._telling():
            return await self._incoming.receive()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        with self._telling():
            return await self._incoming.__anext__()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._lost.set()
            raise

    async def aclose(self) -> None:
        await self._incoming.aclose()

    async def __aenter__(self) -> Self:
        await self._incoming.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._incoming.__aexit__(kind, error, trace)


class _Stderr:
    """A pipe whose end is kept: it tells why a server did not start, and would otherwise fill our own log."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._ended: threading.Thread | None = None

    @contextmanager
    def writing(self) -> Iterator[TextIO]:
        """What the process gets as its stderr."""
        reading, writing = os.pipe()
        # A thread, because an event loop cannot read a pipe on every system. It ends with the last that can write.
        self._ended = threading.Thread(target=self._read, args=(reading,), name="stderr of an MCP server", daemon=True)
        self._ended.start()
        with os.fdopen(writing, "w") as stream:
            yield stream

    def _read(self, reading: int) -> None:
        with suppress(OSError):
            while piece := os.read(reading, 4096):
                self._tail.extend(piece)
                del self._tail[:-MAX_STDERR_BYTES]
        os.close(reading)

    async def last_line(self) -> str:
        if self._ended is not None:
            await asyncio.to_thread(self._ended.join, LAST_WORDS_WAIT_S)
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""
