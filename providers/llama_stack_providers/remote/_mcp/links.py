"""Opening a connection to an MCP server: a process of our own, streamable HTTP, or SSE."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import anyio
import httpx2
from mcp import Client, MCPError
from mcp.client import IncomingMessage
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp_types import Implementation, JSONRPCError, JSONRPCResponse, ToolListChangedNotification

from llama_stack.errors import ProviderFailed
from llama_stack.provider import Ground
from llama_stack_providers.remote._mcp.addresses import Resolve
from llama_stack_providers.remote._mcp.bridge import Bridge
from llama_stack_providers.remote._mcp.endpoints import Endpoint
from llama_stack_providers.remote._mcp.exchange import Exchange, current_exchange
from llama_stack_providers.remote._mcp.process import process_streams
from llama_stack_providers.remote._mcp.settings import Config, StdioServer
from llama_stack_providers.remote._mcp.stderr import Stderr

MAX_UNASKED_MESSAGES = 10_000
"""Messages between two answers. A long call may report its progress often; more than this is a flood."""
_TRY_SSE = frozenset({400, 404, 405})
"""Answers of a server that speaks only the older transport (MCP specification, "Backwards Compatibility")."""


class Ending:
    """Whether and why a connection is at its end.

    lost: set when nothing comes any more. reason: what the server did, where we had to end it ("sent ...").
    """

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.reason: str | None = None
        self._opening: Exchange = current_exchange.get()

    def end(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
        self._opening.fail(ProviderFailed(f"it {reason}"))
        self.lost.set()


@dataclass
class Link:
    """An open connection."""

    client: Client
    ending: Ending


@dataclass
class Opener:
    """Opens a link to one endpoint. resolve: for names that must lead to public addresses."""

    endpoint: Endpoint
    ground: Ground
    config: Config
    resolve: Resolve
    _stderr: Stderr | None = field(default=None, init=False)

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
        self._stderr = Stderr()
        ending = Ending()
        with self._stderr.writing() as stream:
            transport = process_streams(server, stream, self.config.max_answer_bytes, ending.end)
            async with _client(transport, ending, tools_changed) as link:
                stream.close()
                yield link

    @asynccontextmanager
    async def _streamable_link(self, tools_changed: Callable[[], None]) -> AsyncIterator[Link]:
        ending = Ending()
        async with self._http(ending, answers_elsewhere=False) as http:
            # The bridge bounds the events, and says whose they were.
            transport = streamable_http_client(self.endpoint.url, http_client=http, max_sse_event_size=None)
            async with _client(transport, ending, tools_changed) as link:
                yield link

    @asynccontextmanager
    async def _sse_link(self, tools_changed: Callable[[], None]) -> AsyncIterator[Link]:
        ending = Ending()
        async with self._http(ending, answers_elsewhere=True) as http:

            def ours(headers: object = None, timeout: object = None, auth: object = None) -> httpx2.AsyncClient:
                return http

            transport = sse_client(self.endpoint.url, httpx_client_factory=ours)
            async with _client(transport, ending, tools_changed) as link:
                yield link

    @asynccontextmanager
    async def _http(self, ending: Ending, *, answers_elsewhere: bool) -> AsyncIterator[httpx2.AsyncClient]:
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
                end=ending.end,
                sent=self.endpoint.headers,
            )
            # Streams stay open between two events for as long as the session lasts; questions have their own limit.
            timeout = httpx2.Timeout(None, connect=self.config.connect_timeout_s)
            yield httpx2.AsyncClient(transport=bridge, timeout=timeout, trust_env=False)


@asynccontextmanager
async def _client(
    transport: AbstractAsyncContextManager[TransportStreams], ending: Ending, tools_changed: Callable[[], None]
) -> AsyncIterator[Link]:
    async def heard(message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            tools_changed()

    us = Implementation(name="llama-stack", version=version("llama-stack"))
    async with Client(_watched(transport, ending), message_handler=heard, client_info=us, cache=None) as client:
        yield Link(client, ending)


@asynccontextmanager
async def _watched(
    transport: AbstractAsyncContextManager[TransportStreams], ending: Ending
) -> AsyncIterator[TransportStreams]:
    """The transport, whose end is told: the SDK tells it only to those who ask next."""
    async with transport as (incoming, outgoing):
        yield _Watched(incoming, ending), outgoing


class _Watched:
    """A stream of incoming messages that tells its end, and ends when too many come that nobody asked for.

    Each of those costs a task of the SDK, and one that wants an answer waits where the server takes none.
    """

    def __init__(self, incoming: ReadStream[SessionMessage | Exception], ending: Ending) -> None:
        self._incoming = incoming
        self._ending = ending
        self._unasked = 0

    @property
    def last_context(self) -> Any:
        """The sender's context variables, where the stream carries them; the SDK looks for this name."""
        return getattr(self._incoming, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        with self._telling():
            message = await self._incoming.receive()
            if self._is_flood(message):
                raise anyio.EndOfStream
            return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        with self._telling():
            message = await self._incoming.__anext__()
            if self._is_flood(message):
                raise StopAsyncIteration
            return message

    def _is_flood(self, message: SessionMessage | Exception) -> bool:
        is_answer = isinstance(message, SessionMessage) and isinstance(message.message, JSONRPCResponse | JSONRPCError)
        self._unasked = 0 if is_answer else self._unasked + 1
        if self._unasked <= MAX_UNASKED_MESSAGES:
            return False
        self._ending.end(f"sent more than {MAX_UNASKED_MESSAGES} messages without an answer among them")
        return True

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._ending.lost.set()
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
