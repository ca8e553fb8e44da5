"""Metadata filters in a database's own language of conditions."""

from typing import Literal, Protocol, TypeVar

from llama_stack.api.filters import Comparison, Compound, Scalar
from llama_stack_providers._vector_database.facets import (
    EXACT_BELOW,
    STRING_LEVELS,
    as_float,
    level_name,
    levels_of,
    number_name,
    tokens_of,
)

ConditionT = TypeVar("ConditionT")
Order = Literal["gt", "gte", "lt", "lte"]

UNUSED = "0"
"""Stands for a value that nothing has, where a list of values may not be empty."""


class Dialect(Protocol[ConditionT]):
    """How a database says it. Lists are never empty."""

    def all_of(self, parts: list[ConditionT]) -> ConditionT: ...

    def any_of(self, parts: list[ConditionT]) -> ConditionT: ...

    def has_any(self, tokens: list[str]) -> ConditionT: ...

    def has_none(self, tokens: list[str]) -> ConditionT: ...

    def number(self, name: str, order: Order, value: float) -> ConditionT:
        """True where the number is there and stands in this order to the value."""
        ...


def condition_of(where: Comparison | Compound, dialect: Dialect[ConditionT]) -> ConditionT:
    """True for every chunk that the filter selects.

    It is also true for a few others where a string is compared by size with one that agrees in the first 24 bytes, or
    a number beyond 2**53 with its neighbours: whoever searches by it checks what was found with `matches`.
    """
    if isinstance(where, Compound):
        parts = [condition_of(part, dialect) for part in where.filters]
        if len(parts) == 1:
            return parts[0]
        return dialect.all_of(parts) if where.type == "and" else dialect.any_of(parts)
    match where.type:
        case "eq" | "in":
            return dialect.has_any(_tokens(where))
        case "ne" | "nin":
            return dialect.has_none(_tokens(where))
        case "gt" | "gte" | "lt" | "lte" as order:
            return _ordered(where.key, order, where.value, dialect)


def _tokens(where: Comparison) -> list[str]:
    values: list[Scalar] = where.value if isinstance(where.value, list) else [where.value]
    return tokens_of(where.key, values) or [UNUSED]


def _ordered(key: str, order: Order, value: Scalar | list[Scalar], dialect: Dialect[ConditionT]) -> ConditionT:
    if isinstance(value, str):
        return _string_ordered(key, order, levels_of(value), dialect)
    assert isinstance(value, int | float)
    inclusive: Order = "gte" if order in ("gt", "gte") else "lte"
    exact = abs(value) < EXACT_BELOW
    return dialect.number(number_name(key), order if exact else inclusive, as_float(value))


def _string_ordered(key: str, order: Order, wanted: list[float], dialect: Dialect[ConditionT]) -> ConditionT:
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
