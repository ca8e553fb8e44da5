"""Vectors in SQLite, compared by the sqlite-vec extension: every search is exact, and nothing is kept in memory.

Made for banks of up to some ten thousand chunks, whose every vector is read at each search: 0.1 s for 100,000 of 384
numbers. Larger banks are served by `inline::faiss`, which reads the same files.

Vectors lie as blobs in a table of their own rather than in sqlite-vec's `vec0`: that scans twice as fast, but takes
no space back after deletes, and reads all of itself however few chunks a filter leaves.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from llama_stack.api.chunk_index import ChunkIndex, IndexAbilities
from llama_stack.errors import ProviderUnavailable
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers.inline._chunks.filters import Condition
from llama_stack_providers.inline._chunks.index import InlineConfig, open_index
from llama_stack_providers.inline._chunks.keeper import Change, Scored

if TYPE_CHECKING:
    import apsw

MAX_DIMENSION = 16_384


class Config(InlineConfig):
    """Settings of the index in SQLite."""


class ScannedVectors:
    """Keeps nothing beside the file, so what a transaction sees is all there is."""

    @contextmanager
    def reading(self, connection: "apsw.Connection") -> Iterator[None]:
        yield

    @contextmanager
    def committing(self, change: Change) -> Iterator[None]:
        yield

    def nearest(self, connection: "apsw.Connection", query: bytes, limit: int, selected: Condition | None) -> Scored:
        sql, values = selected or ("", [])
        rows = connection.execute(
            # A vector of zeros has no direction and a distance of NULL: as far as can be from being alike.
            "SELECT id, ifnull(1 - vec_distance_cosine(vector, ?), 0) AS score FROM vectors"  # noqa: S608  values are bound
            f"{f' WHERE id IN ({sql})' if sql else ''} ORDER BY score DESC LIMIT ?",
            (query, *values, limit),
        )
        return [(key, score) for key, score in rows]

    def tidy(self, connection: "apsw.Connection") -> bool:
        return False

    def close(self, connection: "apsw.Connection") -> None:
        pass


@asynccontextmanager
async def open_sqlite_vec(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    try:
        import sqlite_vec
    except ImportError as error:
        raise ProviderUnavailable("sqlite-vec is not installed; run `pip install apsw sqlite-vec`") from error

    def extend(connection: "apsw.Connection") -> None:
        connection.enable_load_extension(True)
        connection.load_extension(sqlite_vec.loadable_path())
        connection.enable_load_extension(False)

    abilities = IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)
    async with open_index(config, floor.ground.state, abilities, extend, lambda *_: ScannedVectors()) as index:
        yield index


provider = MemoryProvider(
    summary="Chunks and vectors in SQLite files of this machine; exact search",
    config=Config,
    open=open_sqlite_vec,
    requires=("apsw>=3.50", "sqlite-vec>=0.1.6"),
)
