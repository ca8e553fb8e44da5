"""Migrations: there and back, under a lock, and never half."""

import asyncio
import sqlite3
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, inspect

from llama_stack.api.agents import AgentConfig
from llama_stack.api.common import Caller
from llama_stack.errors import ConfigError
from llama_stack.storage import (
    AgentStore,
    KeyValueStore,
    open_database,
    rollback_schema,
    schema_status,
    upgrade_schema,
)
from llama_stack.storage.columns import now
from llama_stack.storage.engine import Location, create_engine, locate, prepare_file
from llama_stack.storage.schema import Migration, load_migrations, migrate_schema, schema_version
from llama_stack.storage.tables import metadata
from tests.storage.conftest import PROCESS_LIMIT_S, finished

LATEST = len(load_migrations())


@dataclass
class Bare:
    """A database without the stores: what migrations work on."""

    location: Location
    engine: Any

    async def migrate(self, *added: Migration, target: int | None = None) -> list[str]:
        return await migrate_schema(self.engine, self.location, target, [*load_migrations(), *added])

    async def run(self, work: Callable[[Connection], Any]) -> Any:
        async with self.engine.begin() as connection:
            return await connection.run_sync(work)


@asynccontextmanager
async def bare(url: str) -> AsyncIterator[Bare]:
    location = locate(url)
    if location.file is not None:
        await prepare_file(location.file)
    engine = create_engine(location)
    try:
        yield Bare(location, engine)
    finally:
        await engine.dispose()


def description(connection: Connection) -> dict[str, Any]:
    """Everything the database itself says about its tables, apart from the table of versions."""
    inspector = inspect(connection)

    def sorted_reprs(found: list[Any]) -> list[str]:
        return sorted(
            repr({key: str(value) if key == "dialect_options" else value for key, value in one.items()})
            for one in found
        )

    return {
        table: {
            "columns": [repr(column) for column in inspector.get_columns(table)],
            "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": [
                {key: value for key, value in one.items() if key != "name"} for one in inspector.get_foreign_keys(table)
            ],
            "unique": sorted_reprs(inspector.get_unique_constraints(table)),
            "checks": [one["name"] for one in inspector.get_check_constraints(table)],
            "indexes": sorted(
                (str(one["name"]), str(one["column_names"]), bool(one["unique"]), where_of(one))
                for one in inspector.get_indexes(table)
            ),
        }
        for table in inspector.get_table_names()
        if table != schema_version.name
    }


