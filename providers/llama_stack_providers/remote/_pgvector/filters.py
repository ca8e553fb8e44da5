"""Filters as SQL over a bank's table, true exactly where `api.filters.matches` is.

Equality is containment (`@>`), which an index on the metadata serves; jsonb compares numbers by value, and never a
number with a string or a boolean (PostgreSQL documentation, 8.14.3, "jsonb Containment and Existence").
"""

import json
from typing import Any

from llama_stack.api.filters import Comparison, Compound
from llama_stack.errors import InvalidRequest

DOCUMENT_ID = "document_id"
_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Arguments:
    """The bound values of a statement, in order."""

    def __init__(self, *first: Any) -> None:
        self.values: list[Any] = list(first)

    def bind(self, value: Any) -> str:
        """The placeholder that stands for the value."""
        self.values.append(value)
        return f"${len(self.values)}"


def condition(where: Comparison | Compound | None, arguments: Arguments) -> str:
    """The filter as an SQL expression that is never null. Raises InvalidRequest for text PostgreSQL cannot hold."""
    match where:
        case None:
            return "true"
        case Compound():
            joined = f" {where.type} ".join(condition(part, arguments) for part in where.filters)
            return f"({joined})"
        case Comparison():
            _check(where.key)
            values = where.value if isinstance(where.value, list) else [where.value]
            for value in values:
                _check(value)
            return _comparison(where.type, where.key, values, arguments)


def _comparison(operator: str, key: str, values: list[Any], arguments: Arguments) -> str:
    match operator:
        case "eq" | "in":
            return _is_one_of(key, values, arguments)
        case "ne" | "nin":
            return f"(not {_is_one_of(key, values, arguments)})"
        case _:
            return _is_ordered(_SIGNS[operator], key, values[0], arguments)


def _is_one_of(key: str, values: list[Any], arguments: Arguments) -> str:
    if key == DOCUMENT_ID:
        texts = [value for value in values if isinstance(value, str)]
        return f"(document_id = any({arguments.bind(texts)}::text[]))"
    parts = [f"metadata @> {arguments.bind(_json({key: value}))}::jsonb" for value in values]
    return f"({' or '.join(parts) or 'false'})"


def _is_ordered(sign: str, key: str, value: Any, arguments: Arguments) -> str:
    if key == DOCUMENT_ID:
        return f"(document_id {sign} {arguments.bind(value)}::text)" if isinstance(value, str) else "false"
    found = f"metadata -> {arguments.bind(key)}::text"
    if isinstance(value, str):
        # "C" compares UTF-8 byte by byte, which is the order of code points.
        text = f"(({found}) #>> '{{}}') collate \"C\" {sign} {arguments.bind(value)}::text"
        return f"(coalesce(jsonb_typeof({found}), '') = 'string' and {text})"
    number = f"({found}) {sign} {arguments.bind(_json(value))}::jsonb"
    return f"(coalesce(jsonb_typeof({found}), '') = 'number' and {number})"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _check(value: Any) -> None:
    if isinstance(value, str) and "\0" in value:
        raise InvalidRequest("PostgreSQL keeps no text with U+0000 in it, so no filter can name one", param="filters")
