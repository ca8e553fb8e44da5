"""Filters in the query DSL that Elasticsearch and OpenSearch share (Elasticsearch reference, "Query DSL")."""

from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack_providers.remote._memory.facets import scalar_facet
from llama_stack_providers.remote._memory.store import Rows, named_id

NOTHING: JsonObject = {"match_none": {}}


def document_key(document_id: str) -> str:
    """Stands for the id where it is looked for; ids may be longer than a word of an index."""
    return named_id("document", document_id)


def chunk_key(chunk_id: str) -> str:
    return named_id("chunk key", chunk_id)


def query_of(rows: Rows) -> JsonObject:
    """The rows, as a query that does not score."""
    wanted: list[JsonObject] = [{"term": {"kind": "chunk"}}]
    if rows.where is not None:
        wanted.append(_filter(rows.where))
    if rows.documents is not None:
        wanted.append({"terms": {"document": [document_key(document) for document in rows.documents]}})
    if rows.chunk_ids is not None:
        wanted.append({"terms": {"chunk_key": [chunk_key(chunk_id) for chunk_id in rows.chunk_ids]}})
    if rows.writes is not None:
        wanted.append({"terms": {"write": list(rows.writes)}})
    if rows.row_ids is not None:
        wanted.append({"ids": {"values": list(rows.row_ids)}})
    if rows.after is not None:
        wanted.append({"range": {"place": {"gt": rows.after}}})
    if rows.written_before is not None:
        wanted.append({"range": {"written_at": {"lt": rows.written_before}}})
    unwanted: list[JsonObject] = []
    if rows.not_writes:
        unwanted.append({"terms": {"write": list(rows.not_writes)}})
    if rows.not_rows:
        unwanted.append({"ids": {"values": list(rows.not_rows)}})
    return {"bool": {"filter": wanted, "must_not": unwanted}}


def any_of(queries: list[JsonObject]) -> JsonObject:
    return {"bool": {"should": queries, "minimum_should_match": 1}} if queries else NOTHING


def _filter(where: Comparison | Compound) -> JsonObject:
    match where:
        case Compound(type="and"):
            return {"bool": {"filter": [_filter(part) for part in where.filters]}}
        case Compound():
            return any_of([_filter(part) for part in where.filters])
        case Comparison(type="eq" | "in"):
            return {"terms": {"facets": _words(where)}}
        case Comparison(type="ne" | "nin"):
            return {"bool": {"must_not": [{"terms": {"facets": _words(where)}}]}}
        case _:
            return _range(where)


def _words(where: Comparison) -> list[str]:
    values = where.value if isinstance(where.value, list) else [where.value]
    return [scalar_facet(where.key, value).word for value in values]


def _range(where: Comparison) -> JsonObject:
    """A range of the words of this key and kind, of which a chunk has at most one."""
    assert not isinstance(where.value, list)
    facet = scalar_facet(where.key, where.value)
    # A colon stands between group and value, and a semicolon is the character after it.
    bounds: dict[str, Any] = {"gte": f"{facet.group}:", "lt": f"{facet.group};"}
    if where.type in ("gt", "gte"):
        del bounds["gte"]
    else:
        del bounds["lt"]
    return {"range": {"facets": {**bounds, where.type: facet.word}}}