def where_of(index: Any) -> str:
    """The condition of a partial index, as either database spells it."""
    options = index.get("dialect_options", {})
    condition = str(options.get("sqlite_where", options.get("postgresql_where", "")))
    return condition.replace("(", "").replace(")", "").replace("::text", "").replace("::character varying", "")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def add_notes(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE agents ADD COLUMN note TEXT NOT NULL DEFAULT 'none'")


def drop_notes(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE agents DROP COLUMN note")


NOTES = Migration(LATEST + 1, "notes", add_notes, drop_notes)


async def test_an_empty_database_is_brought_to_the_tables_the_stores_use(
    empty_url: str,
) -> None:
    assert (await schema_status(empty_url)).current == 0
    async with bare(empty_url) as database:
        await database.run(metadata.create_all)
        declared = await database.run(description)
        await database.run(metadata.drop_all)
        assert await database.run(description) == {}
        await database.migrate()
        assert await database.run(description) == declared


async def test_up_down_and_up_again_end_where_they_began(empty_url: str) -> None:
    async with bare(empty_url) as database:
        done = await upgrade_schema(empty_url)
        assert len(done) == LATEST
        first = await database.run(description)
        assert len(await rollback_schema(empty_url, 0)) == LATEST
        assert await database.run(description) == {}
        assert await upgrade_schema(empty_url) == done
        assert await database.run(description) == first
        assert await upgrade_schema(empty_url) == []


async def test_status_tells_what_is_due(empty_url: str) -> None:
    before = await schema_status(empty_url)
    assert (before.current, before.latest, len(before.pending)) == (0, LATEST, LATEST)
    await upgrade_schema(empty_url)
    after = await schema_status(empty_url)
    assert (after.current, after.pending) == (LATEST, [])
    await rollback_schema(empty_url)
    assert (await schema_status(empty_url)).current == LATEST - 1


async def test_asking_for_the_status_creates_nothing(tmp_path: Path) -> None:
    status = await schema_status(f"sqlite:///{tmp_path / 'folder' / 'stack.db'}")
    assert (status.current, len(status.pending)) == (0, LATEST)
    assert names_in(tmp_path) == set()


async def test_an_upgrade_keeps_the_data_and_a_rollback_too(empty_url: str, alice: Caller) -> None:
    async with open_database(empty_url) as opened:
        agent = await AgentStore(opened).create_agent(AgentConfig(model="m"), alice)
    async with bare(empty_url) as database:
        assert await database.migrate(NOTES) == [f"upgraded to {LATEST + 1:04d} notes"]
        read_notes = "SELECT note FROM agents"
        assert await database.run(lambda c: c.exec_driver_sql(read_notes).scalars().all()) == ["none"]
        assert await database.migrate(NOTES, target=LATEST) == [f"rolled back {LATEST + 1:04d} notes"]
    async with open_database(empty_url) as opened:
        assert await AgentStore(opened).agent(agent.agent_id, alice) == agent


async def test_a_newer_schema_is_refused_with_a_clear_line(empty_url: str) -> None:
    await upgrade_schema(empty_url)
    async with bare(empty_url) as database:
        row = {"version": 99, "name": "from the future", "applied_at": now()}
        await database.run(lambda connection: connection.execute(insert(schema_version).values(row)))
    expected = rf"schema version 99; this llama-stack knows versions up to {LATEST}\n  install a newer llama-stack"
    with pytest.raises(ConfigError, match=expected):
        async with open_database(empty_url):
            pass
    with pytest.raises(ConfigError, match="schema version 99"):
        await upgrade_schema(empty_url)
    with pytest.raises(ConfigError, match="schema version 99"):
        await rollback_schema(empty_url, 0)
    assert (await schema_status(empty_url)).current == 99


async def test_an_older_schema_is_refused_where_migrating_is_not_wanted(empty_url: str) -> None:
    with pytest.raises(ConfigError, match="run `llama db upgrade`"):
        async with open_database(empty_url, migrate=False):
            pass
    await upgrade_schema(empty_url)
    async with open_database(empty_url, migrate=False):
        pass


@pytest.mark.parametrize("version", [-1, LATEST + 1])
async def test_there_is_no_rollback_to_a_version_that_is_not_below(empty_url: str, version: int) -> None:
    await upgrade_schema(empty_url)
    with pytest.raises(ConfigError):
        await rollback_schema(empty_url, version)
    assert (await schema_status(empty_url)).current == LATEST


async def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    def fail(connection: Connection) -> None:
        add_notes(connection)
        raise RuntimeError("no")

    async with bare(empty_url) as database:
        await database.migrate()
        before = await database.run(description)
        with pytest.raises(RuntimeError):
            await database.migrate(Migration(LATEST + 1, "fails", fail, fail))
        assert await database.run(description) == before
    assert (await schema_status(empty_url)).current == LATEST


async def test_a_migration_killed_in_the_middle_is_run_again_to_a_good_end(
    empty_url: str, alice: Caller, start_worker: Callable[..., subprocess.Popen[str]]
) -> None:
    async with open_database(empty_url) as opened:
        await KeyValueStore(opened).put("n", "k", "kept", alice)
    killed = start_worker("die_in_an_upgrade", empty_url)
    _, errors = await asyncio.to_thread(killed.communicate, timeout=PROCESS_LIMIT_S)
    assert killed.returncode == -9, errors
    async with bare(empty_url) as database:
        assert await database.migrate(NOTES) == [f"upgraded to {LATEST + 1:04d} notes"]
        assert "notes" not in await database.run(description)
        await database.migrate(NOTES, target=LATEST)
    async with open_database(empty_url) as opened:
        assert await KeyValueStore(opened).get("n", "k", alice) == "kept"


async def test_of_four_processes_that_upgrade_together_one_does_it(
    empty_url: str, start_worker: Callable[..., subprocess.Popen[str]]
) -> None:
    workers = [start_worker("upgrade", empty_url) for _ in range(4)]
    done = [int(await asyncio.to_thread(finished, worker)) for worker in workers]
    assert sorted(done) == [0, 0, 0, LATEST]
    assert (await schema_status(empty_url)).current == LATEST


async def test_of_eight_upgrades_at_the_same_moment_one_does_it(empty_url: str) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(upgrade_schema(empty_url)) for _ in range(8)]
    assert sorted(len(task.result()) for task in tasks) == [0] * 7 + [LATEST]


async def test_a_file_with_data_is_copied_before_it_is_changed(tmp_path: Path, alice: Caller) -> None:
    file = tmp_path / "stack.db"
    async with open_database(f"sqlite:///{file}") as opened:
        await KeyValueStore(opened).put("n", "k", "kept", alice)
    assert names_in(tmp_path) == {"stack.db"}, "a new file needs no copy"
    async with bare(f"sqlite:///{file}") as database:
        await database.migrate(NOTES)
    copy = tmp_path / f"stack.db.schema-{LATEST}.bak"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    async with open_database(f"sqlite:///{copy}", migrate=False) as opened:
        assert await KeyValueStore(opened).get("n", "k", alice) == "kept"
    assert names_in(tmp_path) == {"stack.db", copy.name}


async def test_rebuilding_a_table_does_not_delete_the_rows_that_refer_to_it(tmp_path: Path, alice: Caller) -> None:
    """SQLite changes most things about a table by copying and dropping it; with foreign keys on, dropping cascades."""

    def rebuild(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE rebuilt AS SELECT * FROM agents")
        connection.exec_driver_sql("DROP TABLE agents")
        connection.exec_driver_sql(
            "CREATE TABLE agents (agent_id TEXT PRIMARY KEY, owner TEXT, config TEXT, created_at DATETIME, kind TEXT)"
        )
        connection.exec_driver_sql("INSERT INTO agents SELECT * FROM rebuilt")
        connection.exec_driver_sql("DROP TABLE rebuilt")

    def lose(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM agents")

    file = tmp_path / "stack.db"
    async with open_database(f"sqlite:///{file}") as opened:
        store = AgentStore(opened)
        agent = await store.create_agent(AgentConfig(model="m"), alice)
        await store.create_session(agent.agent_id, "s", alice)
    async with bare(f"sqlite:///{file}") as database:
        await database.migrate(Migration(LATEST + 1, "rebuild", rebuild, rebuild))
        with pytest.raises(RuntimeError, match="left 1 rows of sessions that refer to nothing"):
            await database.migrate(
                Migration(LATEST + 1, "rebuild", rebuild, rebuild), Migration(LATEST + 2, "lose", lose, lose)
            )
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sessions").fetchall() == [("s",)]


def test_migrations_count_up_from_one() -> None:
    assert [migration.version for migration in load_migrations()] == list(range(1, LATEST + 1))
