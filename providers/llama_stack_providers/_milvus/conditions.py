"""Conditions on rows: boolean expressions (Milvus documentation, "Filtering Explained").

Whatever text a condition compares stands in its row as a digest of 24 hexadecimal digits too, so that nothing of a
caller's ever gets into an expression.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from llama_stack.errors import InvalidRequest
from llama_stack_providers._vector_database.conditions import Order, conditions_on, ordered_by_numbers, tokens_of
from llama_stack_providers._vector_database.facets import Facet, numbers_of
from llama_stack_providers._vector_database.rows import Rows

MAX_FACETS = 4096
SHOWN = "shown == true"
_ORDERS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_PLAIN = re.compile("[0-9a-z-]+")


class MilvusDialect:
    def all_of(self, parts: list[str]) -> str:
        return " and ".join(f"({part})" for part in parts)

    def any_of(self, parts: list[str]) -> str:
        return " or ".join(f"({part})" for part in parts)

    def has_any(self, facets: list[Facet]) -> str:
        return f"array_contains_any(facets, {quoted(tokens_of(facets))})"

    def has_none(self, facets: list[Facet]) -> str:
        return f"not {self.has_any(facets)}"

    def ordered(self, order: Order, facet: Facet) -> str:
        return ordered_by_numbers(order, facet, self)

    def is_one_of(self, field: str, values: Sequence[str]) -> str:
        return f"{field}_key in {quoted(key_of(field, value) for value in values)}"

    def number(self, name: str, order: Order, value: float) -> str:
        return f'numbers["{name}"] {_ORDERS[order]} {value!r}'


DIALECT = MilvusDialect()


def facet_fields(facets: list[Facet]) -> dict[str, Any]:
    """Raises InvalidRequest for metadata with more keys than an array may have elements."""
    if len(facets) > MAX_FACETS:
        raise InvalidRequest(f"Milvus can filter by {MAX_FACETS - 1} keys of a chunk's metadata", param="metadata")
    return {"facets": [facet.token for facet in facets], "numbers": numbers_of(facets)}


def condition_on(rows: Rows, *others: str) -> str:
    """The rows, and what else they are to fulfil."""
    return DIALECT.all_of([*others, *conditions_on(rows, DIALECT)])


def key_of(field: str, text: str) -> str:
    """What stands in `<field>_key` for a text."""
    return Facet(field, text).token


def quoted(digests: Iterable[str]) -> str:
    """A list of digests or record ids in an expression; anything else would be a way into it."""
    listed = list(digests)
    assert all(_PLAIN.fullmatch(one) for one in listed)
    return "[" + ", ".join(f'"{one}"' for one in listed) + "]"
