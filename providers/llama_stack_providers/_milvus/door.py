"""How the index reaches Milvus: its own client, whose calls block, in a few threads."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llama_stack.errors import (
    InvalidRequest,
    NotFound,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StackError,
)
from llama_stack_providers._vector_database.libraries import library

if TYPE_CHECKING:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

ResultT = TypeVar("ResultT")
THREADS = 8
# Codes of errors: pkg/util/merr of Milvus, whose 2 the client also raises when it cannot connect.
UNAVAILABLE = 2
RATE_LIMITED = 8
NO_COLLECTION = 100
INVALID = range(1100, 1200)


@dataclass(frozen=True)
class Settings:
    """uri: an address, or the folder of a Milvus Lite, whose name ends in `.db`. flush_rows: of Milvus Lite, which
    searches what is not flushed very slowly; None leaves flushing to the server."""

    uri: str
    token: str = ""
    database: str = ""
    timeout_s: float = 30.0
    flush_rows: int | None = None


class Door:
    def __init__(self, client: "MilvusClient", threads: ThreadPoolExecutor, settings: Settings) -> None:
        self._client = client
        self._threads = threads
        self.settings = settings

    async def call(self, work: Callable[["MilvusClient", float], ResultT]) -> ResultT:
        """work: gets the client and the timeout in seconds, and runs in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._translated, work)

    def _translated(self, work: Callable[["MilvusClient", float], ResultT]) -> ResultT:
        from pymilvus.exceptions import MilvusException, ParamError

        try:
            return work(self._client, self.settings.timeout_s)
        except ParamError as error:
            raise InvalidRequest(f"Milvus refused the request: {self._told(error)}") from None
        except MilvusException as error:
            raise self._meant(error) from None

    def _meant(self, error: "MilvusException") -> StackError:
        from pymilvus.exceptions import ConnectError, MilvusUnavailableException

        message = self._told(error)
        if error.code == NO_COLLECTION:
            return NotFound(f"Milvus: {message}")
        lost = isinstance(error, ConnectError | MilvusUnavailableException) or error.code == UNAVAILABLE
        if lost or "UNAVAILABLE" in message:
            return ProviderUnavailable(f"Milvus cannot be reached: {message}")
        if "DEADLINE_EXCEEDED" in message:
            return ProviderTimeout("Milvus did not answer in time; raise timeout_s or check its load")
        if error.code == RATE_LIMITED:
            return RateLimited(f"Milvus: {message}")
        if error.code in INVALID:
            return InvalidRequest(f"Milvus refused the request: {message}")
        return ProviderFailed(f"Milvus failed: {message}")

    def _told(self, error: "MilvusException") -> str:
        # The cause is not kept either: it may repeat the request with its token.
        message = str(error.message or error)[:2000]
        return message.replace(self.settings.token, "***") if self.settings.token else message


@asynccontextmanager
async def open_door(settings: Settings) -> AsyncIterator[Door]:
    """Raises ProviderUnavailable without the library, or where no Milvus answers."""
    pymilvus = await library("pymilvus", "milvus")
    # It logs every refusal with its stack, also those that are answers; each of them is raised as well.
    for name in ("pymilvus", "pymilvus.milvus_client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="milvus")
    loop = asyncio.get_running_loop()
    try:
        client = await loop.run_in_executor(threads, _connected, pymilvus, settings)
        try:
            door = Door(client, threads, settings)
            await door.call(lambda opened, timeout: opened.list_collections(timeout=timeout))
            yield door
        finally:
            await loop.run_in_executor(threads, client.close)
    finally:
        threads.shutdown(wait=False)


@asynccontextmanager
async def open_lite(folder: Path, flush_rows: int, timeout_s: float) -> AsyncIterator[Door]:
    """Milvus Lite over the folder, which belongs to one process at a time."""
    lite = await library("milvus_lite.server_manager", "milvus")
    database = folder / "banks.db"
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        raise ProviderUnavailable(f"Milvus Lite cannot make its folder {folder}: {error}") from error
    try:
        async with open_door(Settings(str(database), flush_rows=flush_rows, timeout_s=timeout_s)) as door:
            yield door
    finally:
        # The client would leave the engine running until the process ends.
        await asyncio.to_thread(lite.server_manager_instance.release_server, str(database))


def _connected(pymilvus: Any, settings: Settings) -> "MilvusClient":
    try:
        client: MilvusClient = pymilvus.MilvusClient(
            uri=settings.uri, token=settings.token, db_name=settings.database, timeout=settings.timeout_s
        )
    except pymilvus.exceptions.MilvusException as error:
        told = str(error.message or error)
        message = told.replace(settings.token, "***") if settings.token else told
        raise ProviderUnavailable(f"Milvus cannot be reached: {message}") from None
    return client
