"""A server that speaks the part of Elasticsearch's and OpenSearch's REST API that a memory provider uses.

Formats: Elasticsearch API reference ("Create an index", "Bulk", "Multi get", "Search", "Delete by query", "Update by
query", "Count", "Index stats"), Query DSL, and OpenSearch documentation, "k-NN query". What is indexed is found by
searches after a refresh only; in the middle of a bulk request the server refreshes now and then, as a real one may.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.providers.memory.loopback_database import LoopbackDatabase, bm25, cosine

MAX_TERM_BYTES = 32_766
MAX_RESULTS = 10_000
REFRESHES_AFTER = 3
"""Items of a bulk request."""


class Refused(Exception):
    def __init__(self, status: int, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.error = {"type": kind, "reason": reason}


@dataclass
class Kept:
    """A document with the number of the operation that wrote it."""

    source: dict[str, Any]
    seq_no: int


@dataclass
class Index:
    """live: by id, as `_mget` sees it; found: as searches do."""

    name: str
    told: dict[str, Any]
    live: dict[str, Kept] = field(default_factory=dict)
    found: dict[str, Kept] = field(default_factory=dict)
    operations: int = 0

    @property
    def properties(self) -> dict[str, dict[str, Any]]:
        return dict(self.told["mappings"]["properties"])

    def keep(self, name: str, source: dict[str, Any]) -> None:
        self._check(source)
        self.operations += 1
        self.live.pop(name, None)
        self.live[name] = Kept(source, self.operations)

    def refresh(self) -> None:
        self.found = dict(self.live)

    def _check(self, source: dict[str, Any]) -> None:
        for name, value in source.items():
            kind = self.properties.get(name)
            if kind is None:
                raise Refused(400, "strict_dynamic_mapping_exception", f"mapping set to strict, dynamic: [{name}]")
            if kind["type"] == "keyword" and any(len(one.encode()) > MAX_TERM_BYTES for one in _texts(value)):
                raise Refused(400, "illegal_argument_exception", f"Document contains an immense term in field={name}")
            if kind["type"] in ("dense_vector", "knn_vector"):
                width = kind.get("dims", kind.get("dimension"))
                if len(value) != width:
                    raise Refused(400, "document_parsing_exception", f"different number of dimensions than [{width}]")
                if not any(value):
                    reason = "The [cosine] similarity does not support vectors with zero magnitude."
                    raise Refused(400, "document_parsing_exception", reason)


@dataclass
class LoopbackElastic(LoopbackDatabase):
    """busy_items: so many items of bulk requests are refused with 429. conflicts: so many documents of by-query
    operations are said to have been changed meanwhile."""

    distribution: str = ""
    indices: dict[str, Index] = field(default_factory=dict)
    busy_items: int = 0
    conflicts: int = 0

    def routes(self) -> Iterable[web.RouteDef]:
        return [
            web.get("/", self._greet),
            web.put("/{index}", self._create),
            web.delete("/{index}", self._drop),
            web.get("/{index}/_mapping", self._mapping),
            web.post("/{alias}/_bulk", self._answering(self._bulk)),
            web.post("/{alias}/_mget", self._answering(self._mget)),
            web.post("/{alias}/_refresh", self._answering(self._refresh)),
            web.post("/{alias}/_search", self._answering(self._search)),
            web.post("/{alias}/_count", self._answering(self._count)),
            web.post("/{alias}/_delete_by_query", self._answering(self._delete_by_query)),
            web.post("/{alias}/_update_by_query", self._answering(self._update_by_query)),
            web.get("/{alias}/_stats/store", self._answering(self._stats)),
        ]

    def refused(self, key: str) -> web.Response:
        error = {"type": "security_exception", "reason": f"unable to authenticate user with {key}"}
        return web.json_response({"error": error, "status": 401}, status=401)

    def _answering(self, handler: Callable[[web.Request, Index], Any]) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.Response:
            alias = request.match_info["alias"]
            index = next((one for one in self.indices.values() if alias in one.told["aliases"]), None)
            try:
                if index is None and request.path.endswith("/_bulk") and request.query.get("require_alias") != "true":
                    raise Refused(500, "loopback", "an index would have been made up")
                if index is None:
                    raise Refused(404, "index_not_found_exception", f"no such index [{alias}]")
                return web.json_response(await handler(request, index))
            except Refused as refused:
                return web.json_response({"error": refused.error, "status": refused.status}, status=refused.status)

        return answer

    async def _greet(self, request: web.Request) -> web.Response:
        version = {"number": "9.1.0", "build_flavor": "default"}
        if self.distribution:
            version = {"number": "3.2.0", "distribution": self.distribution}
        return web.json_response({"name": "node-1", "cluster_name": "loopback", "version": version})

    async def _create(self, request: web.Request) -> web.Response:
        name, told = request.match_info["index"], await request.json()
        if name in self.indices or name != name.lower():
            error = {"type": "resource_already_exists_exception", "reason": f"index [{name}] already exists"}
            return web.json_response({"error": error, "status": 400}, status=400)
        kind = "knn_vector" if self.distribution else "dense_vector"
        for one in told["mappings"]["properties"].values():
            wrong_vector = one["type"] in ("dense_vector", "knn_vector") and one["type"] != kind
            if wrong_vector or (one["type"] == "knn_vector" and not told["settings"]["index"].get("knn")):
                error = {"type": "mapper_parsing_exception", "reason": f"No handler for type [{one['type']}]"}
                return web.json_response({"error": error, "status": 400}, status=400)
        self.indices[name] = Index(name, told)
        return web.json_response({"acknowledged": True, "shards_acknowledged": True, "index": name})

    async def _drop(self, request: web.Request) -> web.Response:
        if self.indices.pop(request.match_info["index"], None) is None:
            error = {"type": "index_not_found_exception", "reason": "no such index"}
            return web.json_response({"error": error, "status": 404}, status=404)
        return web.json_response({"acknowledged": True})

    async def _mapping(self, request: web.Request) -> web.Response:
        index = self.indices[request.match_info["index"]]
        return web.json_response({index.name: {"mappings": index.told["mappings"]}})

    async def _bulk(self, request: web.Request, index: Index) -> dict[str, Any]:
        assert request.content_type == "application/x-ndjson"
        lines = iter((await request.read()).rstrip(b"\n").split(b"\n"))
        items = []
        for number, line in enumerate(lines):
            ((kind, action),) = json.loads(line).items()
            source = None if kind == "delete" else json.loads(next(lines))
            try:
                items.append({kind: {"_id": action["_id"], "status": self._do(index, kind, action, source)}})
            except Refused as refused:
                items.append({kind: {"_id": action["_id"], "status": refused.status, "error": refused.error}})
            if number % REFRESHES_AFTER == REFRESHES_AFTER - 1:
                index.refresh()
            # Others may search while a bulk request is under way.
            await asyncio.sleep(0)
        if request.query.get("refresh") == "true":
            index.refresh()
        return {"took": 1, "errors": any("error" in next(iter(item.values())) for item in items), "items": items}

    def _do(self, index: Index, kind: str, action: dict[str, Any], source: dict[str, Any] | None) -> int:
        if self.busy_items:
            self.busy_items -= 1
            raise Refused(429, "es_rejected_execution_exception", "rejected execution of coordinating operation")
        there = index.live.get(action["_id"])
        wanted = action.get("if_seq_no")
        if wanted is not None and (there is None or there.seq_no != wanted or action["if_primary_term"] != 1):
            raise Refused(409, "version_conflict_engine_exception", f"required seqNo [{wanted}], primary term [1]")
        if kind == "create" and there is not None:
            raise Refused(409, "version_conflict_engine_exception", "document already exists")
        if source is None:
            return 404 if index.live.pop(action["_id"], None) is None else 200
        index.keep(action["_id"], source)
        return 200

    async def _mget(self, request: web.Request, index: Index) -> dict[str, Any]:
        answers = []
        for name in (await request.json())["ids"]:
            kept = index.live.get(name)
            found = {"_id": name, "found": kept is not None}
            if kept is not None:
                found |= {"_seq_no": kept.seq_no, "_primary_term": 1, "_source": kept.source}
            answers.append(found)
        return {"docs": answers}

    async def _refresh(self, request: web.Request, index: Index) -> dict[str, Any]:
        index.refresh()
        return {"_shards": {"failed": 0}}

    async def _count(self, request: web.Request, index: Index) -> dict[str, Any]:
        return {"count": len(list(_selected(index, (await request.json())["query"])))}

    async def _stats(self, request: web.Request, index: Index) -> dict[str, Any]:
        size = len(json.dumps([kept.source for kept in index.live.values()]))
        return {"_all": {"primaries": {"store": {"size_in_bytes": size}}}}

    async def _delete_by_query(self, request: web.Request, index: Index) -> dict[str, Any]:
        def delete(name: str) -> None:
            del index.live[name]

        return await self._by_query(request, index, "deleted", delete)

    async def _update_by_query(self, request: web.Request, index: Index) -> dict[str, Any]:
        script = (await request.json())["script"]

        def update(name: str) -> None:
            source = json.loads(json.dumps(index.live[name].source))
            for statement in script["source"].split("; "):
                assigned = re.fullmatch(r"ctx\._source\.([\w.]+) = params\.(\w+)", statement)
                if assigned is None:
                    raise Refused(400, "script_exception", f"compile error: {statement}")
                *path, last = assigned[1].split(".")
                place = source
                for step in path:
                    place = place[step]
                place[last] = script["params"][assigned[2]]
            index.keep(name, source)

        return await self._by_query(request, index, "updated", update)

    async def _by_query(
        self, request: web.Request, index: Index, counted: str, change: Callable[[str], None]
    ) -> dict[str, Any]:
        """Changes what searches find, unless it is another document by now."""
        assert request.query["conflicts"] == "proceed"
        changed, conflicts = 0, 0
        for name, kept in list(_selected(index, (await request.json())["query"])):
            now = index.live.get(name)
            if now is None or now.seq_no != kept.seq_no or self.conflicts:
                self.conflicts = max(0, self.conflicts - 1)
                conflicts += 1
                continue
            change(name)
            changed += 1
            await asyncio.sleep(0)
        if request.query.get("refresh") == "true":
            index.refresh()
        return {counted: changed, "version_conflicts": conflicts, "failures": [], "timed_out": False}

    async def _search(self, request: web.Request, index: Index) -> dict[str, Any]:
        body = await request.json()
        if body["size"] > MAX_RESULTS:
            raise Refused(400, "illegal_argument_exception", "Result window is too large")
        if "aggs" in body:
            ((name, asked),) = body["aggs"].items()
            key = asked["terms"]["field"]
            values = {str(kept.source[key]) for kept in index.found.values() if key in kept.source}
            return {"aggregations": {name: {"buckets": [{"key": value} for value in sorted(values)]}}}
        if "knn" in body and "search_type" in request.query:
            raise Refused(400, "illegal_argument_exception", "cannot set [search_type] when using [knn] search")
        ranked = list(self._ranked(index, body))[: body["size"]]
        return {"timed_out": False, "hits": {"hits": [_shown(*one, body, index) for one in ranked]}}

    def _ranked(self, index: Index, body: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
        nearest = body.get("knn") if not self.distribution else None
        query = body.get("query", {})
        if self.distribution and "knn" in query:
            ((field_name, asked),) = query["knn"].items()
            nearest = {**asked, "field": field_name, "query_vector": asked["vector"]}
        if nearest is not None:
            yield from _nearest(index, nearest)
        elif "sort" in body:
            ((by, order),) = body["sort"][0].items()
            assert order == "asc"
            rows = [(name, kept.source[by]) for name, kept in _selected(index, query)]
            yield from ((name, None) for name, _ in sorted(rows, key=lambda row: row[1].encode()))
        else:
            scores = _scores(index, query)
            yield from sorted(scores.items(), key=lambda one: -one[1])


def _nearest(index: Index, asked: dict[str, Any]) -> Iterator[tuple[str, float]]:
    most = asked.get("num_candidates", MAX_RESULTS)
    if not asked["k"] <= most <= MAX_RESULTS:
        raise Refused(400, "illegal_argument_exception", "[num_candidates] must be in [k, 10000]")
    rows = {
        name: (1 + cosine(asked["query_vector"], kept.source[asked["field"]])) / 2
        for name, kept in _selected(index, asked["filter"])
        if asked["field"] in kept.source
    }
    yield from sorted(rows.items(), key=lambda row: -row[1])[: asked["k"]]


def _scores(index: Index, query: dict[str, Any]) -> dict[str, float]:
    (scoring,) = query["bool"]["must"]
    ((field_name, asked),) = scoring["match"].items()
    assert index.properties[field_name]["analyzer"] == "whitespace"
    texts = {name: kept.source[field_name].split() for name, kept in index.found.items() if kept.source.get(field_name)}
    scores = bm25(texts, asked["query"].split())
    allowed = {name for name, _ in _selected(index, {"bool": {"filter": query["bool"]["filter"]}})}
    return {name: score for name, score in scores.items() if name in allowed}


def _shown(name: str, score: float | None, body: dict[str, Any], index: Index) -> dict[str, Any]:
    source = index.found[name].source
    # Newer versions of Elasticsearch give vectors as fields only.
    shown = {key: source[key] for key in body["_source"] if key in source and index.properties[key]["type"] != _DENSE}
    fields = {key: source[key] for key in body.get("fields", ()) if key in source}
    return {"_id": name, "_score": score, "_source": shown, **({"fields": fields} if fields else {})}


_DENSE = "dense_vector"


def _selected(index: Index, query: dict[str, Any]) -> Iterator[tuple[str, Kept]]:
    fits = _compiled(query, index)
    return ((name, kept) for name, kept in index.found.items() if fits(name, kept.source))


Fits = Callable[[str, dict[str, Any]], bool]


def _compiled(query: dict[str, Any], index: Index) -> Fits:
    """The query as a test of a document. A field that is not in the mapping matches nothing."""
    ((kind, asked),) = query.items()
    match kind:
        case "match_all":
            return lambda name, source: True
        case "match_none":
            return lambda name, source: False
        case "ids":
            names = set(asked["values"])
            return lambda name, source: name in names
        case "bool":
            return _bool(asked, index)
        case "exists":
            return lambda name, source: source.get(asked["field"]) is not None
        case "term" | "terms":
            ((key, wanted),) = asked.items()
            values = set(wanted if kind == "terms" else [wanted])
            _check_indexed(key, index)
            return lambda name, source: not values.isdisjoint(_values(source.get(key)))
        case "range":
            ((key, bounds),) = asked.items()
            _check_indexed(key, index)
            return lambda name, source: any(_within(value, bounds) for value in _values(source.get(key)))
    raise Refused(400, "parsing_exception", f"unknown query [{kind}]")


def _bool(asked: dict[str, Any], index: Index) -> Fits:
    unknown = set(asked) - {"filter", "must", "must_not", "should", "minimum_should_match"}
    if unknown:
        raise Refused(400, "parsing_exception", f"[bool] query does not support [{unknown.pop()}]")
    needed = [_compiled(part, index) for key in ("filter", "must") for part in asked.get(key, [])]
    never = [_compiled(part, index) for part in asked.get("must_not", [])]
    some = [_compiled(part, index) for part in asked.get("should", [])]
    least = asked.get("minimum_should_match", 0 if needed else 1) if some else 0

    def fits(name: str, source: dict[str, Any]) -> bool:
        return (
            all(part(name, source) for part in needed)
            and not any(part(name, source) for part in never)
            and sum(part(name, source) for part in some) >= least
        )

    return fits


def _within(value: Any, bounds: dict[str, Any]) -> bool:
    found = value.encode() if isinstance(value, str) else value
    for operator, bound in bounds.items():
        limit = bound.encode() if isinstance(bound, str) else bound
        holds = {"gt": found > limit, "gte": found >= limit, "lt": found < limit, "lte": found <= limit}[operator]
        if not holds:
            return False
    return True


def _check_indexed(key: str, index: Index) -> None:
    if index.properties.get(key, {}).get("index") is False:
        raise Refused(400, "query_shard_exception", f"Cannot search on field [{key}] since it is not indexed.")


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _texts(value: Any) -> list[str]:
    return [one for one in _values(value) if isinstance(one, str)]
