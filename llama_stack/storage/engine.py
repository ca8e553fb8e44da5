"""From a database URL to an engine: SQLite through aiosqlite, PostgreSQL through asyncpg.

SQLite is set up for several processes on one file: write-ahead log (readers never wait for the writer), a busy
timeout (writers wait for each other instead of failing) and transactions that say at their beginning that they will
write. A transaction that reads first and then wants to write cannot wait: SQLite answers "database is locked" at
once (https://www.sqlite.org/isolation.html), so every write here begins with BEGIN IMMEDIATE.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy import create_engine as create_sync_engine
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool

from llama_stack.errors import ConfigError, ProviderUnavailable
from llama_stack.storage.lost import drop_lost_connections

BUSY_TIMEOUT_S = 30.0
POOL_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 60.0
MIGRATION_TIMEOUT_S = 3600.0
"""How long a migration may take, and another process may wait for it."""
READERS = 8
"""Connections of one process at most; each SQLite connection is a thread."""

FORMS = "write sqlite:///path/to/stack.db or postgresql://user:password@host:5432/database"


@dataclass(frozen=True)
class Location:
    """Where a database is. `file` is None for PostgreSQL and for SQLite in memory; `shown` has no password in it."""

    url: str
    dialect: str
    file: Path | None
    shown: str

    @property
    def in_memory(self) -> bool:
        return self.dialect == "sqlite" and self.file is None


def default_url(home: Path) -> str:
    """The URL of the SQLite file in a stack's home."""
    return f"sqlite:///{home.expanduser().absolute() / 'stack.db'}"


def locate(url: str) -> Location:
    """Read a database URL. Raises ConfigError for one that is neither SQLite nor PostgreSQL."""
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise ConfigError("the storage URL cannot be read", where="storage.url", remedy=FORMS) from error
    match parts.drivername:
        case "sqlite" | "sqlite+aiosqlite":
            path = parts.database
            if path is None or path in ("", ":memory:"):
                return Location(url, "sqlite", None, "sqlite in memory")
            file = Path(path).expanduser().absolute()
            return Location(url, "sqlite", file, str(file))
        case "postgresql" | "postgres" | "postgresql+asyncpg":
            # asyncpg reads the address itself, so libpq's options (sslmode, several hosts, sockets) keep working.
            dsn = "postgresql://" + url.split("://", 1)[1]
            shown = parts.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
            return Location(dsn, "postgresql", None, shown)
    raise ConfigError(f"no storage driver for {parts.drivername}://", where="storage.url", remedy=FORMS)


def unavailable(location: Location, error: BaseException) -> ProviderUnavailable:
    """The error callers get while the database cannot be used; it may pass by itself."""
    reason = (str(getattr(error, "orig", None) or error) or type(error).__name__).splitlines()[0]
    return ProviderUnavailable(f"the database {location.shown} cannot serve now: {reason}", code="storage_unavailable")


def create_engine(location: Location, *, migrates: bool = False) -> AsyncEngine:
    """An engine for one event loop of one process; nothing is connected yet. Dispose of it on the same loop."""
    if location.dialect == "sqlite":
        return _sqlite_engine(location, MIGRATION_TIMEOUT_S if migrates else BUSY_TIMEOUT_S)
    return _postgres_engine(location, MIGRATION_TIMEOUT_S if migrates else STATEMENT_TIMEOUT_S)


def _postgres_engine(location: Location, timeout_s: float) -> AsyncEngine:
    try:
        import asyncpg
    except ImportError as error:
        raise ConfigError(
            "PostgreSQL needs the package asyncpg", where="storage.url", remedy="pip install 'llama-stack[postgres]'"
        ) from error

    async def connect() -> Any:
        try:
            return await asyncpg.connect(
                location.url,
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=timeout_s,
                # Compiling a query costs more than these short ones take.
                server_settings={"application_name": "llama-stack", "jit": "off"},
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise unavailable(location, error) from error

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=READERS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    drop_lost_connections(engine.sync_engine)
    return engine


def _sqlite_engine(location: Location, timeout_s: float) -> AsyncEngine:
    engine = create_async_engine(
        "sqlite+aiosqlite://" if location.file is None else f"sqlite+aiosqlite:///{location.file}",
        connect_args={"timeout": timeout_s},
        poolclass=AsyncAdaptedQueuePool,
        # A database in memory is its connection: there must be one, and it must stay.
        pool_size=1 if location.in_memory else READERS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,
    )

    _set_up(engine.sync_engine)
    return engine


def create_thread_engine(location: Location) -> Engine:
    """An engine for worker threads on a SQLite file: a whole transaction there costs one change of threads, where
    aiosqlite changes twice for every statement.
    """
    engine = create_sync_engine(
        f"sqlite:///{location.file}",
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=READERS + 1,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,
    )
    _set_up(engine)
    return engine


def _set_up(engine: Engine) -> None:
    """Every connection checks references; every transaction says at its beginning whether it will write."""

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        # Transactions are begun below; Python's own driver would begin them late and never IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = NORMAL")
        # What is deleted is overwritten; see `erasing` for the log.
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("stack_writes", False)
        execute_plainly(connection, "BEGIN IMMEDIATE" if writes else "BEGIN")


def execute_plainly(connection: Connection, sql: str, values: Sequence[Any] = ()) -> int:
    """Have SQLite's driver execute this, without SQLAlchemy's way to it, which costs more than most statements do.

    Gives the number of rows changed. Raises what SQLAlchemy raises, without the values.
    """
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, values)
        return cursor.rowcount
    except sqlite3.Error as error:
        raise DBAPIError.instance(
            sql, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
        ) from error
    finally:
        cursor.close()


async def prepare_file(file: Path) -> None:
    """Create the SQLite file, readable by its owner only, and switch it to the write-ahead log.

    Raises ConfigError where the path cannot be written or holds something else.
    """
    await asyncio.to_thread(_prepare_file, file)


def _prepare_file(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Only a new file may be opened past SQLite: closing it would drop the locks that other connections of this
        # process hold on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        mode = _switch_to_wal(file)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"{file} cannot be used as the database: {error}",
            where="storage.url",
            remedy="name a writable path in storage.url, or move that file away",
        ) from error
    if mode != "wal":
        raise ConfigError(
            f"{file} lies on a file system without the shared memory SQLite needs",
            where="storage.url",
            remedy="put the file on a local disk, or use PostgreSQL",
        )


def _switch_to_wal(file: Path) -> str:
    """The journal mode after the switch. Lasts in the file, so only its first user really switches."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)
    try:
        while True:
            try:
                return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
            except sqlite3.OperationalError as error:
                # The busy timeout does not cover this one statement when two processes switch a new file.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
    finally:
        connection.close()
