"""One open database: short transactions, and the driver's errors turned into ours."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from llama_stack.errors import ConfigError, ProviderUnavailable, StackError
from llama_stack.storage.engine import (
    BUSY_TIMEOUT_S,
    READERS,
    Location,
    create_engine,
    create_thread_engine,
    locate,
    prepare_file,
    unavailable,
)
from llama_stack.storage.erasing import Erasing
from llama_stack.storage.lost import again_if_lost, is_confused, is_lost
from llama_stack.storage.schema import SchemaStatus, migrate_schema, read_status, refuse_newer, refuse_older, status_of

T = TypeVar("T")
Work = Callable[[Connection], object]
"""A part of a transaction."""

CHECKPOINT_WAIT_MS = 50


class Database:
    """Gives out transactions; belongs to one event loop of one process. Get one from `open_database`."""

    def __init__(self, engine: AsyncEngine, location: Location, threads: "Threads | None" = None) -> None:
        self._engine = engine
        self._location = location
        self._threads = threads
        self._write_turn = asyncio.Lock()
        self._erasing = None if threads is None else Erasing(self._truncate_log)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._location.dialect

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that can say ON CONFLICT, which SQLAlchemy spells alike for both databases but keeps apart."""
        return postgresql.insert(table) if self.dialect == "postgresql" else sqlite.insert(table)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads. Raises ProviderUnavailable when the database cannot be reached."""
        with _database_errors(self._location):
            async with self._connected() as connection:
                yield connection

    @asynccontextmanager
    async def write(self, *, erases: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes; committed when the block ends well. Keep it short and do nothing else inside.

        erases: it deletes what somebody wants gone, from the log of a SQLite file, too.
        """
        with _database_errors(self._location):
            async with self._transaction() as connection:
                yield connection
        if erases and self._erasing is not None:
            self._erasing.soon()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        if self.dialect == "postgresql":
            async with self._connected() as connection, connection.begin():
                yield connection
            return
        # SQLite lets one transaction write at a time. Waiting here is fair and cheap; its own waiting is polling.
        async with self._write_turn, self._engine.connect() as connection:
            await connection.execution_options(stack_writes=True)
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection that has just answered, where it was used before."""

        async def connect() -> AsyncConnection:
            return await self._engine.connect()

        async with AsyncExitStack() as closing:
            connection = await again_if_lost(connect)
            closing.push_async_exit(connection)
            yield connection

    async def reading(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one transaction that only reads. It may be run in a thread, and again on another connection
        where the first one is lost, so it touches nothing else.
        """

        async def read() -> T:
            async with self._engine.connect() as connection:
                return await connection.run_sync(work)

        with _database_errors(self._location):
            return await (again_if_lost(read) if self._threads is None else self._threads.read(work))

    async def writing(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one transaction that writes; committed when it returns. As `reading` otherwise.

        Once it has begun it is finished: whoever is cancelled meanwhile is so after it, and may undo what was done.
        """
        if self._threads is None:
            return await _finished(asyncio.ensure_future(self._write(work)))
        with _database_errors(self._location):
            async with self._write_turn:
                return await _finished(self._threads.write(work))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        is_committing = False

        async def write() -> T:
            nonlocal is_committing
            async with self._transaction() as connection:
                done = await connection.run_sync(work)
                is_committing = True
                return done

        with _database_errors(self._location):
            return await again_if_lost(write, may_repeat=lambda: not is_committing)

    @asynccontextmanager
    async def erasing(self) -> AsyncIterator[None]:
        """What is deleted meanwhile leaves the log, too. On PostgreSQL and in memory there is nothing to do."""
        if self._erasing is None:
            yield
            return
        task = asyncio.create_task(self._erasing.run(), name="erasing of what was deleted")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def erased(self) -> None:
        """Returns when what was deleted before is nowhere in a SQLite file and its log."""
        if self._erasing is not None:
            await self._erasing.done()

    async def _truncate_log(self) -> bool:
        assert self._threads is not None
        async with self._write_turn:
            return await _finished(self._threads.truncate_log())


class Threads:
    """Transactions of a SQLite file in worker threads, each whole in one of them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writing: Connection | None = None
        self._readers = ThreadPoolExecutor(READERS, "stack-database-reader")
        self._writer = ThreadPoolExecutor(1, "stack-database-writer")

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def write(self, work: Callable[[Connection], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._writer, self._write, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T]) -> T:
        connection = self._writing_connection()
        with connection.begin():
            return work(connection)

    def _writing_connection(self) -> Connection:
        if self._writing is None:
            self._writing = self._engine.connect().execution_options(stack_writes=True)
        return self._writing

    def truncate_log(self) -> asyncio.Future[bool]:
        """Write the log back and cut it off; False where a reader or another process stands in the way."""
        return asyncio.get_running_loop().run_in_executor(self._writer, self._truncate_log)

    def _truncate_log(self) -> bool:
        try:
            with closing(self._writing_connection().connection.cursor()) as cursor:
                # While it waits for readers, nobody else could write.
                cursor.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
                try:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    ((busy, *_),) = cursor.fetchall()
                finally:
                    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
        except sqlite3.OperationalError:
            return False
        return not busy

    def close(self) -> None:
        """Waits for what is being done."""
        self._readers.shutdown()
        self._writer.shutdown()
        if self._writing is not None:
            self._writing.close()
        self._engine.dispose()


async def _finished(work: asyncio.Future[T]) -> T:
    """The result; where the caller is cancelled, the work is at its end when the caller hears of it."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        if not work.done():
            await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # what it failed with concerns nobody any more
        raise


@contextmanager
def _database_errors(location: Location) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout, OSError) as error:
        raise unavailable(location, error) from error
    except DBAPIError as error:
        if is_lost(error) or _is_short_of_resources(error):
            raise unavailable(location, error) from error
        raise
    except StatementError as error:
        # A value that a column type refused.
        if isinstance(error.orig, StackError):
            raise error.orig from None
        raise
    except Exception as error:
        if is_confused(error):
            raise unavailable(location, error) from error
        raise


def _is_short_of_resources(error: DBAPIError) -> bool:
    # SQLSTATE class 53 is "insufficient resources".
    return str(getattr(error.orig, "sqlstate", "") or "").startswith("53")


@asynccontextmanager
async def open_database(url: str, *, migrate: bool = True) -> AsyncIterator[Database]:
    """Open the database at a URL, its schema brought to the version this code works with.

    url: `sqlite:///path`, `sqlite://` (in memory), `postgresql://...` or `postgres://...`.
    migrate: False refuses an older schema instead of upgrading it.
    Raises ConfigError when the URL, the file, the server behind it or the schema cannot be used.
    """
    async with _opened(url) as (engine, location):
        with _fatal_at_start(location):
            status = await read_status(engine, location)
            refuse_newer(status)
            if not migrate:
                refuse_older(status)
            elif location.in_memory:
                await migrate_schema(engine, location)
            elif status.pending:
                await upgrade_schema(url)
        if location.file is None:
            yield Database(engine, location)
            return
        threads = Threads(create_thread_engine(location))
        try:
            database = Database(engine, location, threads)
            async with database.erasing():
                yield database
        finally:
            await asyncio.to_thread(threads.close)


async def schema_status(url: str) -> SchemaStatus:
    """What `llama db status` shows. Creates nothing: a file that is not there yet has version 0.

    Raises ConfigError when the database cannot be opened.
    """
    location = locate(url)
    with _fatal_at_start(location):
        if location.file is not None and not await asyncio.to_thread(location.file.exists):
            return status_of(location, 0)
    async with _opened(url) as (engine, location):
        with _fatal_at_start(location):
            return await read_status(engine, location)


async def upgrade_schema(url: str) -> list[str]:
    """Apply every pending migration (`llama db upgrade`); returns what was done, empty when nothing was due."""
    async with _opened(url, migrates=True) as (engine, location):
        with _fatal_at_start(location):
            return await migrate_schema(engine, location)


async def rollback_schema(url: str, to: int | None = None) -> list[str]:
    """Undo migrations down to version `to` (`llama db rollback`), by default the last one; returns what was done.

    0 empties the database. Data that only the newer schema can hold is lost; a SQLite file is copied beside itself
    first. Raises ConfigError when the database is not above that version.
    """
    async with _opened(url, migrates=True) as (engine, location):
        with _fatal_at_start(location):
            current = (await read_status(engine, location)).current
            target = max(current - 1, 0) if to is None else to
            if target > current:
                raise ConfigError(
                    f"the database {location.shown} is at schema version {current}: there is no way back to {target}",
                    remedy=f"choose a version from 0 to {current}",
                )
            return await migrate_schema(engine, location, target=target)


@asynccontextmanager
async def _opened(url: str, *, migrates: bool = False) -> AsyncIterator[tuple[AsyncEngine, Location]]:
    location = locate(url)
    if location.file is not None:
        await prepare_file(location.file)
    engine = create_engine(location, migrates=migrates)
    try:
        yield engine, location
    finally:
        await engine.dispose()


@contextmanager
def _fatal_at_start(location: Location) -> Iterator[None]:
    """Without its database a stack cannot start, so what is a passing failure later is a wrong setting here."""
    try:
        with _database_errors(location):
            yield
    except ProviderUnavailable as error:
        raise ConfigError(error.message, where="storage.url", remedy=_start_remedy(location, error.message)) from error


def _start_remedy(location: Location, message: str) -> str:
    if location.dialect != "sqlite":
        return "start the database, or correct storage.url"
    if "disk is full" in message:
        return "make room on its disk, or set LLAMA_STACK_HOME to a folder on a larger one"
    return "end the program that holds it, or name another file in storage.url"
