"""Filters as Weaviate's conditions (docs.weaviate.io, "Conditional filters"), and these as GraphQL.

NotEqual selects what has no such value, objects without the property included; comparisons of text go by its bytes
(Weaviate's source, adapters/repos/db/inverted/row_reader_roaring_set.go).
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack_providers._vector_database.conditions import Order, condition_of
from llama_stack_providers._vector_database.facets import DOCUMENT_ID, Facet
from llama_stack_providers._vector_database.rows import Rows

_ORDERS: dict[Order, str] = {"gt": "GreaterThan", "gte": "GreaterThanEqual", "lt": "LessThan", "lte": "LessThanEqual"}
_ENUMS = frozenset({"operator", "order", "consistencyLevel"})


def compare(property_name: str, operator: str, value: str) -> JsonObject:
    return {"path": [property_name], "operator": operator, "valueText": value}


def any_of(property_name: str, values: Sequence[str]) -> JsonObject:
    if not values:
        return NOTHING
    return {"path": [property_name], "operator": "ContainsAny", "valueTextArray": list(values)}


def join(operator: str, parts: Sequence[JsonObject]) -> JsonObject:
    return parts[0] if len(parts) == 1 else {"operator": operator, "operands": list(parts)}


CHUNK = compare("kind", "Equal", "chunk")
HEAD = compare("kind", "Equal", "head")
NOTHING = compare("kind", "Equal", "nothing")


def order_property(facet: Facet) -> str:
    """The property that holds the value of facets of this key and kind, by which orders are compared."""
    return f"o_{facet.group}"


def order_value(facet: Facet) -> str:
    return f":{facet.sortable}"


def conditions_of(rows: Rows, is_known: Callable[[str], bool]) -> JsonObject:
    """The rows, as a condition. is_known: see WeaviateDialect."""
    parts = [CHUNK]
    if rows.where is not None:
        parts.append(condition_of(rows.where, WeaviateDialect(is_known)))
    if rows.documents is not None:
        parts.append(any_of("facets", [Facet(DOCUMENT_ID, document).word for document in rows.documents]))
    if rows.chunk_ids is not None:
        parts.append(any_of("facets", [chunk_word(chunk_id) for chunk_id in rows.chunk_ids]))
    if rows.writes is not None:
        parts.append(any_of("write", rows.writes))
    if rows.row_ids is not None:
        parts.append(any_of("row", rows.row_ids))
    if rows.after is not None:
        parts.append(compare("place", "GreaterThan", rows.after.sortable))
    if rows.written_before is not None:
        parts.append(compare("written_at", "LessThan", f"{rows.written_before:012}"))
    parts += [compare("write", "NotEqual", write) for write in rows.not_writes]
    parts += [compare("row", "NotEqual", row) for row in rows.not_rows]
    return join("And", parts)


def chunk_word(chunk_id: str) -> str:
    """Stands among the facets, but can be none of them."""
    return "chunk:" + chunk_id.encode(errors="surrogatepass").hex()


class WeaviateDialect:
    """is_known: whether the collection has the property; a condition on one that it has not is an error there."""

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known

    def all_of(self, parts: list[JsonObject]) -> JsonObject:
        return join("And", parts)

    def any_of(self, parts: list[JsonObject]) -> JsonObject:
        return join("Or", parts)

    def has_any(self, facets: list[Facet]) -> JsonObject:
        return any_of("facets", [facet.word for facet in facets])

    def has_none(self, facets: list[Facet]) -> JsonObject:
        return join("And", [CHUNK, *(compare("facets", "NotEqual", facet.word) for facet in facets)])

    def ordered(self, order: Order, facet: Facet) -> JsonObject:
        name = order_property(facet)
        return compare(name, _ORDERS[order], order_value(facet)) if self._is_known(name) else NOTHING


def graphql(value: Any, key: str = "") -> str:
    """The value in GraphQL's syntax (spec.graphql.org, section 2.9), whose strings JSON's are a part of."""
    match value:
        case dict():
            return "{" + ", ".join(f"{_renamed(name)}: {graphql(part, name)}" for name, part in value.items()) + "}"
        case list():
            return "[" + ", ".join(graphql(part) for part in value) + "]"
        case str() if key in _ENUMS:
            return value
        case _:
            return json.dumps(value)


def _renamed(name: str) -> str:
    """REST gives lists a name of their own, GraphQL does not."""
    return "valueText" if name == "valueTextArray" else name
