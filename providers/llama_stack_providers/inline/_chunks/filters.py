"""Metadata filters as SQL over the tables of `schema.py`, with exactly the meaning of `api.filters.matches`."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llama_stack.api.filters import Comparison, Compound, Scalar, matches

if TYPE_CHECKING:
    import apsw

Value = int | float | str
Condition = tuple[str, list[Value]]
"""SQL and the values of its question marks."""

BOOLEAN, NUMBER, STRING = range(3)
"""Kinds of attributes. Values of different kinds are never equal and have no order."""
DOCUMENT_ID = "document_id"

_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_WIDEST = 2**63


def selected_sources(where: Comparison | Compound) -> Condition:
    """A SELECT of the ids of the sources that fulfil the filter."""
    sql, values = _condition(where)
    return f"SELECT s.id FROM sources AS s WHERE {sql}", values  # noqa: S608  every value is bound


def attributes_of(metadata: Mapping[str, Any]) -> Iterator[tuple[str, int, Value]]:
    """Key, kind and value of what filters can compare."""
    for key, value in metadata.items():
        if isinstance(value, bool | int | float | str) and key != DOCUMENT_ID and value == value:
            kind, kept = _kept(value)
            yield key, kind, kept


def add_exact_comparison(connection: "apsw.Connection") -> None:
    """SQLite's integers have 64 bits. Filters with wider ones are compared in Python, by this function."""

    def fulfils(comparison: str, metadata: str) -> bool:
        return matches(Comparison.model_validate_json(comparison), json.loads(metadata))

    connection.create_scalar_function("fulfils", fulfils, 2, deterministic=True)  # type: ignore[arg-type]  # SQLValue is wider


def _condition(where: Comparison | Compound) -> Condition:
    if isinstance(where, Comparison):
        return _comparison(where)
    parts = [_condition(part) for part in where.filters]
    joined = f" {where.type.upper()} ".join(sql for sql, _ in parts)
    return f"({joined})", [value for _, values in parts for value in values]


def _comparison(one: Comparison) -> Condition:
    wanted: list[Scalar] = one.value if isinstance(one.value, list) else [one.value]
    if any(isinstance(value, int) and abs(value) >= _WIDEST for value in wanted) and one.key != DOCUMENT_ID:
        return "fulfils(?, s.metadata)", [one.model_dump_json()]
    if one.type in _ORDER:
        kind, value = _kept(wanted[0])
        return _selects(one.key, {kind: [value]}, _ORDER[one.type], negated=False)
    by_kind: dict[int, list[Value]] = {}
    for scalar in wanted:
        kind, value = _kept(scalar)
        by_kind.setdefault(kind, []).append(value)
    return _selects(one.key, by_kind, "IN", negated=one.type in ("ne", "nin"))


def _selects(key: str, by_kind: dict[int, list[Value]], operator: str, *, negated: bool) -> Condition:
    sql, values = (_of_document_id if key == DOCUMENT_ID else _of_attribute)(key, by_kind, operator)
    return (f"NOT {sql}" if negated else sql), values


def _of_document_id(_: str, by_kind: dict[int, list[Value]], operator: str) -> Condition:
    values = by_kind.get(STRING, [])
    if not values:
        return "(0)", []
    return f"(s.document_id {operator} {_marks(values, operator)})", list(values)


def _of_attribute(key: str, by_kind: dict[int, list[Value]], operator: str) -> Condition:
    if not by_kind:
        return "(0)", []
    parts: list[str] = []
    bound: list[Value] = []
    for kind, values in by_kind.items():
        parts.append(
            f"SELECT a.source FROM attributes AS a WHERE a.key = ? AND a.kind = {kind}"  # noqa: S608  values are bound
            f" AND a.value {operator} {_marks(values, operator)}"
        )
        bound += [key, *values]
    return f"(s.id IN ({' UNION ALL '.join(parts)}))", bound


def _marks(values: list[Value], operator: str) -> str:
    return f"({', '.join('?' * len(values))})" if operator == "IN" else "?"


def _kept(value: Scalar) -> tuple[int, Value]:
    match value:
        case bool():
            return BOOLEAN, int(value)
        case str():
            return STRING, value
        case int() if abs(value) >= _WIDEST:
            return NUMBER, _nearest_float(value)
        case _:
            return NUMBER, value


def _nearest_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
