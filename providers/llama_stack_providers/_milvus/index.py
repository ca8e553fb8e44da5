"""Chunks in Milvus: one collection for each bank, a row for each chunk.

What is whole: a write's rows are added unseen, and one partial upsert shows them and hides those that they replace.
Milvus gives all rows of one request one timestamp, and collections are read with strong consistency, so a search sees
all of it or nothing. A request shows and hides up to FLAGS_PER_REQUEST rows; a write of more takes several, and a
crash between them leaves a part. What a crash left unseen is removed by the next write to the document. Two servers
that write the same document at once may each remove the other's unseen rows. Partial upserts need Milvus 2.6.

A search finds at most MAX_FOUND rows, which is Milvus's own limit: where a filter is one of the few that are checked
again here, more than that are not looked through.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderFailed
from llama_stack_providers._milvus.door import Door
from llama_stack_providers._milvus.rows import (
    OUTPUT,
    SHOWN,
    MilvusDialect,
    facet_fields,
    found_chunk,
    is_one_of,
    key_of,
    new_rows,
    pieces,
    quoted,
    schema_of,
    words,
)
from llama_stack_providers._vector_database.banks import BankLanguages, WriterLocks
from llama_stack_providers._vector_database.conditions import condition_of
from llama_stack_providers._vector_database.listing import Place, first_places
from llama_stack_providers._vector_database.ranking import best_of, selected_metadata
from llama_stack_providers._vector_database.records import (
    KEY_FIELDS,
    check_bank,
    chunk_facets,
    metadata_of,
    metadata_text,
    query_vector,
)
from llama_stack_providers._vector_database.terms import query_words

if TYPE_CHECKING:
    from pymilvus import MilvusClient

MAX_DIMENSION = 32_768
MAX_FOUND = 16_384
ROWS_PER_REQUEST = 250
FLAGS_PER_REQUEST = 5000
PAGE = 1000
LISTING_TRIES = 5
MAX_LANGUAGES = 256


class MilvusIndex:
    """prefix: begins the names of our collections."""

    def __init__(self, door: Door, prefix: str) -> None:
        self._door = door
        self._prefix = prefix
        self._locks = WriterLocks()
        self._languages = BankLanguages()
        self._loaded: set[str] = set()
        self._unflushed: dict[str, int] = {}

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create_bank(self, bank: BankPlace) -> None:
        check_bank(bank, MAX_DIMENSION)
        if bank.dimension == 1:
            raise InvalidRequest("Milvus keeps vectors of 2 numbers or more", param="dimension")
        async with self._locks.of(bank.key):
            name = self._name(bank)
            if not await self._is_there(name):
                try:
                    await self._door.call(
                        lambda client, timeout: client.create_collection(
                            name, schema=schema_of(bank), consistency_level="Strong", timeout=timeout
                        )
                    )
                except ProviderFailed:
                    # Another server may have been quicker.
                    if not await self._is_there(name):
                        raise
            described = await self._door.call(lambda client, timeout: client.describe_collection(name, timeout=timeout))
            there = next((field["params"]["dim"] for field in described["fields"] if field["name"] == "dense"), 0)
            if int(there) != bank.dimension:
                raise Conflict(
                    f"the bank is there with vectors of {there} numbers, not {bank.dimension}; drop it first"
                )
            await self._index_fields(bank, name)

    async def _is_there(self, name: str) -> bool:
        return await self._door.call(lambda client, timeout: bool(client.has_collection(name, timeout=timeout)))

    async def _index_fields(self, bank: BankPlace, name: str) -> None:
        """Makes the indexes that are not there: all of them, unless the bank was made before."""

        def index(client: "MilvusClient", timeout: float) -> None:
            there = client.list_indexes(name)
            indexes = client.prepare_index_params()
            if bank.dimension and "dense" not in there:
                indexes.add_index("dense", index_name="dense", index_type="AUTOINDEX", metric_type="COSINE")
            if bank.keyword and "bm25" not in there:
                indexes.add_index("bm25", index_name="bm25", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
            if len(indexes):
                # There is nothing to index yet, so there is nothing to wait for.
                client.create_index(name, indexes, timeout=timeout, sync=False)

        await self._door.call(index)

    async def drop_bank(self, bank: BankPlace) -> None:
        name = self._name(bank)
        async with self._locks.of(bank.key):
            self._languages.forget(bank.key)
            self._loaded.discard(name)
            self._unflushed.pop(name, None)
            try:
                await self._door.call(lambda client, timeout: client.drop_collection(name, timeout=timeout))
            except NotFound:
                return

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        rows = await asyncio.to_thread(new_rows, uuid.uuid4(), bank, chunks, vectors)
        async with self._locks.of(bank.key):
            name = await self._usable(bank)
            if not rows:
                return
            field = "document_id" if replace_documents else "chunk_id"
            replaced = await self._clear_remains(name, is_one_of(field, {getattr(chunk, field) for chunk in chunks}))
            for start in range(0, len(rows), ROWS_PER_REQUEST):
                await self._insert(name, rows[start : start + ROWS_PER_REQUEST])
            flags = [{"id": row, "shown": False} for row in replaced] + [
                {"id": row["id"], "shown": True} for row in rows
            ]
            await self._change(name, flags)
            self._languages.add(bank.key, {chunk.language for chunk in chunks})
            await self._delete(name, replaced)
            await self._flush(name, len(rows))

    async def _clear_remains(self, name: str, earlier: str) -> list[str]:
        """Ids of the rows that the condition selects and a search sees; the others are deleted."""
        rows = [row async for page in self._pages(name, earlier, ["id", "shown"]) for row in page]
        await self._delete(name, [row["id"] for row in rows if not row["shown"]])
        return [row["id"] for row in rows if row["shown"]]

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Comparison | Compound | None = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        fields = [*OUTPUT, "dense"] if with_vectors else OUTPUT
        return await self._search(bank, "dense", query_vector(bank, vector), fields, limit, where)

    async def search_keyword(
        self, bank: BankPlace, query: str, limit: int, where: Comparison | Compound | None = None
    ) -> list[FoundChunk]:
        if not bank.keyword:
            raise InvalidRequest("the bank is not kept for searching by keyword", param="mode")
        await self._usable(bank)
        languages = await self._languages.of(bank.key, lambda: self._languages_of(bank))
        asked = words(await asyncio.to_thread(query_words, query, languages))
        return await self._search(bank, "bm25", asked, OUTPUT, limit, where) if asked else []

    async def _search(
        self,
        bank: BankPlace,
        field: str,
        asked: Any,
        fields: list[str],
        limit: int,
        where: Comparison | Compound | None,
    ) -> list[FoundChunk]:
        name = await self._usable(bank)
        condition = _visible(where)

        async def fetch(count: int) -> list[FoundChunk | None]:
            def search(client: "MilvusClient", timeout: float) -> Any:
                return client.search(
                    name,
                    [asked],
                    anns_field=field,
                    limit=min(count, MAX_FOUND),
                    filter=condition,
                    output_fields=fields,
                    timeout=timeout,
                )

            hits = (await self._door.call(search))[0]
            # Milvus Lite gives BM25 as a distance, below zero.
            scores = [float(hit["distance"]) if field == "dense" else abs(float(hit["distance"])) for hit in hits]
            return [found_chunk(hit["entity"], score) for hit, score in zip(hits, scores, strict=True)]

        return await best_of(limit, where, fetch)

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
        name = await self._usable(bank)
        last = await self._place(name, after) if after is not None else None
        if document_ids == []:
            return []
        condition = _visible(where, None if document_ids is None else is_one_of("document_id", document_ids))
        fields = [*OUTPUT, "dense"] if with_vectors and bank.dimension else OUTPUT
        found: list[FoundChunk] = []
        for _ in range(LISTING_TRIES):
            places = await first_places(self._places(name, condition, where), limit, last)
            rows = await self._rows(name, [place.record for place in places], fields)
            found = [found_chunk(rows[place.record]) for place in places if place.record in rows]
            # What a write replaced in the meantime is listed anew.
            if len(found) == len(places):
                break
        return found

    async def _places(
        self, name: str, condition: str, where: Comparison | Compound | None
    ) -> AsyncIterator[list[Place]]:
        fields = ["id", *KEY_FIELDS, *(["metadata"] if where is not None else [])]
        async for page in self._pages(name, condition, fields):
            yield [
                Place(row["document_id"], int(row["position"]), row["chunk_id"], row["id"])
                for row in page
                if where is None or selected_metadata(where, metadata_of("".join(row["metadata"])), row["document_id"])
            ]

    async def _place(self, name: str, chunk_id: str) -> Place:
        async for page in self._places(name, _visible(None, is_one_of("chunk_id", [chunk_id])), None):
            if page:
                return page[0]
        raise InvalidRequest(f"there is no chunk {chunk_id!r} to list after", param="after")

    async def _rows(self, name: str, ids: list[str], fields: list[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(ids), PAGE):
            some = ids[start : start + PAGE]
            rows = await self._query(name, f"id in {quoted(some)}", fields, len(some))
            found.update({row["id"]: row for row in rows})
        return found

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        new = {
            "metadata": pieces(metadata_text(metadata), "metadata"),
            **facet_fields(chunk_facets(metadata, document_id)),
        }
        async with self._locks.of(bank.key):
            name = await self._usable(bank)
            ids = await self._clear_remains(name, is_one_of("document_id", [document_id]))
            await self._change(name, [{"id": row, **new} for row in ids])

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        async with self._locks.of(bank.key):
            name = await self._usable(bank)
            if not document_ids:
                return 0
            seen = await self._clear_remains(name, is_one_of("document_id", document_ids))
            await self._delete(name, seen)
            return len(seen)

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        async with self._locks.of(bank.key):
            name = await self._usable(bank)
            ids = [place.record async for page in self._places(name, _visible(where), where) for place in page]
            await self._delete(name, ids)
            return len(ids)

    async def stats(self, bank: BankPlace) -> IndexStats:
        name = await self._usable(bank)
        chunks = 0
        documents: set[str] = set()
        async for page in self._pages(name, SHOWN, ["id", "document_id_key"]):
            chunks += len(page)
            documents.update(row["document_id_key"] for row in page)
        return IndexStats(chunks=chunks, documents=len(documents))

    async def _languages_of(self, bank: BankPlace) -> set[str]:
        """Asks for a chunk in none of the languages seen so far, until there is none."""
        seen: set[str] = set()
        while len(seen) < MAX_LANGUAGES:
            known = quoted(key_of("language", language) for language in sorted(seen))
            condition = f"language_key not in {known}" if seen else SHOWN
            rows = await self._query(self._name(bank), condition, ["language"], 1)
            if not rows:
                break
            seen.add(rows[0]["language"])
        return seen

    async def _usable(self, bank: BankPlace) -> str:
        """The bank's collection, in memory: a server that started anew may not have loaded it."""
        name = self._name(bank)
        if name not in self._loaded:
            await self._door.call(lambda client, timeout: client.load_collection(name, timeout=timeout))
            self._loaded.add(name)
        return name

    def _name(self, bank: BankPlace) -> str:
        return f"{self._prefix}{bank.key}"

    async def _query(self, name: str, condition: str, fields: list[str], limit: int) -> list[dict[str, Any]]:
        return await self._door.call(
            lambda client, timeout: list(
                client.query(name, filter=condition, output_fields=fields, limit=limit, timeout=timeout)
            )
        )

    async def _pages(self, name: str, condition: str, fields: list[str]) -> AsyncIterator[list[dict[str, Any]]]:
        first = await self._query(name, condition, fields, PAGE)
        if len(first) < PAGE:
            yield first
            return
        pages = await self._door.call(
            lambda client, timeout: client.query_iterator(
                name, batch_size=PAGE, filter=condition, output_fields=fields, timeout=timeout
            )
        )
        try:
            while page := await self._door.call(lambda client, timeout: pages.next()):
                yield list(page)
        finally:
            pages.close()

    async def _insert(self, name: str, rows: list[dict[str, Any]]) -> None:
        await self._door.call(lambda client, timeout: client.insert(name, rows, timeout=timeout))

    async def _change(self, name: str, changes: list[dict[str, Any]]) -> None:
        """Sets fields of rows that are there."""
        for start in range(0, len(changes), FLAGS_PER_REQUEST):
            await self._upsert(name, changes[start : start + FLAGS_PER_REQUEST])

    async def _upsert(self, name: str, rows: list[dict[str, Any]]) -> None:
        await self._door.call(lambda client, timeout: client.upsert(name, rows, partial_update=True, timeout=timeout))

    async def _delete(self, name: str, ids: list[str]) -> None:
        for start in range(0, len(ids), FLAGS_PER_REQUEST):
            await self._delete_some(name, ids[start : start + FLAGS_PER_REQUEST])

    async def _delete_some(self, name: str, ids: list[str]) -> None:
        await self._door.call(
            lambda client, timeout: client.delete(name, filter=f"id in {quoted(ids)}", timeout=timeout)
        )

    async def _flush(self, name: str, rows: int) -> None:
        flush_rows = self._door.settings.flush_rows
        if flush_rows is None:
            return
        self._unflushed[name] = self._unflushed.get(name, 0) + rows
        if self._unflushed[name] >= flush_rows:
            self._unflushed[name] = 0
            await self._door.call(lambda client, timeout: client.flush(name, timeout=timeout))


def _visible(where: Comparison | Compound | None, condition: str | None = None) -> str:
    parts = [SHOWN] if condition is None else [SHOWN, condition]
    if where is not None:
        parts.append(condition_of(where, MilvusDialect()))
    return MilvusDialect().all_of(parts)
