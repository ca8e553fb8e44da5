"""Chunks in Qdrant: one collection for each bank, a point for each chunk.

What is whole: a write's points are added unseen, and one `set payload` operation shows them and hides those that they
replace. Qdrant logs that operation as one before it applies it, so a crash leaves all of it or nothing; a search that
runs in the same milliseconds may see a part of a write of more than some hundred chunks. What a crash left unseen is
removed by the next write to the document, in local mode when the bank is next used. Two servers that write the same
document at once may each remove the other's unseen points; the later one should be asked to write again.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderFailed
from llama_stack_providers._qdrant.conditions import (
    INDEXED,
    UNFINISHED,
    VISIBLE,
    Condition,
    QdrantDialect,
    any_value,
    facet_fields,
)
from llama_stack_providers._qdrant.door import Door
from llama_stack_providers._qdrant.points import found_chunk, new_points, place_of, slices
from llama_stack_providers._vector_database.banks import BankLanguages, WriterLocks
from llama_stack_providers._vector_database.conditions import condition_of
from llama_stack_providers._vector_database.listing import Place, first_places
from llama_stack_providers._vector_database.ranking import best_of
from llama_stack_providers._vector_database.records import (
    KEY_FIELDS,
    check_bank,
    chunk_facets,
    metadata_text,
    query_vector,
)
from llama_stack_providers._vector_database.terms import query_numbers

MAX_DIMENSION = 65_536
ROWS_PER_REQUEST = 256
PAGE = 1000
IDS_PER_REQUEST = 10_000
LISTING_TRIES = 5


class QdrantIndex:
    """prefix: begins the names of our collections. exact: search without the approximate index."""

    def __init__(self, door: Door, prefix: str, *, exact: bool = False) -> None:
        self._door = door
        self._prefix = prefix
        self._exact = exact
        self._locks = WriterLocks()
        self._languages = BankLanguages()
        # Behind an exclusive door, banks that were looked through for remains, and banks with a write under way.
        self._clean: set[str] = set()

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create_bank(self, bank: BankPlace) -> None:
        check_bank(bank, MAX_DIMENSION)
        path = self._path(bank)
        async with self._locks.of(bank.key):
            try:
                there = await self._door.ask("GET", path)
            except NotFound:
                await self._create(bank, path)
            else:
                _check_same(bank, there)
            # Again where it is there: a crash may have come between the two.
            for field, schema in INDEXED.items():
                await self._door.ask("PUT", f"{path}/index", {"field_name": field, "field_schema": schema})

    async def _create(self, bank: BankPlace, path: str) -> None:
        try:
            await self._door.ask("PUT", path, _collection(bank))
        except (Conflict, ProviderFailed) as error:
            # Another server was quicker; older versions of Qdrant answer 400 then.
            if isinstance(error, ProviderFailed) and error.upstream_status != 400:
                raise
            try:
                there = await self._door.ask("GET", path)
            except NotFound:
                raise error from None
            _check_same(bank, there)

    async def drop_bank(self, bank: BankPlace) -> None:
        async with self._locks.of(bank.key):
            self._languages.forget(bank.key)
            self._clean.discard(bank.key)
            try:
                await self._door.ask("DELETE", self._path(bank))
            except NotFound:
                return

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        write = uuid.uuid4()
        points = await asyncio.to_thread(new_points, write, bank, chunks, vectors)
        if not points:
            await self._door.ask("GET", self._path(bank))
            return
        async with self._writing(bank) as path:
            if replace_documents:
                earlier = any_value("document_id", sorted({chunk.document_id for chunk in chunks}))
            else:
                earlier = any_value("chunk_id", sorted({chunk.chunk_id for chunk in chunks}))
            replaced = await self._clear_remains(path, earlier)
            await self._add(path, write, points, replaced)
            self._languages.add(bank.key, {chunk.language for chunk in chunks})
            await self._delete(path, replaced)

    async def _clear_remains(self, path: str, earlier: Condition) -> list[str]:
        """Ids of the points that the condition selects and a search sees; the others are deleted."""
        seen: list[str] = []
        remains: list[str] = []
        async for page in self._scroll(path, [earlier], ["shown", "gone", "replaced_by"]):
            for point in page:
                payload = point["payload"] or {}
                hidden = not payload.get("shown") or ("replaced_by" in payload and payload.get("gone"))
                (remains if hidden else seen).append(point["id"])
        await self._delete(path, remains)
        return seen

    async def _add(self, path: str, write: uuid.UUID, points: list[dict[str, Any]], replaced: list[str]) -> None:
        for some in slices(points):
            await self._door.ask("PUT", f"{path}/points", {"points": some})
        for start in range(0, len(replaced), IDS_PER_REQUEST):
            marks = {"replaced_by": str(write), "gone": False}
            body = {"payload": marks, "points": replaced[start : start + IDS_PER_REQUEST]}
            await self._door.ask("POST", f"{path}/points/payload", body)
        ids = [point["id"] for point in points] + replaced
        await self._door.ask(
            "POST", f"{path}/points/payload", {"payload": {"shown": True, "gone": True}, "points": ids}
        )

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Comparison | Compound | None = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        body: dict[str, Any] = {"query": query_vector(bank, vector), "using": "dense", "with_vector": ["dense"]}
        if not with_vectors:
            body["with_vector"] = False
        if self._exact:
            body["params"] = {"exact": True}
        return await self._query(bank, body, limit, where)

    async def search_keyword(
        self, bank: BankPlace, query: str, limit: int, where: Comparison | Compound | None = None
    ) -> list[FoundChunk]:
        if not bank.keyword:
            raise InvalidRequest("the bank is not kept for searching by keyword", param="mode")
        path = await self._usable(bank)
        languages = await self._languages.of(bank.key, lambda: self._languages_of(path))
        numbers = await asyncio.to_thread(query_numbers, query, languages)
        if not numbers:
            return []
        terms = {"indices": numbers, "values": [1.0] * len(numbers)}
        return await self._query(bank, {"query": terms, "using": "terms"}, limit, where)

    async def _query(
        self, bank: BankPlace, body: dict[str, Any], limit: int, where: Comparison | Compound | None
    ) -> list[FoundChunk]:
        path = await self._usable(bank)
        selected = _selection(where)

        async def fetch(count: int) -> list[FoundChunk | None]:
            asked = {**body, "limit": count, "with_payload": True, **self._seen(bank, selected)}
            answer = await self._door.ask("POST", f"{path}/points/query", asked)
            return [found_chunk(point) for point in answer["points"]]

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
        path = await self._usable(bank)
        last = None
        if after is not None:
            last = await self._place(path, bank, after)
        if document_ids == []:
            return []
        conditions = _selection(where)
        if document_ids is not None:
            conditions.append(any_value("document_id", document_ids))
        found: list[FoundChunk] = []
        for _ in range(LISTING_TRIES):
            places = await first_places(self._places(path, bank, where, conditions), limit, last)
            found = await self._retrieve(path, places, with_vectors=with_vectors and bank.dimension > 0)
            # What a write replaced in the meantime is listed anew.
            if len(found) == len(places):
                break
        return found

    async def _retrieve(self, path: str, places: list[Place], *, with_vectors: bool) -> list[FoundChunk]:
        points: dict[str, FoundChunk] = {}
        for start in range(0, len(places), ROWS_PER_REQUEST):
            ids = [place.record for place in places[start : start + ROWS_PER_REQUEST]]
            body = {"ids": ids, "with_payload": True, "with_vector": ["dense"] if with_vectors else False}
            for point in await self._door.ask("POST", f"{path}/points", body):
                points[point["id"]] = found_chunk(point)
        return [points[place.record] for place in places if place.record in points]

    async def _places(
        self, path: str, bank: BankPlace, where: Comparison | Compound | None, conditions: list[Condition]
    ) -> AsyncIterator[list[Place]]:
        """Page by page, what a search may see of what the conditions and the filter select."""
        fields = [*KEY_FIELDS, *(["metadata"] if where is not None else [])]
        async for page in self._scroll(path, conditions, fields, bank):
            yield [place for place in (place_of(point, where) for point in page) if place is not None]

    async def _place(self, path: str, bank: BankPlace, chunk_id: str) -> Place:
        conditions = [any_value("chunk_id", [chunk_id])]
        async for page in self._places(path, bank, None, conditions):
            if page:
                return page[0]
        raise InvalidRequest(f"there is no chunk {chunk_id!r} to list after", param="after")

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        async with self._writing(bank) as path:
            facets = chunk_facets(metadata, document_id)
            payload = {"metadata": metadata_text(metadata), **facet_fields(facets)}
            selector = {"must": [any_value("document_id", [document_id])]}
            await self._door.ask("POST", f"{path}/points/payload", {"payload": payload, "filter": selector})

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        async with self._writing(bank) as path:
            if not document_ids:
                return 0
            seen = await self._clear_remains(path, any_value("document_id", document_ids))
            await self._delete(path, seen)
            return len(seen)

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        async with self._writing(bank) as path:
            ids = [place.record async for page in self._places(path, bank, where, _selection(where)) for place in page]
            await self._delete(path, ids)
            return len(ids)

    async def stats(self, bank: BankPlace) -> IndexStats:
        path = await self._usable(bank)
        count = await self._door.ask("POST", f"{path}/points/count", {"filter": VISIBLE, "exact": True})
        chunks = int(count["count"])
        documents = await self._values(path, "document_id", chunks)
        size = await self._door.size_bytes(self._collection_name(bank))
        return IndexStats(chunks=chunks, documents=len(documents), size_bytes=size)

    async def _languages_of(self, path: str) -> set[str]:
        return set(await self._values(path, "language", PAGE))

    async def _values(self, path: str, field: str, limit: int) -> list[str]:
        body = {"key": field, "limit": max(limit, 1), "exact": True, "filter": VISIBLE}
        answer = await self._door.ask("POST", f"{path}/facet", body)
        return [hit["value"] for hit in answer["hits"]]

    def _collection_name(self, bank: BankPlace) -> str:
        return f"{self._prefix}{bank.key}"

    def _path(self, bank: BankPlace) -> str:
        return f"collections/{self._collection_name(bank)}"

    def _seen(self, bank: BankPlace, conditions: list[Condition]) -> dict[str, Any]:
        """The `filter` of a request for what a search may see; nothing where that is everything.

        Local mode reads every payload for a filter, however simple, so it gets none while no write is under way. The
        request is to be made at once, before a write can begin.
        """
        parts = conditions if bank.key in self._clean else [*conditions, VISIBLE]
        return {"filter": {"must": parts}} if parts else {}

    async def _usable(self, bank: BankPlace) -> str:
        """The bank's path, after what a crash or a cancelled write left behind an exclusive door is put right."""
        path = self._path(bank)
        if self._door.exclusive and bank.key not in self._clean and not self._locks.of(bank.key).locked():
            async with self._writing(bank):
                pass
        return path

    @asynccontextmanager
    async def _writing(self, bank: BankPlace) -> AsyncIterator[str]:
        """The bank's path, for the one that writes. The bank is clean again only when all went well."""
        path = self._path(bank)
        async with self._locks.of(bank.key):
            if self._door.exclusive and bank.key not in self._clean:
                await self._recover(path)
            self._clean.discard(bank.key)
            yield path
            if self._door.exclusive:
                self._clean.add(bank.key)

    async def _recover(self, path: str) -> None:
        """Brings writes to their end that had begun to be shown, and removes the others."""
        fields = ["shown", "gone", "replaced_by", "write"]
        left = [point async for page in self._scroll(path, [UNFINISHED], fields) for point in page]
        ended = {point["payload"]["replaced_by"] for point in left if point["payload"].get("gone")}
        ended |= await self._shown_writes(path, {point["payload"]["write"] for point in left})
        show = [p["id"] for p in left if not p["payload"]["shown"] and p["payload"]["write"] in ended]
        drop = [p["id"] for p in left if not p["payload"]["shown"] and p["payload"]["write"] not in ended]
        drop += [p["id"] for p in left if p["payload"]["shown"] and p["payload"].get("replaced_by") in ended]
        if show:
            payload = {"shown": True, "gone": True}
            await self._door.ask("POST", f"{path}/points/payload", {"payload": payload, "points": show})
        await self._delete(path, drop)
        await self._door.ask("POST", f"{path}/points/payload/delete", {"keys": ["replaced_by"], "filter": UNFINISHED})

    async def _shown_writes(self, path: str, writes: set[str]) -> set[str]:
        if not writes:
            return set()
        shown = {"must": [any_value("write", sorted(writes)), {"key": "shown", "match": {"value": True}}]}
        return {p["payload"]["write"] async for page in self._scroll(path, [shown], ["write"]) for p in page}

    async def _scroll(
        self, path: str, conditions: list[Condition], fields: list[str], seen_of: BankPlace | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """Points page by page, hidden ones too unless `seen_of` says whose visible ones are wanted."""
        offset = None
        while True:
            body: dict[str, Any] = {"limit": PAGE, "with_payload": fields, "with_vector": False}
            body |= {"filter": {"must": conditions}} if seen_of is None else self._seen(seen_of, conditions)
            if offset is not None:
                body["offset"] = offset
            answer = await self._door.ask("POST", f"{path}/points/scroll", body)
            yield answer["points"]
            offset = answer.get("next_page_offset")
            if offset is None:
                return

    async def _delete(self, path: str, ids: list[str]) -> None:
        for start in range(0, len(ids), IDS_PER_REQUEST):
            await self._door.ask("POST", f"{path}/points/delete", {"points": ids[start : start + IDS_PER_REQUEST]})


def _selection(where: Comparison | Compound | None) -> list[Condition]:
    return [] if where is None else [condition_of(where, QdrantDialect())]


def _collection(bank: BankPlace) -> dict[str, Any]:
    vectors = {"dense": {"size": bank.dimension, "distance": "Cosine"}} if bank.dimension else {}
    terms = {"sparse_vectors": {"terms": {"modifier": "idf"}}} if bank.keyword else {}
    return {"vectors": vectors, **terms}


def _check_same(bank: BankPlace, description: dict[str, Any]) -> None:
    """Raises Conflict where the collection was made for vectors of another width."""
    vectors = description["config"]["params"].get("vectors") or {}
    there = int(vectors.get("dense", {}).get("size", 0))
    if there != bank.dimension:
        raise Conflict(f"the bank is there with vectors of {there} numbers, not {bank.dimension}; drop it first")
