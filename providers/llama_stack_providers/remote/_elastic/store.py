"""Banks as indices of Elasticsearch or OpenSearch. An index holds the chunks and the heads of their documents.

What is written is found by searches after a refresh, and by id at once. A bank's index is reached through an alias, so
that a write to a bank that was dropped fails (`require_alias`), where otherwise an index would be made up for it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from llama_stack.api.chunk_index import BankPlace, ChunkIndex, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Chunk
from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderFailed, RateLimited
from llama_stack.provider import Ground
from llama_stack_providers._vector_database.bank_settings import check_record, record_of
from llama_stack_providers._vector_database.checks import check_dimension
from llama_stack_providers._vector_database.facets import facets_of
from llama_stack_providers._vector_database.heads import MAX_FOUND, Head
from llama_stack_providers._vector_database.index import open_index_with_heads
from llama_stack_providers._vector_database.ranking import Fetch
from llama_stack_providers._vector_database.rows import Hit, Row, Rows, named_id, place_of
from llama_stack_providers._vector_database.service import Body, Service, open_service, path_of, reason_in
from llama_stack_providers.remote._elastic.dialects import FIELD, Dialect, vector_bytes
from llama_stack_providers.remote._elastic.queries import any_of, chunk_key, document_key, query_of
from llama_stack_providers.remote._elastic.settings import ClusterSettings

FORMAT = 1
MAX_LANGUAGES = 100
CONFLICT_ATTEMPTS = 8
NEW_METADATA = "ctx._source.chunk.metadata = params.metadata; ctx._source.facets = params.facets"
_MISSING = ("index_not_found_exception", "alias_not_found_exception")


class ElasticStore:
    def __init__(self, service: Service, dialect: Dialect, settings: ClusterSettings) -> None:
        self._service = service
        self._dialect = dialect
        self._settings = settings

    def abilities(self) -> IndexAbilities:
        return IndexAbilities(keyword=True, max_dimension=self._dialect.max_dimension)

    async def create(self, bank: BankPlace) -> None:
        self._dialect.check_params(bank)
        check_dimension(bank, self._dialect.max_dimension, self._dialect.name)
        body = self._index(bank)
        status, told = await self._service.ask("PUT", path_of(self._index_name(bank)), body, answers=(400,))
        if status == 400:
            if _error_type(told) != "resource_already_exists_exception":
                raise self._service.failure(status, told)
            _, told = await self._service.ask("GET", path_of(self._index_name(bank), "_mapping"))
            mappings = told.get(self._index_name(bank), {}).get("mappings", {})
            check_record(mappings.get("_meta"), FORMAT, f"the index {self._index_name(bank)}", bank)

    async def drop(self, bank: BankPlace) -> None:
        await self._service.ask("DELETE", path_of(self._index_name(bank)), answers=(404,))

    async def put_rows(self, bank: BankPlace, rows: Sequence[Row], *, last: bool) -> None:
        lines = [({"index": {"_id": row.row_id}}, _source(row)) for row in rows]
        if lines:
            await self._bulk(bank, lines, refresh=last)
        elif last:
            await self._ask(bank, "POST", "_refresh")

    async def heads(self, bank: BankPlace, documents: Sequence[str]) -> dict[str, Head]:
        names = {_head_id(document): document for document in documents}
        if not names:
            return {}
        told = await self._ask(bank, "POST", "_mget", {"ids": list(names)})
        heads: dict[str, Head] = {}
        for one in told.get("docs") or []:
            if "error" in one:
                raise self._missing(bank) if _error_type(one) in _MISSING else self._service.failure(502, one)
            if one.get("found"):
                source, version = one["_source"], (one["_seq_no"], one["_primary_term"])
                heads[names[one["_id"]]] = Head(tuple(source["writes"]), tuple(source["hidden"]), version)
        return heads

    async def put_heads(self, bank: BankPlace, heads: dict[str, Head]) -> list[str]:
        lines: list[tuple[JsonObject, JsonObject | None]] = []
        for document, head in heads.items():
            source = {
                "kind": "head",
                "document": document_key(document),
                "writes": list(head.writes),
                "hidden": list(head.hidden),
            }
            if head.version is None:
                lines.append(({"create": {"_id": _head_id(document)}}, source))
            else:
                number, term = head.version
                action = {"_id": _head_id(document), "if_seq_no": number, "if_primary_term": term}
                lines.append(({"index": action}, source))
        conflicting = await self._bulk(bank, lines)
        return [document for document in heads if _head_id(document) in conflicting]

    async def drop_heads(self, bank: BankPlace, heads: dict[str, Head]) -> list[str]:
        lines: list[tuple[JsonObject, JsonObject | None]] = []
        for document, head in heads.items():
            number, term = head.version
            action = {"_id": _head_id(document), "if_seq_no": number, "if_primary_term": term}
            lines.append(({"delete": action}, None))
        conflicting = await self._bulk(bank, lines) if lines else set()
        return [document for document in heads if _head_id(document) in conflicting]

    def nearest(self, bank: BankPlace, vector: list[float], rows: Rows, *, with_vectors: bool) -> Fetch:
        query = query_of(rows)

        async def fetch(count: int) -> list[Hit | None]:
            body = self._dialect.search(bank, vector, min(count, MAX_FOUND), query)
            # Half of the scale is for opposite vectors.
            return [*await self._search(bank, body, count, scale=(2.0, -1.0), with_vectors=with_vectors)]

        return fetch

    def sharing_words(self, bank: BankPlace, stems: list[str], rows: Rows) -> Fetch:
        words = {"match": {"words": {"query": " ".join(stems), "operator": "or"}}}
        body = {"query": {"bool": {"must": [words], "filter": [query_of(rows)]}}}
        # Otherwise each shard would tell from its own chunks alone how rare a word is.
        query = {"search_type": "dfs_query_then_fetch"}

        async def fetch(count: int) -> list[Hit | None]:
            return [*await self._search(bank, body, count, scale=(1.0, 0.0), query=query)]

        return fetch

    async def in_order(self, bank: BankPlace, limit: int, rows: Rows, *, with_vectors: bool) -> list[Hit]:
        body = {"query": query_of(rows), "sort": [{"place": "asc"}]}
        return await self._search(bank, body, limit, scale=(0.0, 0.0), with_vectors=with_vectors)

    async def delete(self, bank: BankPlace, rows: Sequence[Rows]) -> int:
        body = {"query": any_of([query_of(selected) for selected in rows])}
        return await self._by_query(bank, "_delete_by_query", body, "deleted")

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        words = [facet.word for facet in facets_of(metadata, document_id)]
        script = {"lang": "painless", "source": NEW_METADATA, "params": {"metadata": metadata, "facets": words}}
        body = {"query": query_of(Rows(documents=[document_id])), "script": script}
        await self._by_query(bank, "_update_by_query", body, "updated")

    async def languages(self, bank: BankPlace) -> set[str]:
        terms = {"terms": {"field": "language", "size": MAX_LANGUAGES}}
        told = await self._ask(bank, "POST", "_search", {"size": 0, "aggs": {"languages": terms}})
        return {bucket["key"] for bucket in told["aggregations"]["languages"]["buckets"]}

    async def stats(self, bank: BankPlace) -> IndexStats:
        await self._ask(bank, "POST", "_refresh")
        counts = []
        for kind in ("chunk", "head"):
            told = await self._ask(bank, "POST", "_count", {"query": {"term": {"kind": kind}}})
            counts.append(int(told["count"]))
        # Not every user may read this, and not every offer of the cluster as a service has it.
        status, told = await self._service.ask(
            "GET", path_of(self._alias(bank), "_stats", "store"), answers=(400, 403, 404, 405, 410)
        )
        size = told["_all"]["primaries"]["store"]["size_in_bytes"] if status == 200 else None
        return IndexStats(chunks=counts[0], documents=counts[1], size_bytes=size)

    def _alias(self, bank: BankPlace) -> str:
        return f"{self._settings.prefix}{bank.key}"

    def _index_name(self, bank: BankPlace) -> str:
        return f"{self._alias(bank)}-{FORMAT}"

    def _index(self, bank: BankPlace) -> JsonObject:
        settings: JsonObject = {"number_of_shards": self._settings.shards, **self._dialect.index_settings(bank)}
        if self._settings.replicas is not None:
            settings["number_of_replicas"] = self._settings.replicas
        properties: JsonObject = {name: {"type": "keyword"} for name in _KEYWORDS}
        properties |= {name: {"type": "keyword", "index": False, "doc_values": False} for name in ("writes", "hidden")}
        properties |= {
            "facets": {"type": "keyword", "doc_values": False},
            "written_at": {"type": "long"},
            # The words have been chosen already.
            "words": {"type": "text", "analyzer": "whitespace"},
            "chunk": {"type": "object", "enabled": False},
        }
        if bank.dimension:
            properties[FIELD] = self._dialect.mapping(bank)
        mappings = {"dynamic": "strict", "_meta": record_of(bank, FORMAT), "properties": properties}
        return {"settings": {"index": settings}, "mappings": mappings, "aliases": {self._alias(bank): {}}}

    async def _ask(
        self,
        bank: BankPlace,
        method: str,
        operation: str,
        body: Body | None = None,
        query: Mapping[str, str] | None = None,
        *,
        is_large: bool = False,
    ) -> JsonObject:
        path = path_of(self._alias(bank), operation)
        status, told = await self._service.ask(method, path, body, query=query, answers=(404,), is_large=is_large)
        if status == 404:
            raise self._missing(bank) if _error_type(told) in _MISSING else self._service.failure(status, told)
        return told

    async def _search(
        self,
        bank: BankPlace,
        body: JsonObject,
        limit: int,
        *,
        scale: tuple[float, float],
        with_vectors: bool = False,
        query: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """scale: what the server's score is multiplied by, and what is added."""
        asked = {"size": min(limit, MAX_FOUND), "track_total_hits": False, "_source": ["chunk", "write"], **body}
        if with_vectors:
            asked |= self._dialect.asking_vectors()
        # A part of the answer would look like the whole.
        told = await self._ask(
            bank, "POST", "_search", asked, {"allow_partial_search_results": "false", **(query or {})}
        )
        hits = []
        for one in told["hits"]["hits"]:
            score = scale[0] * one["_score"] + scale[1] if one.get("_score") is not None else 0.0
            vector = vector_bytes(self._dialect.vector_of(one), bank.dimension) if with_vectors else None
            found = FoundChunk(chunk=Chunk(**one["_source"]["chunk"]), score=score, vector=vector)
            hits.append(Hit(one["_id"], found, one["_source"]["write"]))
        return hits

    async def _by_query(self, bank: BankPlace, operation: str, body: JsonObject, counted: str) -> int:
        """Changes what a query selects; again where others changed it in between."""
        changed = 0
        for attempt in range(CONFLICT_ATTEMPTS):
            told = await self._ask(bank, "POST", operation, body, {"refresh": "true", "conflicts": "proceed"})
            changed += int(told.get(counted) or 0)
            if told.get("failures"):
                raise ProviderFailed(f"{self._dialect.name} failed: {str(told['failures'][0])[:500]}")
            if not told.get("version_conflicts") and not told.get("timed_out"):
                return changed
            await asyncio.sleep(0.01 * 2**attempt)
            await self._ask(bank, "POST", "_refresh")
        raise Conflict(f"others change the same chunks of {bank.key!r} all the time; try again")

    async def _bulk(
        self, bank: BankPlace, lines: Sequence[tuple[JsonObject, JsonObject | None]], *, refresh: bool = False
    ) -> set[str]:
        """Carries the actions out; gives the ids of those that conflict with what is there.

        What a node was too busy for is sent again (Elasticsearch reference, "Bulk API": status 429 of an item).
        """
        query = {"require_alias": "true", **({"refresh": "true"} if refresh else {})}
        conflicting: set[str] = set()
        pause_s = self._settings.first_pause_s
        for left in reversed(range(self._settings.attempts)):
            body = [part for line in lines for part in line if part is not None]
            told = await self._ask(bank, "POST", "_bulk", body, query, is_large=len(lines) > 1)
            outcomes = [next(iter(outcome.values())) for outcome in told["items"]]
            busy = []
            for line, outcome in zip(lines, outcomes, strict=True):
                if outcome["status"] == 429:
                    busy.append(line)
                elif outcome["status"] == 409:
                    conflicting.add(outcome["_id"])
                elif "error" in outcome:
                    raise self._item_failed(bank, outcome)
            if not busy:
                return conflicting
            if left:
                await asyncio.sleep(pause_s)
                pause_s *= 2
            lines = busy
        raise RateLimited(f"{self._dialect.name} is too busy to keep {len(lines)} chunks; try again later")

    def _item_failed(self, bank: BankPlace, outcome: JsonObject) -> Exception:
        if _error_type(outcome) in _MISSING:
            return self._missing(bank)
        message = reason_in(outcome)
        if outcome["status"] == 400 and ("magnitude" in message or "dimension" in message or "zero vector" in message):
            return InvalidRequest(f"{self._dialect.name} cannot keep a vector: {message}", param="vectors")
        return self._service.failure(outcome["status"], outcome)

    def _missing(self, bank: BankPlace) -> NotFound:
        return NotFound(f"there is no memory bank {bank.key!r} in {self._dialect.name}; it may have been dropped")


