"""Banks as Weaviate's collections. A collection holds the chunks and, without vectors, the heads of their documents.

What filters compare stands in the property `facets`, and orders in one property for each key and kind, added when the
first chunk with such metadata is written.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.errors import InvalidRequest, NotFound, ProviderFailed
from llama_stack_providers._vector_database.bank_settings import check_record, record_of, settings_of
from llama_stack_providers._vector_database.checks import check_dimension
from llama_stack_providers._vector_database.facets import Facet, facets_of
from llama_stack_providers._vector_database.heads import MAX_FOUND, Head
from llama_stack_providers._vector_database.ranking import Fetch
from llama_stack_providers._vector_database.rows import Hit, Place, Row, Rows, named_id, place_of
from llama_stack_providers._vector_database.service import Service, path_of
from llama_stack_providers.remote._weaviate.conditions import (
    HEAD,
    any_of,
    chunk_word,
    conditions_of,
    graphql,
    join,
    order_property,
    order_value,
)
from llama_stack_providers.remote._weaviate.settings import BankSettings

FORMAT = 1
MAX_DIMENSION = 65_535
MAX_ORDER_PROPERTIES = 1_000
"""Different keys of one bank's metadata, by kind. Each is an index of its own in Weaviate."""
MAX_BANKS_KNOWN = 1_000
SIDE_BY_SIDE = 8
NO_LANGUAGE = "-"
_FILTERABLE = ("kind", "document", "write", "row", "place", "written_at", "language")


