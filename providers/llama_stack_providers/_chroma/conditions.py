"""Filters of records (Chroma documentation, "Metadata filtering") and the fields that they compare.

`facets` is an array of tokens, and each facet that has an order has numbers, each a field of its own.
"""

from typing import Any

from llama_stack_providers._vector_database.conditions import Order, condition_of, ordered_by_numbers, tokens_of
from llama_stack_providers._vector_database.facets import Facet
from llama_stack_providers._vector_database.fields import FIELDS
from llama_stack_providers._vector_database.rows import Rows

Condition = dict[str, Any]

STEM = "\u241f"
COUNT = "\u241e"
"""Marks around a stem in a document, which no stem holds, because stems are letters and digits."""


class ChromaDialect:
    def all_of(self, parts: list[Condition]) -> Condition:
        return {"$and": parts} if len(parts) > 1 else parts[0]

    def any_of(self, parts: list[Condition]) -> Condition:
        return {"$or": parts} if len(parts) > 1 else parts[0]

    def has_any(self, facets: list[Facet]) -> Condition:
        return self.any_of([{"facets": {"$contains": token}} for token in tokens_of(facets)])

    def has_none(self, facets: list[Facet]) -> Condition:
        return self.all_of([{"facets": {"$not_contains": token}} for token in tokens_of(facets)])

    def ordered(self, order: Order, facet: Facet) -> Condition:
        return ordered_by_numbers(order, facet, self)

    def number(self, name: str, order: Order, value: float) -> Condition:
        return {name: {f"${order}": value}}


def facet_fields(facets: list[Facet]) -> dict[str, Any]:
    fields: dict[str, Any] = {"facets": [facet.token for facet in facets]}
    for facet in facets:
        fields |= facet.numbers
    return fields


def is_facet_field(name: str) -> bool:
    """Whether a field of the metadata goes when other facets come: a letter, perhaps a level, then the digest."""
    return len(name) > 24 and name not in FIELDS


def any_value(field: str, values: list[str]) -> Condition:
    return {field: {"$in": values}}


def conditions_of(rows: Rows) -> list[Condition]:
    """All of which the rows fulfil."""
    conditions = [] if rows.where is None else [condition_of(rows.where, ChromaDialect())]
    if rows.documents is not None:
        conditions.append(any_value("document_id", list(rows.documents)))
    if rows.chunk_ids is not None:
        conditions.append(any_value("chunk_id", list(rows.chunk_ids)))
    return conditions


def where_of(conditions: list[Condition]) -> dict[str, Any]:
    """The `where` of a request; nothing where everything is wanted."""
    return {"where": ChromaDialect().all_of(conditions)} if conditions else {}


def holds_any(stems: list[str]) -> Condition:
    """The condition on documents that hold at least one of the stems."""
    return ChromaDialect().any_of([{"$contains": f"{STEM}{stem}{COUNT}"} for stem in stems])
