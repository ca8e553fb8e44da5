"""Metadata filters in a database's own language of conditions."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from llama_stack.api.filters import Comparison, Compound, Scalar
from llama_stack_providers._vector_database.facets import (
    STRING_LEVELS,
    Facet,
    as_float,
    level_name,
    levels_of,
    number_name,
)
from llama_stack_providers._vector_database.rows import Rows

ConditionT = TypeVar("ConditionT")
Order = Literal["gt", "gte", "lt", "lte"]

EXACT_BELOW = 2**53
"""Whole numbers up to here are exact as float64."""
UNUSED = "0"
"""Stands for a token that nothing has, where a list may not be empty."""


class Dialect(Protocol[ConditionT]):
    """How a database says it."""

    def all_of(self, parts: list[ConditionT]) -> ConditionT:
        """parts: two or more."""
        ...

    def any_of(self, parts: list[ConditionT]) -> ConditionT:
        """parts: two or more."""
        ...

    def has_any(self, facets: list[Facet]) -> ConditionT:
        """False for everything where there is none."""
        ...

    def has_none(self, facets: list[Facet]) -> ConditionT: ...

    def ordered(self, order: Order, facet: Facet) -> ConditionT:
        """True where there is a value of this key and kind that stands in this order to the facet's."""
        ...


class FieldDialect(Dialect[ConditionT], Protocol[ConditionT]):
    """Of a database that keeps flat fields, and puts nothing but numbers in order: see `ordered_by_numbers`."""

    def is_one_of(self, field: str, values: Sequence[str]) -> ConditionT: ...

    def number(self, name: str, order: Order, value: float) -> ConditionT:
        """True where the number is there and stands in this order to the value."""
        ...


def condition_of(where: Comparison | Compound, dialect: Dialect[ConditionT]) -> ConditionT:
    """True for every chunk that the filter selects.

    In a FieldDialect it is also true for a few others where a string is compared by size with one that agrees in the
    first 24 bytes, or a number beyond 2**53 with its neighbours: whoever searches by it checks what was found with
    `matches`.
    """
    if isinstance(where, Compound):
        parts = [condition_of(part, dialect) for part in where.filters]
        if len(parts) == 1:
            return parts[0]
        return dialect.all_of(parts) if where.type == "and" else dialect.any_of(parts)
    values: list[Scalar] = where.value if isinstance(where.value, list) else [where.value]
    facets = [Facet(where.key, value) for value in values]
    match where.type:
        case "eq" | "in":
            return dialect.has_any(facets)
        case "ne" | "nin":
            return dialect.has_none(facets)
        case "gt" | "gte" | "lt" | "lte" as order:
            return dialect.ordered(order, facets[0])


def conditions_on(rows: Rows, dialect: FieldDialect[ConditionT]) -> list[ConditionT]:
    """All of which the rows fulfil."""
    conditions = [] if rows.where is None else [condition_of(rows.where, dialect)]
    if rows.documents is not None:
        conditions.append(dialect.is_one_of("document_id", rows.documents))
    if rows.chunk_ids is not None:
        conditions.append(dialect.is_one_of("chunk_id", rows.chunk_ids))
    return conditions


def tokens_of(facets: list[Facet]) -> list[str]:
    """For a condition; never empty."""
    return [facet.token for facet in facets] or [UNUSED]


def ordered_by_numbers(order: Order, facet: Facet, dialect: FieldDialect[ConditionT]) -> ConditionT:
    if isinstance(facet.value, str):
        return _string_ordered(facet.key, order, levels_of(facet.value), dialect)
    inclusive: Order = "gte" if order in ("gt", "gte") else "lte"
    exact = abs(facet.value) < EXACT_BELOW
    return dialect.number(number_name(facet.key), order if exact else inclusive, as_float(facet.value))


def _string_ordered(key: str, order: Order, wanted: list[float], dialect: FieldDialect[ConditionT]) -> ConditionT:
    """Level by level, as digits are compared; strings that agree in all levels are let through."""
    strict: Order = "gt" if order in ("gt", "gte") else "lt"
    inclusive: Order = "gte" if strict == "gt" else "lte"
    last = STRING_LEVELS - 1
    condition = dialect.number(level_name(key, last), inclusive, wanted[last])
    for level in range(last - 1, -1, -1):
        name = level_name(key, level)
        equal = [dialect.number(name, "gte", wanted[level]), dialect.number(name, "lte", wanted[level])]
        beyond = dialect.number(name, strict, wanted[level])
        condition = dialect.any_of([beyond, dialect.all_of([*equal, condition])])
    return condition