class WeaviateStore:
    """replicas: of new collections. With more than one, a majority of them must answer."""

    def __init__(self, service: Service, defaults: BankSettings, replicas: int) -> None:
        self._service = service
        self._defaults = defaults
        self._replicas = replicas
        self._level = {"consistency_level": "QUORUM"} if replicas > 1 else {}
        self._properties: OrderedDict[str, set[str]] = OrderedDict()

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=MAX_DIMENSION)

    async def create(self, bank: BankPlace) -> None:
        settings = settings_of(bank, self._defaults, "Weaviate")
        check_dimension(bank, MAX_DIMENSION, "Weaviate")
        name = _name(bank)
        status, there = await self._service.ask("GET", path_of("v1", "schema", name), answers=(404,))
        if status == 404:
            body = _collection(bank, settings, self._replicas)
            status, _ = await self._service.ask("POST", "v1/schema", body, answers=(422,))
            if status != 422:
                return
            # Another server may have made it in between; otherwise this repeats what was wrong with it.
            status, there = await self._service.ask("GET", path_of("v1", "schema", name), answers=(404,))
            if status == 404:
                await self._service.ask("POST", "v1/schema", body)
                return
        try:
            record = json.loads(there.get("description") or "")
        except ValueError:
            record = None
        check_record(record, FORMAT, f"the collection {name}", bank)

    async def drop(self, bank: BankPlace) -> None:
        await self._service.ask("DELETE", path_of("v1", "schema", _name(bank)), answers=(404,))
        self._properties.pop(bank.key, None)

    async def put_rows(self, bank: BankPlace, rows: Sequence[Row], *, last: bool) -> None:
        if not rows:
            return
        # Weaviate would make up a collection, or a property with a type of its own choice, where there is none.
        known = await self._read_properties(bank)
        facets = [row.facets() for row in rows]
        await self._add_properties(bank, {order_property(facet) for of_row in facets for facet in of_row} - known)
        await self._put_objects(bank, [_object(bank, row, of_row) for row, of_row in zip(rows, facets, strict=True)])

    async def heads(self, bank: BankPlace, documents: Sequence[str]) -> dict[str, Head]:
        names = {_head_id(document): document for document in documents}
        if not names:
            return {}
        where = join("And", [HEAD, any_of("document", list(names))])
        found = await self._get(bank, {"where": where, "limit": len(names)}, "document writes hidden")
        return {
            names[one["document"]]: Head(tuple(one["writes"] or ()), tuple(one["hidden"] or ()))
            for one in found
        }  # fmt: skip

    async def put_heads(self, bank: BankPlace, heads: dict[str, Head]) -> list[str]:
        objects = [
            {
                "class": _name(bank),
                "id": _head_id(document),
                "properties": {
                    "kind": "head",
                    "document": _head_id(document),
                    "writes": list(head.writes),
                    "hidden": list(head.hidden),
                },
            }
            for document, head in heads.items()
        ]
        await self._put_objects(bank, objects)
        return []

    async def drop_heads(self, bank: BankPlace, heads: dict[str, Head]) -> list[str]:
        if heads:
            where = join("And", [HEAD, any_of("document", [_head_id(document) for document in heads])])
            await self._delete(bank, where)
        return []

    def nearest(self, bank: BankPlace, vector: list[float], rows: Rows, *, with_vectors: bool) -> Fetch:
        async def fetch(count: int) -> list[Hit | None]:
            arguments = {"nearVector": {"vector": vector}}
            return [*await self._hits(bank, arguments, count, rows, "distance", with_vectors=with_vectors)]

        return fetch

    def sharing_words(self, bank: BankPlace, stems: list[str], rows: Rows) -> Fetch:
        async def fetch(count: int) -> list[Hit | None]:
            arguments = {"bm25": {"query": " ".join(stems), "properties": ["words"]}}
            return [*await self._hits(bank, arguments, count, rows, "score", with_vectors=False)]

        return fetch

    async def in_order(self, bank: BankPlace, limit: int, rows: Rows, *, with_vectors: bool) -> list[Hit]:
        arguments = {"sort": [{"path": ["place"], "order": "asc"}]}
        return await self._hits(bank, arguments, limit, rows, "", with_vectors=with_vectors)

    async def delete(self, bank: BankPlace, rows: Sequence[Rows]) -> int:
        conditions = [await self._where(bank, selected) for selected in rows]
        return await self._delete(bank, join("Or", conditions))

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        facets = facets_of(metadata, document_id)
        known = await self._read_properties(bank)
        await self._add_properties(bank, {order_property(facet) for facet in facets} - known)
        orders: dict[str, str | None] = {name: None for name in known if name.startswith("o_")}
        orders.update((order_property(facet), order_value(facet)) for facet in facets)
        free = asyncio.Semaphore(SIDE_BY_SIDE)

        async def change(hit: Hit) -> None:
            chunk = hit.found.chunk.model_copy(update={"metadata": metadata})
            body = {
                "class": _name(bank),
                "properties": {"chunk": _written(chunk), "facets": _words(chunk, facets), **orders},
            }
            async with free:
                await self._service.ask(
                    "PATCH", path_of("v1", "objects", _name(bank), hit.row_id), body, query=self._level
                )

        after: Place | None = None
        while hits := await self.in_order(bank, 500, Rows(documents=[document_id], after=after), with_vectors=False):
            async with asyncio.TaskGroup() as group:
                for hit in hits:
                    group.create_task(change(hit))
            after = place_of(hits[-1].found.chunk)

    async def languages(self, bank: BankPlace) -> set[str]:
        groups = await self._aggregate(bank, {"groupBy": ["language"]}, "groupedBy { value }")
        values = [group["groupedBy"]["value"] for group in groups]
        return {"" if value == NO_LANGUAGE else value for value in values if value}

    async def stats(self, bank: BankPlace) -> IndexStats:
        counts = []
        for where in (await self._where(bank, Rows()), HEAD):
            found = await self._aggregate(bank, {"where": where}, "meta { count }")
            counts.append(int(found[0]["meta"]["count"]) if found else 0)
        return IndexStats(chunks=counts[0], documents=counts[1])

    async def _where(self, bank: BankPlace, rows: Rows) -> JsonObject:
        known = self._properties.get(bank.key, set())
        missing: set[str] = set()

        def is_known(name: str) -> bool:
            if name not in known:
                missing.add(name)
            return name in known

        where = conditions_of(rows, is_known)
        if missing:
            # Another server may have added it.
            known = await self._read_properties(bank)
            where = conditions_of(rows, known.__contains__)
        return where

    async def _hits(
        self, bank: BankPlace, arguments: JsonObject, limit: int, rows: Rows, scored: str, *, with_vectors: bool
    ) -> list[Hit]:
        """scored: what Weaviate calls the score; empty where there is none."""
        arguments = {**arguments, "limit": min(limit, MAX_FOUND), "where": await self._where(bank, rows)}
        fields = f"chunk row write _additional {{ id {scored} {'vector' if with_vectors else ''} }}"
        hits = []
        for one in await self._get(bank, arguments, fields):
            told = one["_additional"]
            score = float(told[scored]) if scored else 0.0
            found = FoundChunk(
                chunk=Chunk.model_validate_json(one["chunk"]),
                score=1.0 - score if scored == "distance" else score,
                vector=bytes(Vectors.of([told["vector"]], bank.dimension).buffer) if with_vectors else None,
            )
            hits.append(Hit(one["row"], found, one["write"]))
        return hits

    async def _get(self, bank: BankPlace, arguments: JsonObject, fields: str) -> list[JsonObject]:
        if self._replicas > 1:
            arguments = {**arguments, "consistencyLevel": "QUORUM"}
        return await self._query(bank, "Get", arguments, fields)

    async def _aggregate(self, bank: BankPlace, arguments: JsonObject, fields: str) -> list[JsonObject]:
        return await self._query(bank, "Aggregate", arguments, fields)

    async def _query(self, bank: BankPlace, function: str, arguments: JsonObject, fields: str) -> list[JsonObject]:
        name = _name(bank)
        written = ", ".join(f"{key}: {graphql(value, key)}" for key, value in arguments.items())
        query = f"{{ {function} {{ {name}({written}) {{ {fields} }} }} }}"
        _, answer = await self._service.ask("POST", "v1/graphql", {"query": query})
        if answer.get("errors"):
            await self._read_properties(bank)
            raise ProviderFailed(f"Weaviate failed: {str(answer['errors'][0].get('message'))[:500]}")
        found = (answer.get("data") or {}).get(function, {}).get(name)
        if not isinstance(found, list):
            raise ProviderFailed("Weaviate sent an answer without results in it")
        return found

    async def _delete(self, bank: BankPlace, where: JsonObject) -> int:
        """Weaviate deletes so many at a time (QUERY_MAXIMUM_RESULTS), so it is asked until none is left."""
        deleted = 0
        while True:
            body = {"match": {"class": _name(bank), "where": where}, "output": "minimal"}
            try:
                _, answer = await self._service.ask("DELETE", "v1/batch/objects", body, query=self._level)
            except ProviderFailed:
                # It may be that the collection is not there, which is said in many ways.
                await self._read_properties(bank)
                raise
            results = answer.get("results") or {}
            deleted += int(results.get("successful") or 0)
            if results.get("failed"):
                raise ProviderFailed(f"Weaviate could not delete {results['failed']} objects")
            if int(results.get("matches") or 0) <= int(results.get("successful") or 0):
                return deleted

    async def _put_objects(self, bank: BankPlace, objects: list[JsonObject]) -> None:
        _, answer = await self._service.ask(
            "POST", "v1/batch/objects", {"objects": objects}, query=self._level, is_large=len(objects) > 1
        )
        for told in answer.get("values") or []:
            result = told.get("result") or {}
            errors = (result.get("errors") or {}).get("error") or []
            if errors or result.get("status") == "FAILED":
                message = str(errors[0].get("message") if errors else "it did not say why")[:500]
                if "vector" in message and "length" in message:
                    raise InvalidRequest(f"Weaviate cannot keep the vectors: {message}", param="vectors")
                raise ProviderFailed(f"Weaviate did not keep a chunk: {message}")

    async def _read_properties(self, bank: BankPlace) -> set[str]:
        """The properties that the collection has now. Raises NotFound for an unknown bank."""
        status, told = await self._service.ask("GET", path_of("v1", "schema", _name(bank)), answers=(404,))
        if status == 404:
            self._properties.pop(bank.key, None)
            raise NotFound(f"there is no memory bank {bank.key!r} in Weaviate; it may have been dropped")
        self._properties[bank.key] = names = {one["name"] for one in told.get("properties") or []}
        while len(self._properties) > MAX_BANKS_KNOWN:
            self._properties.popitem(last=False)
        return names

    async def _add_properties(self, bank: BankPlace, names: set[str]) -> None:
        there = sum(name.startswith("o_") for name in self._properties.get(bank.key, set()))
        if there + len(names) > MAX_ORDER_PROPERTIES:
            raise InvalidRequest(
                f"the metadata of a bank may have {MAX_ORDER_PROPERTIES} different keys here", param="metadata"
            )
        for name in sorted(names):
            path = path_of("v1", "schema", _name(bank), "properties")
            status, _ = await self._service.ask("POST", path, _property(name), answers=(422,))
            if status == 422 and name not in await self._read_properties(bank):
                await self._service.ask("POST", path, _property(name))
        self._properties.setdefault(bank.key, set()).update(names)


