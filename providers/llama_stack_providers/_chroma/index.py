"""Chunks in Chroma: one collection for each bank, a record for each chunk.

What is whole: a write's records are added unseen, and one `update` shows them and hides those that they replace.
Chroma logs the records of one update in one transaction, so a crash leaves all of it or nothing. An update takes no
more records than `max_batch_size` (5,461 unless the server says otherwise); a write that shows and hides more than
that takes several, and a crash between them leaves a part. What a crash left unseen is removed by the next write to
the document. Two servers that write the same document at once may each remove the other's unseen records.
"""

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack_providers._chroma.door import Collection, Door, Operation
from llama_stack_providers._chroma.records import (
    ChromaDialect,
    Condition,
    columns,
    facet_fields,
    found_chunk,
    holds_any,
    is_facet_field,
    new_records,
)
from llama_stack_providers._chroma.words import candidates_of
from llama_stack_providers._vector_database.banks import MAX_BANKS, BankLanguages, WriterLocks
from llama_stack_providers._vector_database.conditions import condition_of
from llama_stack_providers._vector_database.listing import Place, first_places
from llama_stack_providers._vector_database.ranking import best_of, selected_metadata
from llama_stack_providers._vector_database.records import (
    check_bank,
    chunk_facets,
    metadata_of,
    metadata_text,
    query_vector,
)
from llama_stack_providers._vector_database.terms import query_words

MAX_DIMENSION = 65_536
ROWS_PER_REQUEST = 250
PAGE = 1000
LARGE_PAGE = 4000
LISTING_TRIES = 5
MAX_LANGUAGES = 256
SHOWN: Condition = {"shown": True}
HIDDEN: Condition = {"shown": False}


