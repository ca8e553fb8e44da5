"""Banks in PostgreSQL: what a `ChunkIndex` promises, in SQL."""

# ruff: noqa: S608  what is put into statements are names and placeholders of our own making; all values are bound

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar
from zlib import crc32

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.text.words import query_stems, stems
from llama_stack_providers._vector_database.checks import check_keyword, check_vectors, missing_after, query_vector
from llama_stack_providers._vector_database.rows import last_of_each_id
from llama_stack_providers.remote._pgvector.connections import Connections, encode_vectors
from llama_stack_providers.remote._pgvector.filters import Arguments, condition
from llama_stack_providers.remote._pgvector.settings import MAX_DIMENSION, BankSettings, settings_of
from llama_stack_providers.remote._pgvector.tables import (
    CHUNK_COLUMNS,
    WORD_COLUMNS,
    check_comment,
    chunk_row,
    creation,
    found_chunk,
    name_of,
)
from llama_stack_providers.remote._pgvector.words import (
    COMMON_SHARE,
    COMMON_SINCE_CHUNKS,
    MAX_QUERY_WORDS,
    Statistics,
    digest,
    search_statement,
    word_columns,
)

ResultT = TypeVar("ResultT")

STRIPES = 64
"""Locks of one bank: writers of the same document wait for each other, others nearly never."""
FIGURES_AGE_S = 30.0
"""After this, what other servers wrote shows in the figures, too. They only shift scores."""
MAX_FIGURES = 1_000
MAX_CHANGED_SHARE = 0.1
"""More chunks than this share, written here, make figures old at once."""
ITERATIVE_SCAN_SINCE = (0, 8)


@dataclass
class Figures:
    """What a search wants to know of a whole bank. read_at: by time.monotonic. written: chunks since, from here."""

    statistics: Statistics
    languages: set[str]
    read_at: float
    written: int = 0


