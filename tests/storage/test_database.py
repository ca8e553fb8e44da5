"""Opening and closing a database, and what is said when it cannot be opened or goes away."""

import asyncio
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import OperationalError

from llama_stack.api.common import Caller
from llama_stack.errors import ConfigError, ProviderUnavailable
from llama_stack.storage import Database, KeyValueStore, default_url, open_database
from llama_stack.storage import engine as engine_module
from llama_stack.storage.columns import now
from llama_stack.storage.database import _fatal_at_start as fatal_at_start
from llama_stack.storage.tables import key_values

OUR_CONNECTIONS = "FROM pg_stat_activity WHERE application_name = 'llama-stack' AND datname = current_database()"


async def refusal(url: str) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        async with open_database(url):
            pass
    assert refused.value.where == "storage.url"
    assert refused.value.remedy
    assert "hunter2" not in str(refused.value)
    return refused.value


def modes_in(folder: Path) -> dict[str, int]:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    return modes | {".": stat.S_IMODE(folder.stat().st_mode)}


async def test_the_default_is_a_file_in_the_home_that_only_its_owner_can_read(stack_home: Path, alice: Caller) -> None:
    async with open_database(default_url(stack_home)) as database:
        await KeyValueStore(database).put("n", "k", 1, alice)
        assert modes_in(stack_home) == {".": 0o700, "stack.db": 0o600, "stack.db-wal": 0o600, "stack.db-shm": 0o600}


async def test_sqlite_is_set_up_for_many_writers(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path / 'stack.db'}"):
        pass
    async with open_database(f"sqlite:///{tmp_path / 'stack.db'}") as database, database.read() as connection:
        names = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        found = {name: (await connection.execute(text(f"PRAGMA {name}"))).scalar() for name in names}
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 30_000}


async def test_a_database_in_memory_serves_many_at_once_and_is_forgotten(alice: Caller) -> None:
    async with open_database("sqlite://") as database:
        store = KeyValueStore(database)
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(store.put("n", str(number), number, alice))
        assert len((await store.page("n", alice)).entries) == 50
    async with open_database("sqlite:///:memory:") as database:
        assert (await KeyValueStore(database).page("n", alice)).entries == []


async def test_what_was_stored_is_there_after_reopening(url: str, alice: Caller) -> None:
    for expected in range(3):
        async with open_database(url) as database:
            store = KeyValueStore(database)
            assert len((await store.page("n", alice)).entries) == expected
            await store.put("n", str(expected), expected, alice)


async def test_closing_leaves_no_thread_and_no_connection(url: str, alice: Caller) -> None:
    await asyncio.to_thread(str)  # the loop's own pool thread
    before = set(threading.enumerate())
    async with open_database(url) as database:
        store = KeyValueStore(database)
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                group.create_task(store.put("n", str(number), number, alice))
                group.create_task(store.page("n", alice))
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith("asyncio_"):
            thread.join(timeout=60)
            assert not thread.is_alive(), thread.name
    if database.dialect == "postgresql":
        connection = await asyncpg.connect(url)
        query = f"SELECT count(*) {OUR_CONNECTIONS}"
        async with asyncio.timeout(60):
            while await connection.fetchval(query):
                pass
        await connection.close()


async def test_cancelled_work_leaves_the_database_usable(database: Database, alice: Caller) -> None:
    store = KeyValueStore(database)
    started = asyncio.Event()

    async def write_for_ever(writer: int) -> None:
        number = 0
        while True:
            await store.put("n", f"{writer}/{number % 10}", number, alice)
            await store.get("n", f"{writer}/{number % 10}", alice)
            number += 1
            if number == 3:
                started.set()

    for _ in range(5):
        started.clear()
        tasks = [asyncio.create_task(write_for_ever(writer)) for writer in range(20)]
        await asyncio.wait_for(started.wait(), 60)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=30)
        assert all(task.cancelled() for task in tasks)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(store.put("after", str(number), number, alice))
    assert len((await store.page("after", alice)).entries) == 50


