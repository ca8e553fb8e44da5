"""The schema's version: what it is, and how a database is brought to another one.

Migrations are numbered modules with two functions. All that are due run in one transaction under one lock, so a
server that is killed in the middle leaves the old schema whole, and of two servers that start together one migrates
while the other waits and then finds nothing to do.
"""

import asyncio
import importlib
import pkgutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, delete, insert, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from llama_stack.errors import ConfigError
from llama_stack.storage.columns import UtcDateTime, now
from llama_stack.storage.engine import Location

SHIPPED_MIGRATIONS = "llama_stack.storage.migrations"
MIGRATION_LOCK = 0x6C6C616D61
"""Key of the PostgreSQL advisory lock: "llama" in ASCII."""

schema_version = Table(
    "schema_version",
    MetaData(),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("applied_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True)
class Migration:
    """One step of the schema. Both functions run inside a transaction that is not theirs to end."""

    version: int
    name: str
    upgrade: Callable[[Connection], None]
    downgrade: Callable[[Connection], None]


@dataclass(frozen=True)
class SchemaStatus:
    """current: version of the database, 0 when it is empty. latest: version this code works with."""

    database: str
    current: int
    latest: int
    pending: list[str]


@cache
def load_migrations() -> tuple[Migration, ...]:
    """The shipped migrations in order; their numbers count up from 1 without a gap."""
    found: list[Migration] = []
    folder = importlib.import_module(SHIPPED_MIGRATIONS)
    for entry in sorted(pkgutil.iter_modules(folder.__path__), key=lambda entry: entry.name):
        number, _, name = entry.name.partition("_")
        module = importlib.import_module(f"{SHIPPED_MIGRATIONS}.{entry.name}")
        found.append(Migration(int(number), name, module.upgrade, module.downgrade))
    return tuple(found)


async def read_status(
    engine: AsyncEngine, location: Location, migrations: Sequence[Migration] | None = None
) -> SchemaStatus:
    """Where the database stands. Takes no lock, so a running server does not notice."""
    async with engine.connect() as connection:
        current = await connection.run_sync(_current_version)
    return status_of(location, current, migrations)


def status_of(location: Location, current: int, migrations: Sequence[Migration] | None = None) -> SchemaStatus:
    known = load_migrations() if migrations is None else migrations
    pending = [f"{one.version:04d} {one.name}" for one in known if one.version > current]
    return SchemaStatus(location.shown, current, len(known), pending)


async def migrate_schema(
    engine: AsyncEngine, location: Location, target: int | None = None, migrations: Sequence[Migration] | None = None
) -> list[str]:
    """Bring the schema up or down to `target`, by default to the newest version. Returns what was done, in order.

    A SQLite file that holds a schema already is copied first to `<file>.schema-<version>.bak`.
    Raises ConfigError when the database is newer than this code or the target is unknown.
    """
    known = load_migrations() if migrations is None else migrations
    target = len(known) if target is None else target
    if not 0 <= target <= len(known):
        raise ConfigError(f"there is no schema version {target}", remedy=f"choose one from 0 to {len(known)}")
    async with _exclusive(engine) as connection:
        current = await connection.run_sync(_current_version)
        refuse_newer(status_of(location, current, known))
        if current == target:
            return []
        if location.file is not None and current > 0:
            await asyncio.to_thread(_back_up, location.file, current)
        return await connection.run_sync(_run, known, current, target)


def refuse_newer(status: SchemaStatus) -> None:
    """Raise ConfigError for a schema this code does not know: writing to it could destroy what it cannot see."""
    if status.current > status.latest:
        raise ConfigError(
            f"the database {status.database} has schema version {status.current}; "
            f"this llama-stack knows versions up to {status.latest}",
            where="storage.url",
            remedy="install a newer llama-stack, or run `llama db rollback` with the version that wrote it",
        )


def refuse_older(status: SchemaStatus) -> None:
    if status.current < status.latest:
        raise ConfigError(
            f"the database {status.database} has schema version {status.current}, {status.latest} is needed",
            where="storage.url",
            remedy="run `llama db upgrade`",
        )


@asynccontextmanager
async def _exclusive(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction that no other migration runs beside."""
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            async with connection.begin():
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
                yield connection
            return
        # Rebuilding a table drops the old one; with foreign keys on that would delete the rows that refer to it.
        # SQLite ignores this switch inside a transaction, hence past SQLAlchemy, which would begin one.
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.execute_fetchall("PRAGMA foreign_keys = OFF")
        try:
            await connection.execution_options(stack_writes=True)
            async with connection.begin():
                yield connection
                await connection.run_sync(_check_foreign_keys)
        finally:
            await driver.execute_fetchall("PRAGMA foreign_keys = ON")


def _check_foreign_keys(connection: Connection) -> None:
    orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if orphans:
        raise RuntimeError(f"a migration left {len(orphans)} rows of {orphans[0][0]} that refer to nothing")


def _current_version(connection: Connection) -> int:
    if not inspect(connection).has_table(schema_version.name):
        return 0
    versions = connection.execute(select(schema_version.c.version)).scalars().all()
    return max(versions, default=0)


def _run(connection: Connection, known: Sequence[Migration], current: int, target: int) -> list[str]:
    schema_version.create(connection, checkfirst=True)
    done: list[str] = []
    for migration in known[current:target]:
        migration.upgrade(connection)
        row = {"version": migration.version, "name": migration.name, "applied_at": now()}
        connection.execute(insert(schema_version).values(row))
        done.append(f"upgraded to {migration.version:04d} {migration.name}")
    for migration in reversed(known[target:current]):
        migration.downgrade(connection)
        connection.execute(delete(schema_version).where(schema_version.c.version == migration.version))
        done.append(f"rolled back {migration.version:04d} {migration.name}")
    return done


def _back_up(file: Path, version: int) -> None:
    """Copy the committed state of the file. A second connection reads it while the first holds the write lock."""
    target = file.with_name(f"{file.name}.schema-{version}.bak")
    unfinished = target.with_name(f"{target.name}.part")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(unfinished)) as copy:
        source.backup(copy)
    unfinished.replace(target)
