"""Filters of records (Chroma documentation, "Metadata filtering") and the fields that they compare.

`facets` is an array of tokens, and each facet that has an order has numbers, each a field of its own.
"""

from collections.abc import Sequence
from typing import Any

from llama_stack_providers._vector_database.conditions import Order, conditions_on, ordered_by_numbers, tokens_of
from llama_stack_providers._vector_database.facets import Facet, numbers_of
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

    def is_one_of(self, field: str, values: Sequence[str]) -> Condition:
        return {field: {"$in": list(values)}}

    def number(self, name: str, order: Order, value: float) -> Condition:
        return {name: {f"${order}": value}}


DIALECT = ChromaDialect()


def facet_fields(facets: list[Facet]) -> dict[str, Any]:
    return {"facets": [facet.token for facet in facets], **numbers_of(facets)}


def is_facet_field(name: str) -> bool:
    """Whether a field of the metadata goes when other facets come: a letter, perhaps a level, then the digest."""
    return len(name) > 24 and name not in FIELDS


def where_of(rows: Rows, *others: Condition) -> dict[str, Any]:
    """The `where` of a request for the rows that are so, too; nothing where everything is wanted."""
    conditions = [*conditions_on(rows, DIALECT), *others]
    return {"where": DIALECT.all_of(conditions)} if conditions else {}


def holds_any(stems: list[str]) -> Condition:
    """The condition on documents that hold at least one of the stems."""
    return DIALECT.any_of([{"$contains": f"{STEM}{stem}{COUNT}"} for stem in stems])
