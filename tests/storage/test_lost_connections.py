"""Connections to PostgreSQL that end at any moment of their use: answered from another one, or told for what it is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import Connection, insert, select

from llama_stack.api.common import Caller
from llama_stack.errors import NotFound, ProviderUnavailable
from llama_stack.storage import Database, KeyValueStore, open_database
from llama_stack.storage.columns import now
from llama_stack.storage.tables import key_values

pytestmark = pytest.mark.postgres


class CuttingProxy:
    """Stands before a PostgreSQL and cuts its connections in the middle of an answer, when it is told to."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._left_bytes: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def cut_after(self, answered_bytes: int | None) -> None:
        """Of all connections together, and each time anew. None cuts no more."""
        self._left_bytes = answered_bytes

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        server_reader, server_writer = await asyncio.open_unix_connection(self._socket)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, server_writer, False))
                group.create_task(self._pass_on(server_reader, writer, True))
        except* (ConnectionError, EOFError):
            pass
        finally:
            writer.transport.abort()
            server_writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        while True:
            received = await reader.read(65_536)
            if not received:
                raise EOFError
            if is_answer and self._left_bytes is not None:
                passed = received[: self._left_bytes]
                self._left_bytes -= len(passed)
                if len(passed) < len(received):
                    self._left_bytes = None
                    writer.write(passed)
                    await writer.drain()
                    raise EOFError
            writer.write(received)
            await writer.drain()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@pytest.fixture
async def proxied(module_postgres_url: str) -> AsyncIterator[tuple[str, CuttingProxy]]:
    """A URL, and what stands behind it."""
    parts = urlsplit(module_postgres_url)
    proxy = CuttingProxy(Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432")
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"postgresql://{parts.username}@127.0.0.1:{port}{parts.path}?sslmode=disable", proxy
    server.close()
    await proxy.stop()


def value_of(database: Database, caller: Caller) -> Any:
    query = select(key_values.c.value).where(key_values.c.owner == caller.owner)
    return database.reading(lambda connection: connection.execute(query).scalars().all())


def adding(key: str, caller: Caller) -> Callable[[Connection], None]:
    row = {"owner": caller.owner, "namespace": "n", "key": key, "value": "1", "updated_at": now()}

    def add(connection: Connection) -> None:
        connection.execute(insert(key_values).values(row))

    return add


async def test_wherever_an_answer_is_cut_it_is_asked_again_or_unavailable(
    proxied: tuple[str, CuttingProxy], alice: Caller
) -> None:
    url, proxy = proxied
    async with open_database(url) as database:
        store = KeyValueStore(database)
        await store.put("n", "k", 1, alice)
        for cut in range(0, 200, 40):
            proxy.cut_after(cut)
            assert await value_of(database, alice) == ["1"]
            proxy.cut_after(cut)
            with suppress(ProviderUnavailable):
                assert await store.get("n", "k", alice) == 1
            proxy.cut_after(cut)
            with suppress(ProviderUnavailable):
                await database.writing(adding("new", alice))
                assert await store.get("n", "new", alice) == 1
            proxy.cut_after(None)
            with suppress(NotFound):
                await store.delete("n", "new", alice)


class Confused:
    """Lets one call of a method of asyncpg's connections fail as it does when their end arrives just then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.connections: list[object] = []
        self.is_armed = False
        real = getattr(asyncpg.Connection, name)

        async def call(connection: Any, *arguments: Any, **named: Any) -> Any:
            self.connections.append(connection)
            if self.is_armed:
                self.is_armed = False
                raise asyncpg.InternalClientError("got result for unknown protocol state 3")
            return await real(connection, *arguments, **named)

        monkeypatch.setattr(asyncpg.Connection, name, call)


@pytest.mark.parametrize("name", ["prepare", "fetchrow"])
async def test_a_connection_that_lost_track_is_not_used_again(
    module_postgres_url: str, alice: Caller, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """prepare: with a statement. fetchrow: when a connection is asked whether it still answers."""
    async with open_database(module_postgres_url) as database:
        await KeyValueStore(database).put("n", "k", 1, alice)
        confused = Confused(monkeypatch, name)
        for write in (adding("a", alice), adding("b", alice)):
            confused.is_armed = True
            await database.writing(write)
            confused.is_armed = True
            assert len(await value_of(database, alice)) >= 2
        assert len(await value_of(database, alice)) == 3
        lost, after = confused.connections[0], confused.connections[1:]
        assert lost not in after


async def test_what_cannot_be_asked_again_is_unavailable(
    module_postgres_url: str, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(module_postgres_url) as database:
        store = KeyValueStore(database)
        confused = Confused(monkeypatch, "prepare")
        confused.is_armed = True
        with pytest.raises(ProviderUnavailable, match="cannot serve now: got result for unknown") as unavailable:
            await store.put("n", "k", 1, alice)
        assert (unavailable.value.http_status, unavailable.value.code) == (503, "storage_unavailable")
        await store.put("n", "k", 1, alice)
        assert await store.get("n", "k", alice) == 1
