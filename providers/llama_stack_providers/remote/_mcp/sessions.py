"""All sessions of the provider: one for each server, owner and set of credentials, opened when it is first used."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from mcp import Client
from mcp_types import CallToolResult, Tool

from llama_stack.errors import ProviderUnavailable
from llama_stack.provider import Ground
from llama_stack_providers.remote._mcp.addresses import Resolve
from llama_stack_providers.remote._mcp.endpoints import Endpoint
from llama_stack_providers.remote._mcp.failures import NotDelivered
from llama_stack_providers.remote._mcp.links import Opener
from llama_stack_providers.remote._mcp.session import Session
from llama_stack_providers.remote._mcp.settings import Config

AnswerT = TypeVar("AnswerT")


class Sessions:
    def __init__(self, config: Config, ground: Ground, resolve: Resolve) -> None:
        self._config = config
        self._ground = ground
        self._resolve = resolve
        self._sessions: dict[tuple[object, ...], Session] = {}  # the longest unused first
        self._alive: set[Session] = set()

    async def tools(self, endpoint: Endpoint) -> list[Tool]:
        """The server's tools in its order. Raises StackError."""
        return await self._with_session(endpoint, lambda session: session.tools())

    async def call(self, endpoint: Endpoint, name: str, arguments: dict[str, object]) -> CallToolResult:
        """The tool's result. Raises ServerRefused for the server's own objection, another StackError otherwise."""

        async def work(client: Client) -> CallToolResult:
            return await client.call_tool(name, arguments)

        async def use(session: Session) -> CallToolResult:
            await session.tools()  # the SDK needs the tool's schemas, and would else ask for them after the call
            return await session.ask(work, f"answer the call of {name}")

        return await self._with_session(endpoint, use)

    async def ask(self, endpoint: Endpoint, work: Callable[[Client], Awaitable[AnswerT]], deed: str) -> AnswerT:
        """The answer of `work`, which changes nothing at the server. deed: what it is to do, for messages.

        Raises as `call` does.
        """
        return await self._with_session(endpoint, lambda session: session.ask(work, deed))

    async def _with_session(self, endpoint: Endpoint, use: Callable[[Session], Awaitable[AnswerT]]) -> AnswerT:
        """What `use` gives; on a new session where the old one turns out to be gone before anything was done."""
        try:
            return await use(self._session(endpoint))
        except NotDelivered:
            pass
        try:
            return await use(self._session(endpoint))
        except NotDelivered as lost:
            raise lost.failure from lost

    def _session(self, endpoint: Endpoint) -> Session:
        key = endpoint.key
        session = self._sessions.pop(key, None)
        if session is None or session.is_over:
            self._make_room()
            opener = Opener(endpoint, self._ground, self._config, self._resolve)
            session = Session(
                opener,
                self._config,
                who=endpoint.name,
                secrets=endpoint.secrets,
                is_process=endpoint.process is not None,
            )
            self._keep(session)
        self._sessions[key] = session
        return session

    def _keep(self, session: Session) -> None:
        self._alive.add(session)
        session.owner.add_done_callback(lambda _: self._alive.discard(session))

    def _make_room(self) -> None:
        """Raises ProviderUnavailable when every session is at work, or too many are still closing."""
        for key in [key for key, session in self._sessions.items() if session.is_over]:
            del self._sessions[key]
        limit = self._config.max_sessions
        if len(self._sessions) >= limit:
            idle = next((key for key, session in self._sessions.items() if session.is_idle), None)
            if idle is None:
                raise ProviderUnavailable(f"all {limit} MCP sessions are at work; ask later or raise max_sessions")
            self._sessions.pop(idle).end()
        if len(self._alive) >= 2 * limit:
            raise ProviderUnavailable(f"{len(self._alive)} MCP sessions are open or closing; ask later")

    async def close(self) -> None:
        """End every session; returns when nothing of any is left."""
        async with asyncio.TaskGroup() as group:
            for session in list(self._alive):
                group.create_task(session.close())
