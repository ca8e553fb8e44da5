"""Chroma's own engine in this process, over a folder. The folder belongs to one process at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderFailed, ProviderUnavailable
from llama_stack_providers._chroma.door import Collection, Operation
from llama_stack_providers._chroma.erasing import Erasing
from llama_stack_providers._vector_database.libraries import library

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

ResultT = TypeVar("ResultT")
THREADS = 4


class LocalDoor:
    def __init__(self, client: "ClientAPI", threads: ThreadPoolExecutor, erasing: Erasing) -> None:
        self._client = client
        self._threads = threads
        self._erasing = erasing
        self.max_records = client.get_max_batch_size()

    async def create(self, name: str, metadata: dict[str, Any], configuration: dict[str, Any]) -> Collection:
        make: Any = partial(self._client.create_collection, embedding_function=None)
        made = await self._run(lambda: make(name, metadata=metadata, configuration=configuration))
        return Collection(made, metadata)

    async def find(self, name: str) -> Collection:
        found = await self._run(lambda: self._client.get_collection(name, embedding_function=None))
        return Collection(found, dict(found.metadata or {}))

    async def drop(self, name: str) -> None:
        await self._run(lambda: self._client.delete_collection(name), deletes=True)

    async def ask(self, collection: Collection, operation: Operation, body: dict[str, Any]) -> Any:
        return await self._run(lambda: getattr(collection.handle, operation)(**body), deletes=operation == "delete")

    async def erased(self) -> None:
        """Returns when what was deleted before has left the folder."""
        await self._erasing.done()

    async def size_bytes(self, collection: Collection) -> int | None:
        """All banks lie in one database."""
        return None

    async def _run(self, work: Callable[[], ResultT], *, deletes: bool = False) -> ResultT:
        async with self._erasing.request(deletes=deletes):
            return await asyncio.get_running_loop().run_in_executor(self._threads, _translated, work)


def _translated(work: Callable[[], ResultT]) -> ResultT:
    from chromadb import errors

    try:
        return work()
    except errors.NotFoundError as error:
        raise NotFound(f"Chroma: {error}") from error
    except errors.ChromaError as error:
        message = f"Chroma refused the request: {error}"
        if "already exists" in str(error):
            raise Conflict(message) from error
        if error.code() < 500:
            raise InvalidRequest(message) from error
        raise ProviderFailed(message) from error
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"Chroma refused the request: {error}") from error


@asynccontextmanager
async def open_local(folder: Path) -> AsyncIterator[LocalDoor]:
    """Raises ProviderUnavailable without the library, or for a folder that cannot be used."""
    chromadb = await library("chromadb", "chroma")
    threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="chroma")
    loop = asyncio.get_running_loop()
    try:
        client = await loop.run_in_executor(threads, _open, chromadb, folder)
        erasing = Erasing(folder)
        task = asyncio.create_task(erasing.run(), name="erasing of what was deleted from Chroma")
        try:
            yield await loop.run_in_executor(threads, LocalDoor, client, threads, erasing)
        finally:
            task.cancel()
            await asyncio.wait([task])
            await loop.run_in_executor(threads, client.close)
            await erasing.at_the_end()
    finally:
        threads.shutdown(wait=False)


def _open(chromadb: Any, folder: Path) -> Any:
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(path=str(folder), settings=settings)
    except (OSError, ValueError, RuntimeError, chromadb.errors.ChromaError) as error:
        raise ProviderUnavailable(f"Chroma cannot open its folder {folder}: {error}") from error