class PgvectorIndex:
    def __init__(self, connections: Connections, schema: str, defaults: BankSettings) -> None:
        self._connections = connections
        self._schema = schema
        self._defaults = defaults
        self._figures: OrderedDict[str, Figures] = OrderedDict()

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create_bank(self, bank: BankPlace) -> None:
        settings = settings_of(bank, self._defaults)
        table, name = self._table(bank), name_of(bank)

        async def work(connection: Any) -> None:
            await connection.execute("select pg_advisory_xact_lock($1)", _lock_of(table))
            there = await connection.fetchrow(
                "select obj_description(oid, 'pg_class') as comment from (select to_regclass($1)) as t (oid)"
                " where oid is not null",
                table,
            )
            if there is None:
                await connection.execute(creation(table, name, bank, settings))
            else:
                check_comment(there["comment"], name, bank)

        await self._run(bank, work, whole=True)
        self._figures.pop(bank.key, None)

    async def drop_bank(self, bank: BankPlace) -> None:
        async def work(connection: Any) -> None:
            await connection.execute(f"drop table if exists {self._table(bank)}")

        await self._run(bank, work)
        self._figures.pop(bank.key, None)

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        check_vectors(bank, chunks, vectors)
        if not chunks:
            return
        kept = last_of_each_id(chunks)
        rows = await asyncio.to_thread(_rows, bank, chunks, vectors, kept)
        names = [*CHUNK_COLUMNS, *(WORD_COLUMNS if bank.keyword else ()), *(["embedding"] if bank.dimension else ())]
        chunk_ids = [chunks[position].chunk_id for position in kept]
        documents = sorted({chunk.document_id for chunk in chunks})
        stripes = sorted({crc32(document.encode(errors="replace")) % STRIPES for document in documents})
        table = self._table(bank)

        async def work(connection: Any) -> None:
            await connection.execute(
                "select pg_advisory_xact_lock($1, stripe) from unnest($2::integer[]) as stripe",
                _lock_of(table) % 2**31,
                stripes,
            )
            await connection.execute(f"delete from {table} where chunk_id = any($1)", chunk_ids)
            if replace_documents:
                await connection.execute(f"delete from {table} where document_id = any($1)", documents)
            await connection.copy_records_to_table(name_of(bank), schema_name=self._schema, columns=names, records=rows)

        await self._run(bank, work, whole=True)
        self._note_written(bank, chunks)

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Comparison | Compound | None = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        query_vector(bank, vector)
        settings = settings_of(bank, self._defaults)
        arguments = Arguments(encode_vectors(Vectors(vector, bank.dimension))[0])
        selected = condition(where, arguments)
        columns = _columns(with_vectors)
        most = arguments.bind(limit)
        # No index is over a sum, so every row is compared, and rows at the same distance come in order.
        exact = f"""
            select {columns}, 1 - (embedding <=> $1) as score from {self._table(bank)}
            where {selected} order by (embedding <=> $1) + 0, chunk_id limit {most}
        """
        if settings.index == "hnsw" and (await self._figures_of(bank)).statistics.chunks >= settings.exact_below:
            nearest = f"""
                with nearest as materialized (
                    select {columns}, embedding <=> $1 as distance from {self._table(bank)}
                    where {selected} order by embedding <=> $1 limit {most} + 1
                )
                select *, 1 - distance as score from nearest order by distance, chunk_id
            """
            rows = await self._fetch_nearest(bank, nearest, arguments, max(settings.ef_search, min(limit, 1000)))
            if len(rows) > limit and rows[limit]["distance"] != rows[limit - 1]["distance"]:
                return [found_chunk(row, with_vectors=with_vectors) for row in rows[:limit]]
            # The graph gave up before it had met enough chunks that the filter selects, or equals are to be ordered.
        rows = await self._fetch(bank, exact, arguments)
        return [found_chunk(row, with_vectors=with_vectors) for row in rows]

    async def search_keyword(
        self, bank: BankPlace, query: str, limit: int, where: Comparison | Compound | None = None
    ) -> list[FoundChunk]:
        check_keyword(bank)
        figures = await self._figures_of(bank)
        asked = await asyncio.to_thread(query_stems, query, sorted(figures.languages))
        words = [digest(word) for word in asked[:MAX_QUERY_WORDS]]
        if not words:
            return []
        rare = [word for word in words if word not in figures.statistics.common]
        rows: list[Any] = []
        if 0 < len(rare) < len(words):
            rows = await self._fetch_sharing(bank, words, rare, limit, where, figures.statistics)
        if len(rows) < limit:
            rows = await self._fetch_sharing(bank, words, words, limit, where, figures.statistics)
        return [found_chunk(row, with_vectors=False) for row in rows]

    async def list_chunks(
        self,
        bank: BankPlace,
        *,
        document_ids: list[str] | None = None,
        where: Comparison | Compound | None = None,
        limit: int = 1000,
        after: str | None = None,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        table = self._table(bank)
        with_vectors = with_vectors and bank.dimension > 0
        arguments = Arguments()
        conditions = [condition(where, arguments)]
        if document_ids is not None:
            conditions.append(f"document_id = any({arguments.bind(document_ids)}::text[])")
        if after is not None:
            conditions.append(
                "(document_id, position, chunk_id) > (select document_id, position, chunk_id"
                f" from {table} where chunk_id = {arguments.bind(after)})"
            )
        statement = (
            f"select {_columns(with_vectors)}, 0 as score from {table} where {' and '.join(conditions)}"
            f" order by document_id, position, chunk_id limit {arguments.bind(limit)}"
        )
        rows = await self._fetch(bank, statement, arguments)
        if after is not None and not rows:
            await self._check_is_there(bank, after)
        return [found_chunk(row, with_vectors=with_vectors) for row in rows]

    async def _check_is_there(self, bank: BankPlace, chunk_id: str) -> None:
        statement = f"select 1 from {self._table(bank)} where chunk_id = $1"
        if not await self._fetch(bank, statement, Arguments(chunk_id)):
            raise missing_after(chunk_id)

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        row = chunk_row(Chunk(chunk_id="-", document_id=document_id, content="", metadata=metadata))
        told = row[CHUNK_COLUMNS.index("metadata")]
        await self._execute(
            bank, f"update {self._table(bank)} set metadata = $2 where document_id = $1", document_id, told
        )

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        return await self._execute(bank, f"delete from {self._table(bank)} where document_id = any($1)", document_ids)

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        arguments = Arguments()
        selected = condition(where, arguments)
        return await self._execute(bank, f"delete from {self._table(bank)} where {selected}", *arguments.values)

    async def stats(self, bank: BankPlace) -> IndexStats:
        statement = f"""
            select count(*) as chunks, count(distinct document_id) as documents,
                pg_total_relation_size($1::text::regclass) as size_bytes
            from {self._table(bank)}
        """
        rows = await self._fetch(bank, statement, Arguments(self._table(bank)))
        return IndexStats(**rows[0])

    def _table(self, bank: BankPlace) -> str:
        return f'"{self._schema}"."{name_of(bank)}"'

    async def _run(self, bank: BankPlace, work: Callable[[Any], Awaitable[ResultT]], *, whole: bool = False) -> ResultT:
        return await self._connections.run(work, bank=bank.key, whole=whole)

    async def _fetch(self, bank: BankPlace, statement: str, arguments: Arguments) -> list[Any]:
        async def work(connection: Any) -> list[Any]:
            return list(await connection.fetch(statement, *arguments.values))

        return await self._run(bank, work)

    async def _fetch_nearest(self, bank: BankPlace, statement: str, arguments: Arguments, ef: int) -> list[Any]:
        """As _fetch, with the settings of the HNSW index for this one transaction."""
        settings = f"set local hnsw.ef_search = {ef}"
        if self._connections.version >= ITERATIVE_SCAN_SINCE:
            settings += "; set local hnsw.iterative_scan = strict_order"

        async def work(connection: Any) -> list[Any]:
            await connection.execute(settings)
            return list(await connection.fetch(statement, *arguments.values))

        return await self._run(bank, work, whole=True)

    async def _fetch_sharing(
        self,
        bank: BankPlace,
        words: list[int],
        candidates: list[int],
        limit: int,
        where: Comparison | Compound | None,
        statistics: Statistics,
    ) -> list[Any]:
        arguments = Arguments()
        selected = condition(where, arguments)
        statement = search_statement(
            self._table(bank), words, candidates, selected, _columns(False), arguments, limit, statistics
        )
        return await self._fetch(bank, statement, arguments)

    async def _execute(self, bank: BankPlace, statement: str, *values: Any) -> int:
        """How many rows the statement changed."""

        async def work(connection: Any) -> str:
            return str(await connection.execute(statement, *values))

        status = await self._run(bank, work)
        self._figures.pop(bank.key, None)
        return int(status.rsplit(" ", 1)[1])

    async def _figures_of(self, bank: BankPlace) -> Figures:
        """Read once in a while: counting a large bank takes longer than searching it."""
        known = self._figures.get(bank.key)
        if known is not None and time.monotonic() - known.read_at < FIGURES_AGE_S:
            return known
        read_at = time.monotonic()
        words = "coalesce(avg(word_count), 0)" if bank.keyword else "0"
        statement = (
            f"select count(*) as chunks, {words}::double precision as words,"
            f" coalesce(array_agg(distinct language), '{{}}') as languages from {self._table(bank)}"
        )
        row = (await self._fetch(bank, statement, Arguments()))[0]
        common = await self._common_words(bank) if row["chunks"] >= COMMON_SINCE_CHUNKS else {}
        holders = {word: share * row["chunks"] for word, share in common.items()}
        figures = Figures(Statistics(row["chunks"], row["words"], holders), set(row["languages"]), read_at)
        self._figures[bank.key] = figures
        self._figures.move_to_end(bank.key)
        while len(self._figures) > MAX_FIGURES:
            self._figures.popitem(last=False)
        return figures

    def _note_written(self, bank: BankPlace, chunks: list[Chunk]) -> None:
        """A few more chunks hardly change the figures, but a new language would not be looked for."""
        known = self._figures.get(bank.key)
        if known is None:
            return
        known.languages.update(chunk.language for chunk in chunks)
        known.written += len(chunks)
        if known.written > known.statistics.chunks * MAX_CHANGED_SHARE:
            del self._figures[bank.key]

    async def _common_words(self, bank: BankPlace) -> dict[int, float]:
        """The share of the chunks that have a word, of words that many have."""
        statement = """
            select most_common_elems::text::bigint[] as words, most_common_elem_freqs as shares from pg_stats
            where schemaname = $1 and tablename = $2 and attname = 'words' and most_common_elems is not null
        """
        rows = await self._fetch(bank, statement, Arguments(self._schema, name_of(bank)))
        # Behind the shares of the words stand the smallest and the largest of them.
        pairs = [pair for row in rows for pair in zip(row["words"], row["shares"], strict=False)]
        return {word: share for word, share in pairs if share > COMMON_SHARE}


def _columns(with_vectors: bool) -> str:
    return ", ".join([*CHUNK_COLUMNS, *(["embedding"] if with_vectors else [])])


def _lock_of(table: str) -> int:
    return int.from_bytes(blake2b(table.encode(), digest_size=8).digest(), "big", signed=True)


def _rows(bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, kept: list[int]) -> list[tuple[Any, ...]]:
    """What goes into the table, in a thread: finding the stems is the larger part of a write's work here."""
    sent = encode_vectors(vectors) if vectors is not None and bank.dimension else []
    rows = []
    for position in kept:
        chunk = chunks[position]
        row = chunk_row(chunk)
        if bank.keyword:
            row += word_columns(stems(chunk.indexed_text, chunk.language))
        if sent:
            row += (sent[position],)
        rows.append(row)
    return rows
