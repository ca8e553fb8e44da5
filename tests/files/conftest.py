"""Files over a real folder, a real database and a real server, with unmodified clients."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_stack_client import AsyncLlamaStackClient
from openai import AsyncOpenAI, OpenAI

from llama_stack.api.common import Caller
from llama_stack.api.files import FilePurpose, NewFile
from llama_stack.compose import LocalStack
from llama_stack.files.service import FileService, open_files
from llama_stack.server.app import create_app
from llama_stack.server.options import ServerOptions
from llama_stack.server.serve import serving
from llama_stack.storage import Database, open_database
from llama_stack.testing.scripted_stack import open_scripted_stack

ALICE, BOB = Caller(owner="alice"), Caller(owner="bob")
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Running:
    """A server, the stack under it, and clients of it. `sync` blocks: use it in a thread."""

    url: str
    stack: LocalStack
    folder: Path
    openai: AsyncOpenAI
    sync: OpenAI
    classic: AsyncLlamaStackClient
    http: httpx.AsyncClient


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a server; started again in the same test, it finds what the first one kept."""

    @asynccontextmanager
    async def started(*, max_file_bytes: int | None = None, options: ServerOptions | None = None) -> Any:
        async with open_scripted_stack(home=tmp_path) as stack:
            if max_file_bytes is not None:
                stack.distribution.storage.max_file_bytes = max_file_bytes
            async with (
                serving(create_app(stack, options)) as url,
                AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
                AsyncLlamaStackClient(base_url=url, max_retries=0) as classic,
                httpx.AsyncClient(base_url=url, verify=False) as http,
            ):
                with OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as sync:
                    yield Running(url, stack, tmp_path / "files", openai, sync, classic, http)

    return started


class Clock:
    """Tells the time that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "contents"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path / 'stack.db'}") as opened:
        yield opened


@pytest.fixture
async def files(folder: Path, database: Database, clock: Clock) -> AsyncIterator[FileService]:
    async with open_files(folder, database, max_file_bytes=10_000_000, clock=clock) as service:
        yield service


def about(filename: str = "notes.txt", **more: Any) -> NewFile:
    return NewFile(**{"filename": filename, "purpose": FilePurpose.ASSISTANTS, **more})


async def pieces(*chunks: bytes) -> AsyncGenerator[bytes, None]:
    for chunk in chunks:
        yield chunk


async def read(content: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([chunk async for chunk in content])


def contents_in(folder: Path) -> set[str]:
    """Everything there is below a folder of files, but the places of the processes that have it open."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


async def until(condition: Callable[[], bool]) -> None:
    """For what happens on a disk or in another process, where there is no event to wait for."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # of a disk there is no event to wait on
            await asyncio.sleep(0.01)