def _name(bank: BankPlace) -> str:
    """A collection's name begins with a capital letter."""
    return f"Bank_{bank.key}"


def _head_id(document_id: str) -> str:
    return named_id("head", document_id)


def _property(name: str, kind: str = "text", *, searchable: bool = False, filterable: bool = True) -> JsonObject:
    return {
        "name": name,
        "dataType": [kind],
        "tokenization": "whitespace" if searchable else "field",
        "indexFilterable": filterable,
        "indexSearchable": searchable,
    }


def _collection(bank: BankPlace, settings: BankSettings, replicas: int) -> JsonObject:
    index: JsonObject = {"distance": "cosine"}
    if settings.index == "hnsw":
        index |= {
            "ef": settings.ef,
            "efConstruction": settings.ef_construction,
            "maxConnections": settings.max_connections,
        }
    return {
        "class": _name(bank),
        "description": json.dumps(record_of(bank, FORMAT)),
        "vectorizer": "none",
        "vectorIndexType": settings.index,
        "vectorIndexConfig": index,
        "replicationConfig": {"factor": replicas},
        # Our words have been chosen already.
        "invertedIndexConfig": {"stopwords": {"preset": "none"}, "bm25": {"k1": 1.2, "b": 0.75}},
        "properties": [
            *(_property(name) for name in _FILTERABLE),
            *(_property(name, "text[]") for name in ("facets", "writes", "hidden")),
            _property("words", searchable=True, filterable=False),
            _property("chunk", filterable=False),
        ],
    }


def _object(bank: BankPlace, row: Row, facets: list[Facet]) -> JsonObject:
    properties = {
        "kind": "chunk",
        "write": row.write,
        "row": row.row_id,
        "place": place_of(row.chunk).sortable,
        "written_at": f"{row.written_at:012}",
        "language": row.chunk.language or NO_LANGUAGE,
        "facets": _words(row.chunk, facets),
        "words": " ".join(row.stems),
        "chunk": _written(row.chunk),
        **{order_property(facet): order_value(facet) for facet in facets},
    }
    made: JsonObject = {"class": _name(bank), "id": row.row_id, "properties": properties}
    if row.vector is not None:
        made["vector"] = row.vector
    return made


def _words(chunk: Chunk, facets: list[Facet]) -> list[str]:
    return [chunk_word(chunk.chunk_id), *(facet.word for facet in facets)]


def _written(chunk: Chunk) -> str:
    """The chunk as JSON in ASCII, which comes back as it was whatever is in it."""
    return json.dumps(chunk.model_dump(mode="json", exclude={"score"}))
