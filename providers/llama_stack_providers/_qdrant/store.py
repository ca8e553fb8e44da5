"""Banks as Qdrant's collections, a point for each chunk.

What shows a write is one `set payload` operation. Qdrant logs it as one before it applies it, so a crash leaves all of
it or nothing; a search that runs in the same milliseconds may see a part of a write of more than some hundred chunks.
Local mode changes point by point: there, what a crash left is put right when the bank is next used.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from llama_stack.api.chunk_index import BankPlace, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.errors import NotFound, ProviderFailed
from llama_stack_providers._qdrant.conditions import DIALECT, INDEXED, UNFINISHED, VISIBLE, Condition, facet_fields
from llama_stack_providers._qdrant.door import Door
from llama_stack_providers._qdrant.points import hit_of, new_point
from llama_stack_providers._vector_database.bank_settings import check_no_settings, check_same
from llama_stack_providers._vector_database.banks import WriterLocks
from llama_stack_providers._vector_database.checks import check_dimension
from llama_stack_providers._vector_database.conditions import conditions_on
from llama_stack_providers._vector_database.facets import facets_of
from llama_stack_providers._vector_database.fields import fields_of_places, metadata_text, placed_rows
from llama_stack_providers._vector_database.listing import PlacedRow
from llama_stack_providers._vector_database.ranking import Fetch
from llama_stack_providers._vector_database.rows import Hit, Row, Rows, in_parts
from llama_stack_providers._vector_database.terms import term_number

MAX_DIMENSION = 65_536
PAGE = 1000
IDS_PER_REQUEST = 10_000
POINTS_WITH_TEXT = 256
"""That are asked for by their ids in one request."""
IS_THERE = (400, 409)
"""How Qdrant, by its version, refuses a collection that is there already."""


class QdrantStore:
    """prefix: begins the names of our collections. exact: search without the approximate index."""

    def __init__(self, door: Door, prefix: str, *, exact: bool = False) -> None:
        self._door = door
        self._prefix = prefix
        self._exact = exact
        self._locks = WriterLocks()
        # Behind an exclusive door: banks without remains, and without a write under way.
        self._clean: set[str] = set()

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create(self, bank: BankPlace) -> None:
        check_no_settings(bank)
        check_dimension(bank, MAX_DIMENSION, "Qdrant")
        path = self._path(bank)
        async with self._locks.of(bank.key):
            try:
                _check_same(bank, await self._door.ask("GET", path))
            except NotFound:
                await self._create(bank, path)
            # Again where it is there: a crash may have come between the two.
            for field, schema in INDEXED.items():
                await self._door.ask("PUT", f"{path}/index", {"field_name": field, "field_schema": schema})

    async def _create(self, bank: BankPlace, path: str) -> None:
        try:
            await self._door.ask("PUT", path, _collection(bank))
        except ProviderFailed as error:
            if error.upstream_status not in IS_THERE:
                raise
            # Another server was quicker.
            try:
                _check_same(bank, await self._door.ask("GET", path))
            except NotFound:
                raise error from None

    async def drop(self, bank: BankPlace) -> None:
        async with self._locks.of(bank.key):
            self._clean.discard(bank.key)
            try:
                await self._door.ask("DELETE", self._path(bank))
            except NotFound:
                return

    @asynccontextmanager
    async def writing(self, bank: BankPlace) -> AsyncIterator[None]:
        """The bank is clean again only when all went well."""
        async with self._locks.of(bank.key):
            if self._door.exclusive and bank.key not in self._clean:
                await self._recover(self._path(bank))
            self._clean.discard(bank.key)
            yield
            if self._door.exclusive:
                self._clean.add(bank.key)

    async def marked(self, bank: BankPlace, rows: Rows) -> tuple[list[str], list[str]]:
        shown: list[str] = []
        hidden: list[str] = []
        async for page in self._scroll(
            self._path(bank), conditions_on(rows, DIALECT), ["shown", "gone", "replaced_by"]
        ):
            for point in page:
                payload = point["payload"] or {}
                is_hidden = not payload.get("shown") or ("replaced_by" in payload and payload.get("gone"))
                (hidden if is_hidden else shown).append(point["id"])
        return shown, hidden

    async def put_rows(self, bank: BankPlace, rows: list[Row]) -> None:
        points = await asyncio.to_thread(lambda: [new_point(bank, row) for row in rows])
        await self._door.ask("PUT", f"{self._path(bank)}/points", {"points": points})

    async def show(self, bank: BankPlace, rows: list[Row], replaced: list[str]) -> None:
        path = f"{self._path(bank)}/points/payload"
        for some in in_parts(replaced, IDS_PER_REQUEST):
            marks = {"replaced_by": rows[0].write, "gone": False}
            await self._door.ask("POST", path, {"payload": marks, "points": some})
        row_ids = [row.row_id for row in rows] + replaced
        await self._door.ask("POST", path, {"payload": {"shown": True, "gone": True}, "points": row_ids})

    async def delete(self, bank: BankPlace, row_ids: list[str]) -> None:
        await self._delete(self._path(bank), row_ids)

    def nearest(self, bank: BankPlace, vector: list[float], rows: Rows, *, with_vectors: bool) -> Fetch:
        body: dict[str, Any] = {"query": vector, "using": "dense", "with_vector": ["dense"] if with_vectors else False}
        if self._exact:
            body["params"] = {"exact": True}
        return self._query(bank, body, rows)

    def sharing_words(self, bank: BankPlace, stems: list[str], rows: Rows) -> Fetch:
        numbers = sorted({term_number(stem) for stem in stems})
        terms = {"indices": numbers, "values": [1.0] * len(numbers)}
        return self._query(bank, {"query": terms, "using": "terms"}, rows)

    def _query(self, bank: BankPlace, body: dict[str, Any], rows: Rows) -> Fetch:
        conditions = conditions_on(rows, DIALECT)

        async def fetch(count: int) -> list[Hit | None]:
            path = await self._usable(bank)
            asked = {**body, "limit": count, "with_payload": True, **self._seen(bank, conditions)}
            answer = await self._door.ask("POST", f"{path}/points/query", asked)
            return [hit_of(point) for point in answer["points"]]

        return fetch

    async def places(self, bank: BankPlace, rows: Rows) -> AsyncIterator[list[PlacedRow]]:
        path = await self._usable(bank)
        async for page in self._scroll(path, conditions_on(rows, DIALECT), fields_of_places(rows.where), bank):
            yield placed_rows(((point["id"], point["payload"]) for point in page), rows.where)

    async def hits(self, bank: BankPlace, row_ids: list[str], *, with_vectors: bool) -> dict[str, Hit]:
        found: dict[str, Hit] = {}
        for some in in_parts(row_ids, POINTS_WITH_TEXT):
            body = {"ids": some, "with_payload": True, "with_vector": ["dense"] if with_vectors else False}
            for point in await self._door.ask("POST", f"{self._path(bank)}/points", body):
                found[point["id"]] = hit_of(point)
        return found

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        payload = {"metadata": metadata_text(metadata), **facet_fields(facets_of(metadata, document_id))}
        selector = {"must": [DIALECT.is_one_of("document_id", [document_id])]}
        await self._door.ask("POST", f"{self._path(bank)}/points/payload", {"payload": payload, "filter": selector})

    async def languages(self, bank: BankPlace) -> set[str]:
        return set(await self._values(await self._usable(bank), "language", PAGE))

    async def stats(self, bank: BankPlace) -> IndexStats:
        path = await self._usable(bank)
        count = await self._door.ask("POST", f"{path}/points/count", {"filter": VISIBLE, "exact": True})
        chunks = int(count["count"])
        documents = await self._values(path, "document_id", chunks)
        size = await self._door.size_bytes(self._collection_name(bank))
        return IndexStats(chunks=chunks, documents=len(documents), size_bytes=size)

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
        if self._door.exclusive and bank.key not in self._clean and not self._locks.of(bank.key).locked():
            async with self.writing(bank):
                pass
        return self._path(bank)

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
        shown = [DIALECT.is_one_of("write", sorted(writes)), {"key": "shown", "match": {"value": True}}]
        return {p["payload"]["write"] async for page in self._scroll(path, shown, ["write"]) for p in page}

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

    async def _delete(self, path: str, row_ids: list[str]) -> None:
        for some in in_parts(row_ids, IDS_PER_REQUEST):
            await self._door.ask("POST", f"{path}/points/delete", {"points": some})


def _collection(bank: BankPlace) -> dict[str, Any]:
    vectors = {"dense": {"size": bank.dimension, "distance": "Cosine"}} if bank.dimension else {}
    terms = {"sparse_vectors": {"terms": {"modifier": "idf"}}} if bank.keyword else {}
    return {"vectors": vectors, **terms}


def _check_same(bank: BankPlace, description: dict[str, Any]) -> None:
    made = description["config"]["params"]
    dimension = (made.get("vectors") or {}).get("dense", {}).get("size", 0)
    check_same(bank, int(dimension), keyword="terms" in (made.get("sparse_vectors") or {}))
