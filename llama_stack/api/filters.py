"""One language of metadata filters, for every memory bank and backend.

The form is that of OpenAI's vector store search (API reference, "Vector stores", `filters`): comparisons of one key
with one value, joined by `and` and `or`. `matches` is the meaning: a backend that pushes a filter down selects
exactly the chunks for which it is true. Callers may also send a plain mapping, which asks for equal values.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    field_validator,
)

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
_OPERATORS = frozenset(
    operator for kind in (Comparison, Compound) for operator in get_args(kind.model_fields["type"].annotation)
)


def from_plain(given: Any) -> Any:
    """A plain mapping as the filter it means: equal values, a list for one of them; nothing for an empty one.

    Whatever else is given, a filter that is malformed among it, is returned as it is: that a mapping is a filter is
    told by an operator as its `type`, or by `key` or `filters` beside `type`, or by `key` beside `value`.
    Raises ValueError for a value that nothing is equal to.
    """
    if not isinstance(given, Mapping) or _looks_like_a_filter(given):
        return given
    parts: list[Comparison | Compound] = [_equal(key, value) for key, value in given.items()]
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else Compound(type="and", filters=parts)


def _looks_like_a_filter(given: Mapping[Any, Any]) -> bool:
    kind = given.get("type")
    names_operator = isinstance(kind, str) and kind in _OPERATORS
    is_told = {"key", "value"} <= given.keys() or ("type" in given and not given.keys().isdisjoint(("key", "filters")))
    return names_operator or is_told


def _equal(key: Any, value: Any) -> Comparison:
    try:
        return Comparison(type="in" if isinstance(value, list) else "eq", key=key, value=value)
    except ValidationError:
        shown = repr(value)
        raise ValueError(
            f"{key!r} can be compared with a text, a number, a boolean or a list of such, not with {shown[:100]}; keys "
            "are texts of 1 to 512 characters, and what is more than equality is written as "
            "{'type': 'gte', 'key': 'year', 'value': 2024}"
        ) from None


GivenFilter = Annotated[
    MetadataFilter | None,
    BeforeValidator(from_plain, json_schema_input_type=MetadataFilter | dict[str, Scalar | list[Scalar]] | None),
]
"""What a caller may say where a filter is wanted: a filter, a plain mapping, or nothing."""


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