class ChromaIndex:
    """prefix: begins the names of our collections."""

    def __init__(self, door: Door, prefix: str) -> None:
        self._door = door
        self._prefix = prefix
        self._locks = WriterLocks()
        self._languages = BankLanguages()
        self._known: OrderedDict[str, Collection] = OrderedDict()

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create_bank(self, bank: BankPlace) -> None:
        check_bank(bank, MAX_DIMENSION)
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
            there = collection.metadata.get("dimension")
            if there != bank.dimension:
                raise Conflict(
                    f"the bank is there with vectors of {there} numbers, not {bank.dimension}; drop it first"
                )

    async def drop_bank(self, bank: BankPlace) -> None:
        async with self._locks.of(bank.key):
            self._languages.forget(bank.key)
            self._known.pop(bank.key, None)
            try:
                await self._door.drop(self._name(bank))
            except NotFound:
                return

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        records = await asyncio.to_thread(new_records, uuid.uuid4(), bank, chunks, vectors)
        async with self._locks.of(bank.key):
            if not records:
                await self._collection(bank)
                return
            field = "document_id" if replace_documents else "chunk_id"
            earlier = _any_of(field, sorted({getattr(chunk, field) for chunk in chunks}))
            replaced = await self._clear_remains(bank, earlier)
            size = min(ROWS_PER_REQUEST, self._door.max_records)
            for start in range(0, len(records), size):
                await self._ask(bank, "add", columns(records[start : start + size]))
            await self._show(bank, [record["id"] for record in records], replaced)
            self._languages.add(bank.key, {chunk.language for chunk in chunks})
            await self._delete(bank, replaced)

    async def _clear_remains(self, bank: BankPlace, earlier: Condition) -> list[str]:
        """Ids of the records that the condition selects and a search sees; the others are deleted."""
        await self._delete(bank, await self._ids(bank, [earlier, HIDDEN]))
        return await self._ids(bank, [earlier, SHOWN])

    async def _show(self, bank: BankPlace, new: list[str], replaced: list[str]) -> None:
        flags = [(record, False) for record in replaced] + [(record, True) for record in new]
        for start in range(0, len(flags), self._door.max_records):
            some = flags[start : start + self._door.max_records]
            body = {"ids": [record for record, _ in some], "metadatas": [{"shown": shown} for _, shown in some]}
            await self._ask(bank, "update", body)

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Comparison | Compound | None = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        include = ["metadatas", "documents", "distances", *(["embeddings"] if with_vectors else [])]
        body: dict[str, Any] = {"query_embeddings": [query_vector(bank, vector)], "include": include}
        if where is not None:
            body["where"] = condition_of(where, ChromaDialect())

        async def fetch(count: int) -> list[FoundChunk | None]:
            answer = await self._ask(bank, "query", {**body, "n_results": count})
            return [
                found_chunk(metadata, document, 1.0 - float(distance), embedding)
                for metadata, document, distance, embedding in zip(
                    answer["metadatas"][0],
                    answer["documents"][0],
                    answer["distances"][0],
                    answer["embeddings"][0] if with_vectors else [None] * len(answer["ids"][0]),
                    strict=True,
                )
            ]

        return await best_of(limit, where, fetch)

    async def search_keyword(
        self, bank: BankPlace, query: str, limit: int, where: Comparison | Compound | None = None
    ) -> list[FoundChunk]:
        if not bank.keyword:
            raise InvalidRequest("the bank is not kept for searching by keyword", param="mode")
        languages = await self._languages.of(bank.key, lambda: self._languages_of(bank))
        stems = await asyncio.to_thread(query_words, query, languages)
        if not stems:
            return []
        body: dict[str, Any] = {"where_document": holds_any(stems), "include": ["documents"]}
        if where is not None:
            body["where"] = condition_of(where, ChromaDialect())
        candidates = await candidates_of(stems, self._pages(bank, body))
        chunks = await self._ask(bank, "count", {})
        ranked = await asyncio.to_thread(candidates.ranked, chunks)

        async def fetch(count: int) -> list[FoundChunk | None]:
            best = ranked[:count]
            found = await self._retrieve(bank, [record for record, _ in best])
            return [_scored(found.get(record), score) for record, score in best]

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
        last = await self._place(bank, after) if after is not None else None
        if document_ids == []:
            await self._collection(bank)
            return []
        conditions = [] if document_ids is None else [_any_of("document_id", document_ids)]
        found: list[FoundChunk] = []
        for _ in range(LISTING_TRIES):
            places = await first_places(self._places(bank, where, conditions), limit, last)
            ids = [place.record for place in places]
            retrieved = await self._retrieve(bank, ids, with_vectors=with_vectors and bank.dimension > 0)
            # What a write replaces in the meantime is hidden but may be listed still: it was whole when it was seen.
            found = [retrieved[record] for record in ids if record in retrieved]
            if len(found) == len(places):
                break
        return found

    async def _places(
        self, bank: BankPlace, where: Comparison | Compound | None, conditions: list[Condition]
    ) -> AsyncIterator[list[Place]]:
        """Page by page, what a search may see of what the conditions and the filter select."""
        parts = [*conditions, *([condition_of(where, ChromaDialect())] if where is not None else [])]
        body: dict[str, Any] = {"include": ["metadatas"]}
        if parts:
            body["where"] = ChromaDialect().all_of(parts)
        async for page in self._pages(bank, body):
            # Whether a record may be seen is read here: as a condition it would cost more than all the rest.
            yield [
                Place(fields["document_id"], int(fields["position"]), fields["chunk_id"], record)
                for record, fields in zip(page["ids"], page["metadatas"], strict=True)
                if fields["shown"]
                and (where is None or selected_metadata(where, metadata_of(fields["metadata"]), fields["document_id"]))
            ]

    async def _place(self, bank: BankPlace, chunk_id: str) -> Place:
        async for page in self._places(bank, None, [_any_of("chunk_id", [chunk_id])]):
            if page:
                return page[0]
        raise InvalidRequest(f"there is no chunk {chunk_id!r} to list after", param="after")

    async def _retrieve(self, bank: BankPlace, ids: list[str], *, with_vectors: bool = False) -> dict[str, FoundChunk]:
        include = ["metadatas", "documents", *(["embeddings"] if with_vectors else [])]
        found: dict[str, FoundChunk] = {}
        for start in range(0, len(ids), PAGE):
            answer = await self._ask(bank, "get", {"ids": ids[start : start + PAGE], "include": include})
            embeddings = answer["embeddings"] if with_vectors else [None] * len(answer["ids"])
            rows = zip(answer["ids"], answer["metadatas"], answer["documents"], embeddings, strict=True)
            for record, fields, document, embedding in rows:
                one = found_chunk({**fields, "shown": True}, document, 0.0, embedding)
                if one is not None:
                    found[record] = one
        return found

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        new = {"metadata": metadata_text(metadata), **facet_fields(chunk_facets(metadata, document_id))}
        async with self._locks.of(bank.key):
            changes: list[tuple[str, dict[str, Any]]] = []
            body = {"where": _any_of("document_id", [document_id]), "include": ["metadatas"]}
            async for page in self._pages(bank, body):
                for record, fields in zip(page["ids"], page["metadatas"], strict=True):
                    # A field that is None is removed.
                    gone = {name: None for name in fields if is_facet_field(name) and name not in new}
                    changes.append((record, {**gone, **new}))
            for start in range(0, len(changes), self._door.max_records):
                some = changes[start : start + self._door.max_records]
                update = {"ids": [record for record, _ in some], "metadatas": [fields for _, fields in some]}
                await self._ask(bank, "update", update)

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        async with self._locks.of(bank.key):
            if not document_ids:
                await self._collection(bank)
                return 0
            seen = await self._clear_remains(bank, _any_of("document_id", document_ids))
            await self._delete(bank, seen)
            return len(seen)

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        async with self._locks.of(bank.key):
            ids = [place.record async for page in self._places(bank, where, []) for place in page]
            await self._delete(bank, ids)
            return len(ids)

    async def stats(self, bank: BankPlace) -> IndexStats:
        chunks = 0
        documents: set[str] = set()
        async for page in self._places(bank, None, []):
            chunks += len(page)
            documents.update(place.document_id for place in page)
        size = await self._door.size_bytes(await self._collection(bank))
        return IndexStats(chunks=chunks, documents=len(documents), size_bytes=size)

    async def _languages_of(self, bank: BankPlace) -> set[str]:
        """Asks for a chunk in none of the languages seen so far, until there is none."""
        seen: list[str] = []
        while len(seen) < MAX_LANGUAGES:
            body: dict[str, Any] = {"limit": 1, "include": ["metadatas"]}
            if seen:
                body["where"] = {"language": {"$nin": seen}}
            answer = await self._ask(bank, "get", body)
            if not answer["ids"]:
                break
            seen.append(answer["metadatas"][0]["language"])
        return set(seen)

    async def _ids(self, bank: BankPlace, conditions: list[Condition]) -> list[str]:
        answer = await self._ask(bank, "get", {"where": {"$and": conditions}, "include": []})
        ids: list[str] = answer["ids"]
        return ids

    async def _delete(self, bank: BankPlace, ids: list[str]) -> None:
        for start in range(0, len(ids), self._door.max_records):
            await self._ask(bank, "delete", {"ids": ids[start : start + self._door.max_records]})

    async def _pages(self, bank: BankPlace, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        offset = 0
        while True:
            # Every page costs the whole condition again, so pages are large.
            page = await self._ask(bank, "get", {**body, "limit": LARGE_PAGE, "offset": offset})
            yield page
            if len(page["ids"]) < LARGE_PAGE:
                return
            offset += LARGE_PAGE

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


def _any_of(field: str, values: list[str]) -> Condition:
    return {field: {"$in": values}}


def _scored(found: FoundChunk | None, score: float) -> FoundChunk | None:
    return None if found is None else found.model_copy(update={"score": score})
