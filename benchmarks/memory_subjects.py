"""What the index benchmark compares: our chunk indexes, and the bare library that each of them stands on.

A bare subject does the least that answers the same question: vectors in, the nearest rows out. `faiss` alone keeps
nothing on disk and no text; the two databases keep the text beside the vector, so that it can be given back.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from benchmarks import memory_rows
from benchmarks.memory_rows import DIMENSIONS, Rows
from llama_stack.api.chunk_index import BankPlace, ChunkIndex, FoundChunk
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Chunk, ReciprocalRankFusion
from llama_stack.api.vectors import Vectors
from llama_stack.gathering import gathered
from llama_stack.memory.fusion import fuse
from llama_stack.provider import Ground, InferenceFloor

LIMIT = 5
HYBRID_CANDIDATES = 40
"""Of each ranking, as the search of a stack takes for five chunks."""
HNSW_M, HNSW_EF_CONSTRUCTION, HNSW_EF_SEARCH = 32, 80, 96


class Subject(Protocol):
    """Searches give row numbers, best first. share: only rows of that share."""

    def prepared(self, rows: Rows) -> Any:
        """The rows in the form that a caller has them in; not measured."""
        ...

    async def write(self, prepared: Any) -> None: ...

    async def by_vector(self, vector: bytes, share: int | None = None) -> list[int]: ...

    async def by_words(self, words: str, share: int | None = None) -> list[int] | None:
        """None where it has no index of words."""
        ...

    async def hybrid(self, vector: bytes, words: str) -> list[int] | None: ...


# --- ours ------------------------------------------------------------------------------------------------------------


class OurIndex:
    def __init__(self, index: ChunkIndex, bank: BankPlace) -> None:
        self._index = index
        self._bank = bank

    def prepared(self, rows: Rows) -> tuple[list[Chunk], Vectors]:
        return memory_rows.chunks_of(rows)

    async def write(self, prepared: tuple[list[Chunk], Vectors]) -> None:
        await self._index.write_chunks(self._bank, *prepared)

    async def by_vector(self, vector: bytes, share: int | None = None) -> list[int]:
        return _numbers(await self._index.search_vector(self._bank, vector, LIMIT, _where(share)))

    async def by_words(self, words: str, share: int | None = None) -> list[int]:
        return _numbers(await self._index.search_keyword(self._bank, words, LIMIT, _where(share)))

    async def hybrid(self, vector: bytes, words: str) -> list[int]:
        near, shared = await gathered(
            (
                self._index.search_vector(self._bank, vector, HYBRID_CANDIDATES),
                self._index.search_keyword(self._bank, words, HYBRID_CANDIDATES),
            )
        )
        return _numbers(fuse(near, shared, ReciprocalRankFusion())[:LIMIT])


def _where(share: int | None) -> Comparison | None:
    return None if share is None else Comparison(type="eq", key="share", value=share)


def _numbers(found: Sequence[FoundChunk]) -> list[int]:
    return [int(one.chunk.chunk_id.rpartition("-")[2]) for one in found]


@asynccontextmanager
async def _ours(index: AbstractAsyncContextManager[ChunkIndex], params: JsonObject) -> AsyncIterator[Subject]:
    bank = BankPlace(key="bench", dimension=DIMENSIONS, params=params)
    async with index as opened:
        await opened.create_bank(bank)
        yield OurIndex(opened, bank)


def _floor(folder: Path) -> InferenceFloor:
    # Chunk indexes embed nothing.
    return InferenceFloor(Ground(home=folder, state=folder), cast(Inference, None))


def _our_faiss(folder: Path, _: str, *, is_graph: bool) -> AbstractAsyncContextManager[Subject]:
    from llama_stack_providers.inline.faiss import Config, open_faiss

    graph = {"kind": "hnsw", "m": HNSW_M, "ef_construction": HNSW_EF_CONSTRUCTION, "ef_search": HNSW_EF_SEARCH}
    return _ours(open_faiss(Config(), _floor(folder)), {"index": graph} if is_graph else {})


def _our_sqlite(folder: Path, _: str) -> AbstractAsyncContextManager[Subject]:
    from llama_stack_providers.inline.sqlite_vec import Config, open_sqlite_vec

    return _ours(open_sqlite_vec(Config(), _floor(folder)), {})


def _our_postgres(folder: Path, url: str, *, is_graph: bool) -> AbstractAsyncContextManager[Subject]:
    from llama_stack_providers.remote.pgvector import Config, open_pgvector

    config = Config.model_validate(
        {"url": url, "max_connections": 4, "schema_name": "ours", "statement_timeout_s": 600}
    )
    return _ours(open_pgvector(config, _floor(folder)), {"index": "hnsw"} if is_graph else {})


# --- the libraries ---------------------------------------------------------------------------------------------------


class Library:
    def prepared(self, rows: Rows) -> Rows:
        return rows

    async def by_words(self, words: str, share: int | None = None) -> None:
        return None

    async def hybrid(self, vector: bytes, words: str) -> None:
        return None


class BareFaiss(Library):
    def __init__(self, *, is_graph: bool) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self._faiss: Any = faiss
        self._is_graph = is_graph
        self._index: Any = faiss.IndexFlatIP(DIMENSIONS)
        if is_graph:
            self._index = faiss.IndexHNSWFlat(DIMENSIONS, HNSW_M, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efConstruction = HNSW_EF_CONSTRUCTION

    async def write(self, prepared: Rows) -> None:
        self._index.add(prepared.vectors)

    async def by_vector(self, vector: bytes, share: int | None = None) -> list[int]:
        query = np.frombuffer(vector, dtype=np.float32).reshape(1, -1)
        selector = None if share is None else self._selector(share)
        if self._is_graph:
            parameters = self._faiss.SearchParametersHNSW(efSearch=HNSW_EF_SEARCH, sel=selector)
        else:
            parameters = None if selector is None else self._faiss.SearchParameters(sel=selector)
        _, found = self._index.search(query, LIMIT, params=parameters)
        return [int(number) for number in found[0] if number >= 0]

    def _selector(self, share: int) -> Any:
        numbers = np.arange(self._index.ntotal)
        shares = numbers // memory_rows.DOCUMENT_CHUNKS % memory_rows.SHARES
        return self._faiss.IDSelectorArray(numbers[shares == share])


@asynccontextmanager
async def _bare_faiss(_: Path, __: str, *, is_graph: bool) -> AsyncIterator[Subject]:
    yield BareFaiss(is_graph=is_graph)


class BareSqlite(Library):
    """sqlite-vec's own virtual table, written as durably as ours."""

    def __init__(self, path: Path) -> None:
        import apsw
        import sqlite_vec

        self._connection = apsw.Connection(str(path))
        self._connection.enable_load_extension(True)
        self._connection.load_extension(sqlite_vec.loadable_path())
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        columns = (
            f"id integer primary key, share integer, vector float[{DIMENSIONS}] distance_metric=cosine, +text text"
        )
        self._connection.execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS bench USING vec0({columns})")

    async def write(self, prepared: Rows) -> None:
        values = (
            (number, memory_rows.share_of(number), vector.tobytes(), text)
            for number, (vector, text) in enumerate(zip(prepared.vectors, prepared.texts, strict=True), prepared.first)
        )
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO bench (id, share, vector, text) VALUES (?, ?, ?, ?)", values)
        self._connection.execute("COMMIT")

    async def by_vector(self, vector: bytes, share: int | None = None) -> list[int]:
        among, values = ("", ()) if share is None else (" AND share = ?", (share,))
        rows: Any = self._connection.execute(
            f"SELECT id, text FROM bench WHERE vector MATCH ? AND k = {LIMIT}{among} ORDER BY distance",
            (vector, *values),
        )
        return [number for number, _ in rows.fetchall()]


