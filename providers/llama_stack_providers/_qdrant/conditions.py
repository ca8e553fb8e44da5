"""Filters of points (Qdrant documentation, "Filtering") and the payload that they compare.

Payload of a point: the flat fields of a row; `facets` and `order`, by which filters select; `norm` of the vector as it
was written, because Qdrant keeps it with length 1; and the state of the write that it belongs to (see `VISIBLE`).
"""

from collections.abc import Sequence
from typing import Any

from llama_stack_providers._vector_database.conditions import Order, ordered_by_numbers, tokens_of
from llama_stack_providers._vector_database.facets import Facet, numbers_of

Condition = dict[str, Any]

VISIBLE: Condition = {
    "must": [{"key": "shown", "match": {"value": True}}],
    "must_not": [
        {
            "must": [{"key": "gone", "match": {"value": True}}],
            "must_not": [{"is_empty": {"key": "replaced_by"}}],
        }
    ],
}
"""What a search may see. A write adds its points with `shown` false and marks those that they replace with
`replaced_by` and `gone` false, both of which change nothing; then one operation sets `shown` and `gone` to true on
all of them, so the new ones appear and the old ones disappear in the same step."""

UNFINISHED: Condition = {
    "should": [{"key": "shown", "match": {"value": False}}, {"must_not": [{"is_empty": {"key": "replaced_by"}}]}]
}
"""Points that a write left behind which did not come to its end."""

INDEXED = {
    "facets": "keyword",
    "document_id": "keyword",
    "chunk_id": "keyword",
    "language": "keyword",
    "replaced_by": "keyword",
    "shown": "bool",
    "gone": "bool",
}
"""Payload fields with an index of their own."""


def facet_fields(facets: list[Facet]) -> dict[str, Any]:
    return {"facets": [facet.token for facet in facets], "order": numbers_of(facets)}


class QdrantDialect:
    def all_of(self, parts: list[Condition]) -> Condition:
        return {"must": parts}

    def any_of(self, parts: list[Condition]) -> Condition:
        return {"should": parts}

    def has_any(self, facets: list[Facet]) -> Condition:
        return self.is_one_of("facets", tokens_of(facets))

    def has_none(self, facets: list[Facet]) -> Condition:
        return {"must_not": [self.has_any(facets)]}

    def ordered(self, order: Order, facet: Facet) -> Condition:
        return ordered_by_numbers(order, facet, self)

    def is_one_of(self, field: str, values: Sequence[str]) -> Condition:
        return {"key": field, "match": {"any": list(values)}}

    def number(self, name: str, order: Order, value: float) -> Condition:
        return {"key": f"order.{name}", "range": {order: value}}


DIALECT = QdrantDialect()
