"""Banks as Milvus's collections, a row for each chunk.

What shows a write is one partial upsert, which needs Milvus 2.6. Milvus gives all rows of one request one timestamp,
and collections are read with strong consistency, so a search sees all of it or nothing. A request shows and hides up
to IDS_PER_REQUEST rows; a write of more takes several, and a crash between them leaves a part.

A search finds at most MAX_FOUND rows, which is Milvus's own limit: where a filter is one of the few that are checked
again here, more than that are not looked through.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from llama_stack.api.chunk_index import BankPlace, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.errors import InvalidRequest, NotFound, ProviderFailed
from llama_stack_providers._milvus.conditions import SHOWN, condition_on, facet_fields, key_of, quoted
from llama_stack_providers._milvus.door import Door
from llama_stack_providers._milvus.rows import OUTPUT, has_words, hit_of, joined, new_row, pieces, schema_of, words
from llama_stack_providers._vector_database.bank_settings import check_no_settings, check_same
from llama_stack_providers._vector_database.banks import WriterLocks, languages_one_by_one
from llama_stack_providers._vector_database.checks import check_dimension
from llama_stack_providers._vector_database.facets import facets_of
from llama_stack_providers._vector_database.fields import fields_of_places, metadata_text, placed_rows
from llama_stack_providers._vector_database.listing import PlacedRow
from llama_stack_providers._vector_database.ranking import Fetch
from llama_stack_providers._vector_database.rows import Hit, Row, Rows, in_parts

if TYPE_CHECKING:
    from pymilvus import MilvusClient

MAX_DIMENSION = 32_768
MAX_FOUND = 16_384
IDS_PER_REQUEST = 5000
PAGE = 1000


class MilvusStore:
    """prefix: begins the names of our collections."""

    def __init__(self, door: Door, prefix: str) -> None:
        self._door = door
        self._prefix = prefix
        self._locks = WriterLocks()
        self._loaded: set[str] = set()
        self._unflushed: dict[str, int] = {}

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create(self, bank: BankPlace) -> None:
        check_no_settings(bank)
        check_dimension(bank, MAX_DIMENSION, "Milvus")
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
            fields = {field["name"]: field["params"] for field in described["fields"]}
            dimension = int(fields.get("dense", {}).get("dim", 0))
            check_same(bank, dimension, keyword="words" in fields if dimension else bank.keyword)
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
            if has_words(bank) and "bm25" not in there:
                indexes.add_index("bm25", index_name="bm25", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
            if len(indexes):
                # There is nothing to index yet, so there is nothing to wait for.
                client.create_index(name, indexes, timeout=timeout, sync=False)

        await self._door.call(index)

    async def drop(self, bank: BankPlace) -> None:
        name = self._name(bank)
        async with self._locks.of(bank.key):
            self._loaded.discard(name)
            self._unflushed.pop(name, None)
            try:
                await self._door.call(lambda client, timeout: client.drop_collection(name, timeout=timeout))
            except NotFound:
                return

    @asynccontextmanager
    async def writing(self, bank: BankPlace) -> AsyncIterator[None]:
        async with self._locks.of(bank.key):
            yield
            await self._flush(self._name(bank))

    async def marked(self, bank: BankPlace, rows: Rows) -> tuple[list[str], list[str]]:
        pages = self._pages(await self._usable(bank), condition_on(rows), ["id", "shown"])
        found = [row async for page in pages for row in page]
        return [row["id"] for row in found if row["shown"]], [row["id"] for row in found if not row["shown"]]

    async def put_rows(self, bank: BankPlace, rows: list[Row]) -> None:
        name = self._name(bank)
        made = await asyncio.to_thread(lambda: [new_row(bank, row) for row in rows])
        await self._door.call(lambda client, timeout: client.insert(name, made, timeout=timeout))
        self._unflushed[name] = self._unflushed.get(name, 0) + len(rows)

    async def show(self, bank: BankPlace, rows: list[Row], replaced: list[str]) -> None:
        hidden = [{"id": row_id, "shown": False} for row_id in replaced]
        await self._change(bank, hidden + [{"id": row.row_id, "shown": True} for row in rows])

    async def delete(self, bank: BankPlace, row_ids: list[str]) -> None:
        name = self._name(bank)
        for some in in_parts(row_ids, IDS_PER_REQUEST):
            await self._delete(name, f"id in {quoted(some)}")

    def nearest(self, bank: BankPlace, vector: list[float], rows: Rows, *, with_vectors: bool) -> Fetch:
        fields = [*OUTPUT, "dense"] if with_vectors else OUTPUT
        return self._search(bank, "dense", vector, fields, rows)

    def sharing_words(self, bank: BankPlace, stems: list[str], rows: Rows) -> Fetch:
        return self._search(bank, "bm25", words(stems), OUTPUT, rows)

    def _search(self, bank: BankPlace, field: str, asked: Any, fields: list[str], rows: Rows) -> Fetch:
        condition = condition_on(rows, SHOWN)

        async def fetch(count: int) -> list[Hit | None]:
            name = await self._usable(bank)

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
            found = [hit_of(hit["entity"], score) for hit, score in zip(hits, scores, strict=True)]
            if field == "dense" and len(found) < min(count, MAX_FOUND):
                found += await self._overlooked(name, condition, asked, fields, found)
                found.sort(key=lambda hit: -hit.found.score)
            return [*found]

        return fetch

    async def _overlooked(
        self, name: str, condition: str, vector: list[float], fields: list[str], found: list[Hit]
    ) -> list[Hit]:
        """Rows that the graph of the index does not lead to, though the search was to give them, too."""
        reached = {hit.row_id for hit in found}
        selected = [row["id"] for row in await self._query(name, condition, ["id"], MAX_FOUND)]
        overlooked: list[Hit] = []
        for some in in_parts([row_id for row_id in selected if row_id not in reached], PAGE):
            rows = await self._query(name, f"id in {quoted(some)}", [*OUTPUT, "dense"], len(some))
            overlooked += await asyncio.to_thread(_scored, rows, vector, fields)
        return overlooked

    async def places(self, bank: BankPlace, rows: Rows) -> AsyncIterator[list[PlacedRow]]:
        pages = self._pages(await self._usable(bank), condition_on(rows, SHOWN), ["id", *fields_of_places(rows.where)])
        async for page in pages:
            yield placed_rows(((row["id"], joined(row)) for row in page), rows.where)

    async def hits(self, bank: BankPlace, row_ids: list[str], *, with_vectors: bool) -> dict[str, Hit]:
        fields = [*OUTPUT, "dense"] if with_vectors else OUTPUT
        found: dict[str, Hit] = {}
        for some in in_parts(row_ids, PAGE):
            rows = await self._query(self._name(bank), f"id in {quoted(some)}", fields, len(some))
            found.update((row["id"], hit_of(row)) for row in rows)
        return found

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        new = {
            "metadata": pieces(metadata_text(metadata), "metadata"),
            **facet_fields(facets_of(metadata, document_id)),
        }
        pages = self._pages(await self._usable(bank), condition_on(Rows(documents=[document_id])), ["id"])
        await self._change(bank, [{"id": row["id"], **new} async for page in pages for row in page])

    async def languages(self, bank: BankPlace) -> set[str]:
        name = await self._usable(bank)

        async def another(seen: set[str]) -> str | None:
            known = quoted(key_of("language", language) for language in sorted(seen))
            rows = await self._query(name, f"language_key not in {known}" if seen else SHOWN, ["language"], 1)
            return str(rows[0]["language"]) if rows else None

        return await languages_one_by_one(another)

    async def stats(self, bank: BankPlace) -> IndexStats:
        chunks = 0
        documents: set[str] = set()
        async for page in self._pages(await self._usable(bank), SHOWN, ["id", "document_id_key"]):
            chunks += len(page)
            documents.update(row["document_id_key"] for row in page)
        return IndexStats(chunks=chunks, documents=len(documents))

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

    async def _change(self, bank: BankPlace, changes: list[dict[str, Any]]) -> None:
        """Sets fields of rows that are there."""
        for some in in_parts(changes, IDS_PER_REQUEST):
            await self._upsert(self._name(bank), some)

    async def _upsert(self, name: str, rows: list[dict[str, Any]]) -> None:
        await self._door.call(lambda client, timeout: client.upsert(name, rows, partial_update=True, timeout=timeout))

    async def _delete(self, name: str, condition: str) -> None:
        await self._door.call(lambda client, timeout: client.delete(name, filter=condition, timeout=timeout))

    async def _flush(self, name: str) -> None:
        flush_rows = self._door.settings.flush_rows
        if flush_rows is not None and self._unflushed.get(name, 0) >= flush_rows:
            self._unflushed[name] = 0
            await self._door.call(lambda client, timeout: client.flush(name, timeout=timeout))


def _scored(rows: list[dict[str, Any]], vector: list[float], fields: list[str]) -> list[Hit]:
    """By the cosine, as Milvus does it."""
    return [
        hit_of({key: row[key] for key in fields}, _cosine([float(number) for number in row["dense"]], vector))
        for row in rows
    ]


def _cosine(one: list[float], other: list[float]) -> float:
    product = math.fsum(left * right for left, right in zip(one, other, strict=True))
    return product / ((math.hypot(*one) * math.hypot(*other)) or 1.0)
