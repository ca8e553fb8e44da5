"""Qdrant's local mode: the library's own engine over a folder of this process, no server.

It holds everything in memory and compares by brute force, which serves some ten thousand chunks well. It is not for
several threads, so one thread carries out all requests, in their order; and it commits every point by itself, so a
write that a crash cut off is put right by `QdrantStore` when the bank is next used.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_stack.errors import InvalidRequest, NotFound, ProviderFailed, ProviderUnavailable
from llama_stack_providers._vector_database.libraries import library

if TYPE_CHECKING:
    from qdrant_client import QdrantClient


class LocalDoor:
    """Requests of the REST interface, carried out by the library. What it does not know is a KeyError: our own bug."""

    exclusive = True

    def __init__(self, client: "QdrantClient", thread: ThreadPoolExecutor, folder: Path) -> None:
        self._client = client
        self._thread = thread
        self._folder = folder

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        # Handed over before the first wait, so requests keep the order in which they were made.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.carry_out, method, path, body or {})

    async def size_bytes(self, collection: str) -> int | None:
        return await asyncio.to_thread(_size_of, self._folder / "collection" / collection)

    def carry_out(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """In the one thread."""
        name, _, rest = path.removeprefix("collections/").partition("/")
        if (method, rest) != ("PUT", "") and not self._client.collection_exists(name):
            raise NotFound(f"there is no bank in the collection {name}")
        try:
            return _OPERATIONS[method, rest](self._client, name, body)
        except ValueError as error:
            raise InvalidRequest(f"Qdrant refused the request: {error}") from error
        except (OSError, sqlite3.Error) as error:
            raise ProviderFailed(f"Qdrant cannot keep its folder {self._folder}: {error}") from error


def _create(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    settings = models.CreateCollection.model_validate(body)
    client.create_collection(name, vectors_config=settings.vectors, sparse_vectors_config=settings.sparse_vectors)
    _commit_cheaply(client, name)
    return True


def _commit_cheaply(client: "QdrantClient", name: str) -> None:
    """With a write-ahead log a commit costs a third; what is committed is as safe from a crash of the process."""
    collection: Any = getattr(getattr(client, "_client", None), "collections", {}).get(name)
    connection = getattr(getattr(collection, "storage", None), "storage", None)
    if isinstance(connection, sqlite3.Connection):
        with suppress(sqlite3.Error), closing(connection.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")
            cursor.execute("PRAGMA secure_delete = ON")


def _describe(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    return client.get_collection(name).model_dump(mode="json")


def _drop(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    return client.delete_collection(name)


def _no_index(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    """Local mode reads every payload and has no indexes to make."""
    return True


def _upsert(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    client.upsert(name, models.PointsList.model_validate(body).points)
    return True


def _retrieve(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    asked = models.PointRequest.model_validate(body)
    points = client.retrieve(
        name, asked.ids, with_payload=_given(asked.with_payload, True), with_vectors=_given(asked.with_vector, False)
    )
    return [_plain(point) for point in points]


def _query(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    asked = models.QueryRequest.model_validate(body)
    answer = client.query_points(
        name,
        query=asked.query,
        using=asked.using,
        query_filter=asked.filter,
        limit=_given(asked.limit, 10),
        with_payload=_given(asked.with_payload, False),
        with_vectors=_given(asked.with_vector, False),
    )
    return {"points": [_plain(point) for point in answer.points]}


def _scroll(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    asked = models.ScrollRequest.model_validate(body)
    points, following = client.scroll(
        name,
        scroll_filter=asked.filter,
        limit=_given(asked.limit, 10),
        offset=asked.offset,
        with_payload=_given(asked.with_payload, True),
        with_vectors=_given(asked.with_vector, False),
    )
    return {"points": [_plain(point) for point in points], "next_page_offset": following}


def _count(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    asked = models.CountRequest.model_validate(body)
    return {"count": client.count(name, count_filter=asked.filter).count}


def _facet(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    asked = models.FacetRequest.model_validate(body)
    answer = client.facet(name, asked.key, facet_filter=asked.filter, limit=_given(asked.limit, 10))
    return {"hits": [{"value": hit.value, "count": hit.count} for hit in answer.hits]}


def _set_payload(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    asked = models.SetPayload.model_validate(body)
    client.set_payload(name, asked.payload, points=_selector(asked.points, asked.filter))
    return True


def _delete_payload(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    asked = models.DeletePayload.model_validate(body)
    client.delete_payload(name, asked.keys, points=_selector(asked.points, asked.filter))
    return True


def _delete(client: "QdrantClient", name: str, body: dict[str, Any]) -> Any:
    from qdrant_client import models

    client.delete(name, points_selector=models.PointIdsList.model_validate(body))
    return True


_OPERATIONS: dict[tuple[str, str], Callable[["QdrantClient", str, dict[str, Any]], Any]] = {
    ("PUT", ""): _create,
    ("GET", ""): _describe,
    ("DELETE", ""): _drop,
    ("PUT", "index"): _no_index,
    ("PUT", "points"): _upsert,
    ("POST", "points"): _retrieve,
    ("POST", "points/query"): _query,
    ("POST", "points/scroll"): _scroll,
    ("POST", "points/count"): _count,
    ("POST", "points/payload"): _set_payload,
    ("POST", "points/payload/delete"): _delete_payload,
    ("POST", "points/delete"): _delete,
    ("POST", "facet"): _facet,
}


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _selector(points: list[Any] | None, condition: Any) -> Any:
    return points if points is not None else condition


def _plain(point: Any) -> dict[str, Any]:
    """As JSON would hold it; a sparse vector, the only other object in a point, is never asked for."""
    plain = {"id": str(point.id), "payload": point.payload, "vector": point.vector}
    if hasattr(point, "score"):
        plain["score"] = point.score
    return plain


def _size_of(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@asynccontextmanager
async def open_local(folder: Path) -> AsyncIterator[LocalDoor]:
    """Raises ProviderUnavailable without the library, or where another process has the folder."""
    qdrant = await library("qdrant_client", "qdrant")
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qdrant")
    loop = asyncio.get_running_loop()
    try:
        client = await loop.run_in_executor(thread, partial(_open, qdrant, folder))
        try:
            yield LocalDoor(client, thread, folder)
        finally:
            await loop.run_in_executor(thread, client.close)
    finally:
        thread.shutdown(wait=False)


def _open(qdrant: Any, folder: Path) -> "QdrantClient":
    from portalocker import LockException

    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_lock(folder)
        client: QdrantClient = qdrant.QdrantClient(path=str(folder))
    except (LockException, RuntimeError) as error:
        raise ProviderUnavailable(
            f"another process has Qdrant's folder {folder}; stop it, or run a Qdrant server and use remote::qdrant"
        ) from error
    except (OSError, ValueError, sqlite3.Error) as error:
        raise ProviderUnavailable(f"Qdrant cannot open its folder {folder}: {error}") from error
    for collection in client.get_collections().collections:
        _commit_cheaply(client, collection.name)
    return client


def _try_lock(folder: Path) -> None:
    """Raises LockException where somebody has the folder. A client that finds this out itself leaves the file open."""
    import portalocker

    with suppress(FileNotFoundError), (folder / ".lock").open("r+") as file:
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
