"""Banks as Chroma's collections, a record for each chunk.

What shows a write is one `update`. Chroma logs the records of one update in one transaction, so a crash leaves all of
it or nothing. An update takes no more records than `max_batch_size` (5,461 unless the server says otherwise); a write
that shows and hides more than that takes several, and a crash between them leaves a part.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from llama_stack.api.chunk_index import BankPlace, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.errors import Conflict, NotFound
from llama_stack_providers._chroma.conditions import Condition, facet_fields, holds_any, is_facet_field, where_of
from llama_stack_providers._chroma.door import Collection, Door, Operation
from llama_stack_providers._chroma.records import columns, hit_of
from llama_stack_providers._chroma.words import candidates_of
from llama_stack_providers._vector_database.bank_settings import check_no_settings, check_same
from llama_stack_providers._vector_database.banks import MAX_BANKS, WriterLocks, languages_one_by_one
from llama_stack_providers._vector_database.checks import check_dimension
from llama_stack_providers._vector_database.facets import facets_of
from llama_stack_providers._vector_database.fields import metadata_text, placed_rows
from llama_stack_providers._vector_database.listing import PlacedRow
from llama_stack_providers._vector_database.ranking import Fetch
from llama_stack_providers._vector_database.rows import Hit, Row, Rows, in_parts

MAX_DIMENSION = 65_536
RECORDS_WITH_TEXT = 1000
"""That are asked for by their ids in one request."""
PAGE = 4000
"""Every page costs the whole condition again, so pages are large."""
SHOWN: Condition = {"shown": True}
HIDDEN: Condition = {"shown": False}


class ChromaStore:
    """prefix: begins the names of our collections."""

    def __init__(self, door: Door, prefix: str) -> None:
        self._door = door
        self._prefix = prefix
        self._locks = WriterLocks()
        self._known: OrderedDict[str, Collection] = OrderedDict()

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create(self, bank: BankPlace) -> None:
        check_no_settings(bank)
        check_dimension(bank, MAX_DIMENSION, "Chroma")
        async with self._locks.of(bank.key):
            metadata = {"dimension": bank.dimension, "keyword": bank.keyword}
            name = self._name(bank)
            try:
                collection = await self._door.find(name)
            except NotFound:
                try:
                    collection = await self._door.create(name, metadata, {"hnsw": {"space": "cosine"}})
                except Conflict:
                    # Another server was quicker.
                    collection = await self._door.find(name)
            check_same(bank, collection.metadata.get("dimension"), keyword=collection.metadata.get("keyword"))

    async def drop(self, bank: BankPlace) -> None:
        async with self._locks.of(bank.key):
            self._known.pop(bank.key, None)
            try:
                await self._door.drop(self._name(bank))
            except NotFound:
                return

    def writing(self, bank: BankPlace) -> AbstractAsyncContextManager[None]:
        return self._locks.of_all([bank.key])

    async def marked(self, bank: BankPlace, rows: Rows) -> tuple[list[str], list[str]]:
        return await self._ids(bank, where_of(rows, SHOWN)), await self._ids(bank, where_of(rows, HIDDEN))

    async def put_rows(self, bank: BankPlace, rows: list[Row]) -> None:
        for some in in_parts(rows, self._door.max_records):
            await self._ask(bank, "add", await asyncio.to_thread(columns, some))

    async def show(self, bank: BankPlace, rows: list[Row], replaced: list[str]) -> None:
        marks = [(row_id, False) for row_id in replaced] + [(row.row_id, True) for row in rows]
        await self._update(bank, [(row_id, {"shown": shown}) for row_id, shown in marks])

    async def delete(self, bank: BankPlace, row_ids: list[str]) -> None:
        for some in in_parts(row_ids, self._door.max_records):
            await self._ask(bank, "delete", {"ids": some})

    def nearest(self, bank: BankPlace, vector: list[float], rows: Rows, *, with_vectors: bool) -> Fetch:
        include = ["metadatas", "documents", "distances", *(["embeddings"] if with_vectors else [])]
        body = {"query_embeddings": [vector], "include": include, **where_of(rows)}

        async def fetch(count: int) -> list[Hit | None]:
            answer = await self._ask(bank, "query", {**body, "n_results": count})
            found = zip(
                answer["ids"][0],
                answer["metadatas"][0],
                answer["documents"][0],
                answer["distances"][0],
                answer["embeddings"][0] if with_vectors else [None] * len(answer["ids"][0]),
                strict=True,
            )
            return [
                hit_of(row_id, fields, document, 1.0 - float(distance), embedding) if fields["shown"] else None
                for row_id, fields, document, distance, embedding in found
            ]

        return fetch

    def sharing_words(self, bank: BankPlace, stems: list[str], rows: Rows) -> Fetch:
        ranked: list[tuple[str, float]] | None = None

        async def fetch(count: int) -> list[Hit | None]:
            nonlocal ranked
            if ranked is None:
                ranked = await self._ranked(bank, stems, rows)
            return await self._scored(bank, ranked[:count])

        return fetch

    async def _ranked(self, bank: BankPlace, stems: list[str], rows: Rows) -> list[tuple[str, float]]:
        body = {"where_document": holds_any(stems), "include": ["documents"], **where_of(rows)}
        candidates = await candidates_of(stems, self._pages(bank, body))
        chunks = await self._ask(bank, "count", {})
        return await asyncio.to_thread(candidates.ranked, chunks)

    async def _scored(self, bank: BankPlace, best: list[tuple[str, float]]) -> list[Hit | None]:
        scores = dict(best)
        found: dict[str, Hit] = {}
        async for row_id, fields, document, _ in self._records(bank, list(scores), with_vectors=False):
            if fields["shown"]:
                found[row_id] = hit_of(row_id, fields, document, scores[row_id], None)
        return [found.get(row_id) for row_id in scores]

    async def places(self, bank: BankPlace, rows: Rows) -> AsyncIterator[list[PlacedRow]]:
        body = {"include": ["metadatas"], **where_of(rows)}
        async for page in self._pages(bank, body):
            # Whether a record may be seen is read here: as a condition it would cost more than all the rest.
            records = zip(page["ids"], page["metadatas"], strict=True)
            yield placed_rows(((row_id, fields) for row_id, fields in records if fields["shown"]), rows.where)

    async def hits(self, bank: BankPlace, row_ids: list[str], *, with_vectors: bool) -> dict[str, Hit]:
        # What a write replaced in the meantime is hidden but may be listed still: it was whole when it was seen.
        return {
            row_id: hit_of(row_id, fields, document, 0.0, embedding)
            async for row_id, fields, document, embedding in self._records(bank, row_ids, with_vectors=with_vectors)
        }

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        new = {"metadata": metadata_text(metadata), **facet_fields(facets_of(metadata, document_id))}
        changes: list[tuple[str, dict[str, Any]]] = []
        body = {"include": ["metadatas"], **where_of(Rows(documents=[document_id]))}
        async for page in self._pages(bank, body):
            for row_id, fields in zip(page["ids"], page["metadatas"], strict=True):
                # A field that is None is removed.
                gone = {name: None for name in fields if is_facet_field(name) and name not in new}
                changes.append((row_id, {**gone, **new}))
        await self._update(bank, changes)

    async def languages(self, bank: BankPlace) -> set[str]:
        async def another(seen: set[str]) -> str | None:
            unseen = {"where": {"language": {"$nin": sorted(seen)}}} if seen else {}
            answer = await self._ask(bank, "get", {"limit": 1, "include": ["metadatas"], **unseen})
            return str(answer["metadatas"][0]["language"]) if answer["ids"] else None

        return await languages_one_by_one(another)

    async def stats(self, bank: BankPlace) -> IndexStats:
        chunks = 0
        documents: set[str] = set()
        async for page in self.places(bank, Rows()):
            chunks += len(page)
            documents.update(place.document_id for place, _ in page)
        size = await self._door.size_bytes(await self._collection(bank))
        return IndexStats(chunks=chunks, documents=len(documents), size_bytes=size)

    async def _ids(self, bank: BankPlace, where: dict[str, Any]) -> list[str]:
        answer = await self._ask(bank, "get", {"include": [], **where})
        row_ids: list[str] = answer["ids"]
        return row_ids

    async def _update(self, bank: BankPlace, changes: list[tuple[str, dict[str, Any]]]) -> None:
        for some in in_parts(changes, self._door.max_records):
            body = {"ids": [row_id for row_id, _ in some], "metadatas": [fields for _, fields in some]}
            await self._ask(bank, "update", body)

    async def _records(
        self, bank: BankPlace, row_ids: list[str], *, with_vectors: bool
    ) -> AsyncIterator[tuple[str, dict[str, Any], str, Any]]:
        """Id, metadata, document and embedding of those that are there."""
        include = ["metadatas", "documents", *(["embeddings"] if with_vectors else [])]
        for some in in_parts(row_ids, RECORDS_WITH_TEXT):
            answer = await self._ask(bank, "get", {"ids": some, "include": include})
            embeddings = answer["embeddings"] if with_vectors else [None] * len(answer["ids"])
            for record in zip(answer["ids"], answer["metadatas"], answer["documents"], embeddings, strict=True):
                yield record

    async def _pages(self, bank: BankPlace, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        offset = 0
        while True:
            page = await self._ask(bank, "get", {**body, "limit": PAGE, "offset": offset})
            yield page
            if len(page["ids"]) < PAGE:
                return
            offset += PAGE

    async def _ask(self, bank: BankPlace, operation: Operation, body: dict[str, Any]) -> Any:
        known = self._known.get(bank.key)
        if known is not None:
            try:
                return await self._door.ask(known, operation, body)
            except NotFound:
                # Another server may have dropped the bank and made it anew.
                self._known.pop(bank.key, None)
        return await self._door.ask(await self._collection(bank), operation, body)

    async def _collection(self, bank: BankPlace) -> Collection:
        known = self._known.get(bank.key)
        if known is None:
            known = self._known[bank.key] = await self._door.find(self._name(bank))
            if len(self._known) > MAX_BANKS:
                self._known.popitem(last=False)
        return known

    def _name(self, bank: BankPlace) -> str:
        return f"{self._prefix}{bank.key}"