_KEYWORDS = ("kind", "document", "chunk_key", "write", "place", "language")


def _error_type(told: JsonObject) -> str:
    error = told.get("error")
    return str(error.get("type")) if isinstance(error, dict) else ""


def _head_id(document_id: str) -> str:
    return named_id("head", document_id)


def _source(row: Row) -> JsonObject:
    chunk = row.chunk
    source: JsonObject = {
        "kind": "chunk",
        "document": document_key(chunk.document_id),
        "chunk_key": chunk_key(chunk.chunk_id),
        "write": row.write,
        "place": place_of(chunk).sortable,
        "language": chunk.language,
        "written_at": row.written_at,
        "facets": [facet.word for facet in row.facets()],
        "words": " ".join(row.stems),
        "chunk": chunk.model_dump(mode="json", exclude={"score"}),
    }
    if row.vector is not None:
        source[FIELD] = row.vector
    return source


@asynccontextmanager
async def open_cluster(
    dialect: Dialect, settings: ClusterSettings, ground: Ground, authorization: str
) -> AsyncIterator[ChunkIndex]:
    secrets = {"authorization": authorization} if authorization else {}
    hint = "check the provider's api_key, or username and password, and what they are allowed"
    async with open_service(dialect.name, settings, ground, secrets=secrets, hint=hint) as service:
        # Whoever may use the banks may not be allowed to read what the cluster is.
        status, greeting = await service.ask("GET", path_of(), answers=(403,))
        if status == 200 and not dialect.is_spoken_by(greeting):
            raise ProviderFailed(f"this is no {dialect.name}; of Elasticsearch and OpenSearch, use the provider it has")
        async with open_index_with_heads(ElasticStore(service, dialect, settings), settings.write_chunks) as index:
            yield index
