"""Vectors in SQLite, compared by the sqlite-vec extension: every search is exact, and nothing is kept in memory.

Made for banks of up to some ten thousand chunks, whose every vector is read at each search: 0.1 s for 100,000 of 384
numbers. Larger banks are served by `inline::faiss`, which reads the same files.

Vectors lie as blobs in a table of their own rather than in sqlite-vec's `vec0`: that scans twice as fast, but takes
no space back after deletes, and reads all of itself however few chunks a filter leaves.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from llama_stack.api.chunk_index import BankPlace, ChunkIndex, IndexAbilities
from llama_stack.errors import InvalidRequest, ProviderUnavailable
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers.inline._chunks.filters import Condition
from llama_stack_providers.inline._chunks.index import Engine, InlineConfig, open_index
from llama_stack_providers.inline._chunks.keeper import NothingKept, Scored

if TYPE_CHECKING:
    import apsw

MAX_DIMENSION = 16_384


class Config(InlineConfig):
    """Settings of the index in SQLite."""


class ScannedVectors(NothingKept):
    """Finds the nearest by comparing all."""

    def nearest(self, connection: "apsw.Connection", query: bytes, limit: int, selected: Condition | None) -> Scored:
        sql, values = selected or ("", [])
        rows = connection.execute(
            # A vector of zeros has no direction and a distance of NULL: as far as can be from being alike.
            "SELECT id, ifnull(1 - vec_distance_cosine(vector, ?), 0) AS score FROM vectors"  # noqa: S608  values are bound
            f"{f' WHERE id IN ({sql})' if sql else ''} ORDER BY score DESC LIMIT ?",
            (query, *values, limit),
        )
        return [(key, score) for key, score in rows]


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
    engine = Engine(abilities, _check_params, extend, lambda _, __: ScannedVectors())
    async with open_index(config, floor.ground.state, engine) as index:
        yield index


def _check_params(bank: BankPlace) -> None:
    if bank.params:
        raise InvalidRequest(
            f"a bank of this provider has no settings, so {', '.join(sorted(bank.params))} cannot be set",
            param="params",
        )


provider = MemoryProvider(
    summary="Chunks and vectors in SQLite files of this machine; exact search",
    config=Config,
    open=open_sqlite_vec,
    requires=("apsw>=3.50", "sqlite-vec>=0.1.6"),
)
