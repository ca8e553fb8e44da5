"""A light check of a tool call's arguments against a JSON Schema that came from somewhere else.

It knows what tool schemas use (JSON Schema 2020-12: type, enum, const, required, properties, additionalProperties,
items, anyOf, oneOf, allOf, local $ref, and the bounds of numbers, texts and lists) and lets every other keyword pass:
a model's arguments are refused only for a fault that can be named.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from llama_stack.api.common import JsonObject

_MAX_DEPTH = 64
_MAX_PARTS = 10_000
"""Parts of a schema that one check looks at. References to itself can make a small schema endless."""
_MAX_SHOWN = 20
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


@dataclass
class _Document:
    """The whole schema, and how many of its parts may still be looked at."""

    root: JsonObject
    parts_left: int = _MAX_PARTS


def schema_faults(value: Any, schema: JsonObject) -> list[str]:
    """What is wrong with the value, each fault with the path of the place; empty when nothing is."""
    return list(_faults(value, schema, _Document(schema), "", 0))


def _faults(value: Any, schema: Any, root: _Document, path: str, depth: int) -> Iterator[str]:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH or root.parts_left <= 0:
        return
    root.parts_left -= 1
    if "$ref" in schema:
        yield from _faults(value, _resolve(schema["$ref"], root.root), root, path, depth + 1)
    place = path or "the arguments"
    wanted = schema.get("type")
    if wanted is not None and not _has_type(value, wanted):
        names = " or ".join(map(str, wanted)) if isinstance(wanted, list) else wanted
        yield f"{place} must be of type {names}, not {_shown(value)}"
        return
    if isinstance(schema.get("enum"), list) and not any(_same(value, option) for option in schema["enum"]):
        options = schema["enum"]
        more = ", ..." if len(options) > _MAX_SHOWN else ""
        yield f"{place} must be one of {', '.join(map(_shown, options[:_MAX_SHOWN]))}{more}, not {_shown(value)}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{place} must be {_shown(schema['const'])}, not {_shown(value)}"
    yield from _combination_faults(value, schema, root, path, depth)
    if isinstance(value, dict):
        yield from _object_faults(value, schema, root, path, depth)
    elif isinstance(value, list):
        yield from _bound_faults(len(value), schema, "minItems", "maxItems", f"{place} must have", "items")
        for position, item in enumerate(value):
            yield from _faults(item, schema.get("items"), root, f"{path}[{position}]", depth + 1)
    elif isinstance(value, str):
        yield from _bound_faults(len(value), schema, "minLength", "maxLength", f"{place} must have", "characters")
        yield from _pattern_faults(value, schema.get("pattern"), place)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _bound_faults(value, schema, "minimum", "maximum", f"{place} must be", "")


def _combination_faults(value: Any, schema: JsonObject, root: _Document, path: str, depth: int) -> Iterator[str]:
    for part in _list_of(schema.get("allOf")):
        yield from _faults(value, part, root, path, depth + 1)
    for keyword in ("anyOf", "oneOf"):
        options = schema.get(keyword)
        if not isinstance(options, list) or not options:
            continue
        tried = [list(_faults(value, option, root, path, depth + 1)) for option in options]
        if all(tried):
            yield min(tried, key=len)[0] if len(options) == 1 else " or ".join(dict.fromkeys(part[0] for part in tried))


def _object_faults(value: JsonObject, schema: JsonObject, root: _Document, path: str, depth: int) -> Iterator[str]:
    properties = schema.get("properties")
    known: JsonObject = properties if isinstance(properties, dict) else {}
    for name in _list_of(schema.get("required")):
        if isinstance(name, str) and name not in value:
            yield f"{_below(path, name)} is required"
    for name, item in value.items():
        if name in known:
            yield from _faults(item, known[name], root, _below(path, name), depth + 1)
        elif schema.get("additionalProperties") is False:
            yield f"{_below(path, name)} is not known; known are {', '.join(known) or 'none'}"
        else:
            yield from _faults(item, schema.get("additionalProperties"), root, _below(path, name), depth + 1)


def _bound_faults(
    size: float, schema: JsonObject, low_key: str, high_key: str, subject: str, unit: str
) -> Iterator[str]:
    low, high = schema.get(low_key), schema.get(high_key)
    if isinstance(low, int | float) and size < low:
        yield f"{subject} at least {low} {unit}".rstrip()
    if isinstance(high, int | float) and size > high:
        yield f"{subject} at most {high} {unit}".rstrip()


def _pattern_faults(value: str, pattern: Any, place: str) -> Iterator[str]:
    if isinstance(pattern, str) and (matcher := _matcher(pattern)) is not None:
        try:
            # Half of a surrogate pair is no Unicode, which is not the pattern's matter.
            matcher.validate_python(value.encode(errors="replace").decode())
        except ValidationError:
            yield f"{place} must match {pattern}"


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> SchemaValidator | None:
    """Searches in time that grows with the text alone; the standard library can be kept busy for ever by a pattern
    such as `(a+)+$`. None for what it cannot read: look-arounds and the like are the schema's matter, not the model's.
    """
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _resolve(reference: Any, root: JsonObject) -> Any:
    """The part of the same document that a local reference names; None (which accepts all) for any other."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    node: Any = root
    for step in reference[1:].strip("/").split("/"):
        if not step:
            continue
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node


def _has_type(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_has_type(value, one) for one in wanted)
    types = _PYTHON_TYPES.get(wanted) if isinstance(wanted, str) else None
    if types is None:
        return True
    if isinstance(value, bool):
        return bool in types
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, types)


def _same(value: Any, other: Any) -> bool:
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