async def test_a_failed_transaction_leaves_nothing(database: Database, alice: Caller) -> None:
    with pytest.raises(RuntimeError):
        async with database.write() as connection:
            row = {"owner": alice.owner, "namespace": "n", "key": "k", "value": "1", "updated_at": now()}
            await connection.execute(insert(key_values).values(row))
            raise RuntimeError
    assert (await KeyValueStore(database).page("n", alice)).entries == []


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/d", "stack.db", "", "postgresql+psycopg2://u:hunter2@h/d", "sqlite+pysqlcipher:///x"]
)
async def test_a_url_of_another_kind_is_refused_with_the_forms_that_work(url: str) -> None:
    assert "sqlite:///path/to/stack.db or postgresql://" in str(await refusal(url))


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are my notes, not a database\n" * 100)
    assert "file is not a database" in str(await refusal(f"sqlite:///{file}"))
    assert file.read_text().startswith("these are my notes")


async def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path) in str(await refusal(f"sqlite:///{tmp_path}"))
    assert str(tmp_path) in str(await refusal(f"sqlite:///{tmp_path / 'file' / 'stack.db'}"))
    # Where not even root may write.
    assert "/proc/nowhere" in str(await refusal("sqlite:////proc/nowhere/stack.db"))


async def test_postgres_without_its_driver_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    assert "pip install 'llama-stack[postgres]'" in str(await refusal("postgresql://u:hunter2@127.0.0.1/d"))


async def test_a_postgres_that_does_not_answer_is_refused_by_name(unused_tcp_port: int) -> None:
    refused = await refusal(f"postgresql://u:hunter2@127.0.0.1:{unused_tcp_port}/d")
    assert f"127.0.0.1:{unused_tcp_port}" in str(refused)


@pytest.mark.postgres
async def test_a_database_that_does_not_exist_is_refused(create_postgres_database: Callable[[], str]) -> None:
    url = create_postgres_database()
    assert "does not exist" in str(await refusal(url.replace("/stack_", "/missing_", 1)))


@pytest.mark.postgres
async def test_the_short_scheme_and_options_of_libpq_are_understood(
    create_postgres_database: Callable[[], str],
) -> None:
    url = create_postgres_database().replace("postgresql://", "postgres://") + "&sslmode=prefer"
    async with open_database(url) as database:
        assert database.dialect == "postgresql"


@pytest.mark.postgres
async def test_connections_the_server_ended_are_replaced(module_postgres_url: str, alice: Caller) -> None:
    async with open_database(module_postgres_url) as database:
        store = KeyValueStore(database)
        await store.put("n", "k", 1, alice)
        connection = await asyncpg.connect(module_postgres_url)
        await connection.fetch(f"SELECT pg_terminate_backend(pid) {OUR_CONNECTIONS}")
        await connection.close()
        assert await store.get("n", "k", alice) == 1


@pytest.mark.postgres
async def test_a_database_that_goes_away_is_unavailable_not_our_bug(
    create_postgres_database: Callable[[], str], module_postgres_url: str, alice: Caller
) -> None:
    url = create_postgres_database()
    async with open_database(url) as database:
        store = KeyValueStore(database)
        await store.put("n", "k", 1, alice)
        connection = await asyncpg.connect(module_postgres_url)
        name = url.split("/")[3].split("?")[0]
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.close()
        with pytest.raises(ProviderUnavailable, match=name) as unavailable:
            await store.get("n", "k", alice)
        assert (unavailable.value.http_status, unavailable.value.code) == (503, "storage_unavailable")


async def test_a_file_locked_for_too_long_is_unavailable_and_then_serves_again(
    tmp_path: Path, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "BUSY_TIMEOUT_S", 0.1)
    file = tmp_path / "stack.db"
    async with open_database(f"sqlite:///{file}") as database:
        store = KeyValueStore(database)
        foreign = sqlite3.connect(file, isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(ProviderUnavailable, match="locked"):
            await store.put("n", "k", 1, alice)
        foreign.execute("ROLLBACK")
        foreign.close()
        await store.put("n", "k", 1, alice)


def test_a_full_disk_is_told_as_what_it_is(tmp_path: Path) -> None:
    location = engine_module.locate(f"sqlite:///{tmp_path / 'stack.db'}")
    full = OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
    with pytest.raises(ConfigError, match="make room on its disk, or set LLAMA_STACK_HOME"), fatal_at_start(location):
        raise full
