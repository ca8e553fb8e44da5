"""One language of metadata filters, for every memory bank and backend.

The form is that of OpenAI's vector store search (API reference, "Vector stores", `filters`): comparisons of one key
with one value, joined by `and` and `or`. `matches` is the meaning: a backend that pushes a filter down selects
exactly the chunks for which it is true.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, StrictBool, StrictInt, StrictStr, field_validator

from llama_stack.api.common import Word

MAX_DEPTH = 8
"""Of compound filters within each other."""
MAX_COMPARISONS = 256
"""In a whole filter, each value of an `in` counted."""

Scalar = StrictBool | StrictInt | Annotated[FiniteFloat, Field(strict=True)] | StrictStr
"""Strings, booleans and numbers; what metadata can be compared by."""


class Comparison(Word):
    """One key against one value.

    eq, ne: equal, not equal. gt, gte, lt, lte: numbers by size, strings by code point. in, nin: one of, none of.
    A number never equals a string or a boolean. A key that is missing, or whose value is no scalar, is unequal to
    everything: it fulfils `ne` and `nin` and nothing else. Values of different kinds fulfil no order.
    """

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: str = Field(min_length=1, max_length=512)
    value: Scalar | list[Scalar]

    @field_validator("value")
    @classmethod
    def _right_shape(cls, value: Any, info: Any) -> Any:
        operator = info.data.get("type")
        if operator in ("in", "nin") and not isinstance(value, list):
            raise ValueError(f"the value of {operator!r} is a list")
        if operator not in ("in", "nin") and isinstance(value, list):
            raise ValueError(f"the value of {operator!r} is a string, a number or a boolean, not a list")
        if operator in ("gt", "gte", "lt", "lte") and isinstance(value, bool):
            raise ValueError(f"booleans have no order, so {operator!r} takes a string or a number")
        return value


class Compound(Word):
    """`and`: all of the filters; `or`: at least one."""

    type: Literal["and", "or"]
    filters: list["MetadataFilter"] = Field(min_length=1)


MetadataFilter = Annotated[Comparison | Compound, Field(discriminator="type")]
Compound.model_rebuild()


def matches(condition: Comparison | Compound | None, metadata: Mapping[str, Any]) -> bool:
    """Whether metadata fulfils the filter; no filter lets everything pass."""
    match condition:
        case None:
            return True
        case Compound(type="and"):
            return all(matches(part, metadata) for part in condition.filters)
        case Compound():
            return any(matches(part, metadata) for part in condition.filters)
        case Comparison():
            return _compares(condition, metadata.get(condition.key))


def _compares(condition: Comparison, found: Any) -> bool:
    wanted = condition.value
    match condition.type:
        case "in":
            return any(_is_equal(found, one) for one in _values(wanted))
        case "nin":
            return not any(_is_equal(found, one) for one in _values(wanted))
        case "eq":
            return _is_equal(found, wanted)
        case "ne":
            return not _is_equal(found, wanted)
        case operator:
            return _is_ordered(operator, found, wanted)


def _values(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def _is_equal(found: Any, wanted: Any) -> bool:
    return _kind(found) is not None and _kind(found) == _kind(wanted) and bool(found == wanted)


def _is_ordered(operator: str, found: Any, wanted: Any) -> bool:
    if _kind(found) not in ("number", "string") or _kind(found) != _kind(wanted):
        return False
    match operator:
        case "gt":
            return bool(found > wanted)
        case "gte":
            return bool(found >= wanted)
        case "lt":
            return bool(found < wanted)
        case _:
            return bool(found <= wanted)


def _kind(value: Any) -> str | None:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case _:
            return None


def size_of(condition: Comparison | Compound) -> tuple[int, int]:
    """Depth and number of comparisons; whoever takes filters from outside holds them to the limits above."""
    if isinstance(condition, Comparison):
        return 1, len(_values(condition.value)) or 1
    sizes = [size_of(part) for part in condition.filters]
    return 1 + max(depth for depth, _ in sizes), sum(count for _, count in sizes)