@asynccontextmanager
async def _bare_sqlite(folder: Path, _: str) -> AsyncIterator[Subject]:
    yield BareSqlite(folder / "bare.db")


class BarePostgres(Library):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def write(self, prepared: Rows) -> None:
        numbers = list(range(prepared.first, prepared.first + len(prepared)))
        await self._connection.execute(
            "INSERT INTO bare.bench"
            " SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[]::vector[])",
            numbers,
            [memory_rows.share_of(number) for number in numbers],
            prepared.texts,
            [_written(vector) for vector in prepared.vectors],
        )

    async def by_vector(self, vector: bytes, share: int | None = None) -> list[int]:
        query = _written(np.frombuffer(vector, dtype=np.float32))
        among, values = ("", ()) if share is None else ("WHERE share = $2", (share,))
        rows = await self._connection.fetch(
            f"SELECT id, text FROM bare.bench {among} ORDER BY vector <=> $1::text::vector LIMIT {LIMIT}",
            query,
            *values,
        )
        return [row["id"] for row in rows]


def _written(vector: Any) -> str:
    return f"[{','.join(map(str, vector.tolist()))}]"


@asynccontextmanager
async def _bare_postgres(_: Path, url: str, *, is_graph: bool) -> AsyncIterator[Subject]:
    import asyncpg

    connection: Any = await asyncpg.connect(url)
    try:
        await connection.execute(
            "CREATE EXTENSION IF NOT EXISTS vector; CREATE SCHEMA IF NOT EXISTS bare; CREATE TABLE IF NOT EXISTS"
            f" bare.bench (id bigint PRIMARY KEY, share integer, text text, vector vector({DIMENSIONS}));"
            " CREATE INDEX IF NOT EXISTS bench_share ON bare.bench (share)"
        )
        if is_graph:
            await connection.execute(
                "CREATE INDEX IF NOT EXISTS bench_near ON bare.bench USING hnsw (vector vector_cosine_ops);"
                " SET hnsw.ef_search = 100; SET hnsw.iterative_scan = strict_order"
            )
        yield BarePostgres(connection)
    finally:
        await connection.close()


# --- all of them -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A provider of ours, and its library. needs_postgres: the second argument of `open_...` is a database's URL."""

    name: str
    library: str
    needs_postgres: bool = False

    def open_ours(self, folder: Path, url: str) -> AbstractAsyncContextManager[Subject]:
        match self.name:
            case "inline::faiss" | "inline::faiss, hnsw":
                return _our_faiss(folder, url, is_graph="hnsw" in self.name)
            case "inline::sqlite-vec":
                return _our_sqlite(folder, url)
            case _:
                return _our_postgres(folder, url, is_graph="hnsw" in self.name)

    def open_bare(self, folder: Path, url: str) -> AbstractAsyncContextManager[Subject]:
        match self.name:
            case "inline::faiss" | "inline::faiss, hnsw":
                return _bare_faiss(folder, url, is_graph="hnsw" in self.name)
            case "inline::sqlite-vec":
                return _bare_sqlite(folder, url)
            case _:
                return _bare_postgres(folder, url, is_graph="hnsw" in self.name)


PAIRS = {
    pair.name: pair
    for pair in (
        Pair("inline::faiss", "faiss.IndexFlatIP"),
        Pair("inline::faiss, hnsw", "faiss.IndexHNSWFlat"),
        Pair("inline::sqlite-vec", "vec0 table"),
        Pair("remote::pgvector", "SQL by asyncpg", needs_postgres=True),
        Pair("remote::pgvector, hnsw", "SQL by asyncpg", needs_postgres=True),
    )
}
