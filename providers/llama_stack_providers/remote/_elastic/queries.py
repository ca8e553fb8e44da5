"""Filters in the query DSL that Elasticsearch and OpenSearch share (Elasticsearch reference, "Query DSL")."""

from llama_stack.api.common import JsonObject
from llama_stack_providers._vector_database.conditions import Order, condition_of
from llama_stack_providers._vector_database.facets import Facet
from llama_stack_providers._vector_database.rows import Rows, named_id

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
        wanted.append(condition_of(rows.where, ElasticDialect()))
    if rows.documents is not None:
        wanted.append({"terms": {"document": [document_key(document) for document in rows.documents]}})
    if rows.chunk_ids is not None:
        wanted.append({"terms": {"chunk_key": [chunk_key(chunk_id) for chunk_id in rows.chunk_ids]}})
    if rows.writes is not None:
        wanted.append({"terms": {"write": list(rows.writes)}})
    if rows.row_ids is not None:
        wanted.append({"ids": {"values": list(rows.row_ids)}})
    if rows.after is not None:
        wanted.append({"range": {"place": {"gt": rows.after.sortable}}})
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


class ElasticDialect:
    def all_of(self, parts: list[JsonObject]) -> JsonObject:
        return {"bool": {"filter": parts}}

    def any_of(self, parts: list[JsonObject]) -> JsonObject:
        return any_of(parts)

    def has_any(self, facets: list[Facet]) -> JsonObject:
        return {"terms": {"facets": [facet.word for facet in facets]}}

    def has_none(self, facets: list[Facet]) -> JsonObject:
        return {"bool": {"must_not": [self.has_any(facets)]}}

    def ordered(self, order: Order, facet: Facet) -> JsonObject:
        """A range of the words of this key and kind, of which a chunk has at most one."""
        # A colon stands between group and value, and a semicolon is the character after it.
        end = {"lt": f"{facet.group};"} if order in ("gt", "gte") else {"gte": f"{facet.group}:"}
        return {"range": {"facets": {order: facet.word, **end}}}
