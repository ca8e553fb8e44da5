"""JSON schemas as they enter: whether they are schemas at all, and what an engine is to enforce for them.

Keywords are those of JSON Schema draft 2020-12 (json-schema.org). The check finds what would otherwise surface as an
engine's message about its own grammar; what it does not know it lets through.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.errors import InvalidRequest

_TYPES = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_ONE = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_SAFE_INTEGER = 2**53 - 1
_MOST_DEPTH = 64
_MOST_REMEMBERED = 4096

_good: OrderedDict[bytes, None] = OrderedDict()
"""Digests of schemas that were found to be good, the longest unused first: programs send the same tools every time."""


def checked_schema(schema: Any, param: str) -> JsonObject:
    """The schema, if it is one. Raises InvalidRequest that names `param` and the place in the schema."""
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{param}: a JSON schema is an object, not {type(schema).__name__}", param=param)
    checked: JsonObject = schema
    digest = _digest(checked)
    if digest is not None and digest in _good:
        _good.move_to_end(digest)
        return checked
    for place, part, depth in _parts(checked):
        wrong = "is nested too deeply" if depth > _MOST_DEPTH else _wrong(part, checked)
        if wrong:
            raise InvalidRequest(f"{param}: not a usable JSON schema: {place or 'it'} {wrong}", param=param)
    if digest is not None:
        _good[digest] = None
        if len(_good) > _MOST_REMEMBERED:
            _good.popitem(last=False)
    return checked


def _digest(schema: JsonObject) -> bytes | None:
    try:
        return blake2b(orjson.dumps(schema), digest_size=16).digest()
    except TypeError:  # a number beyond 64 bits, say, which a program in this process may bring
        return None


def checked_parameters(schema: Any, param: str) -> JsonObject:
    """The schema of a tool's parameters, which is one of an object. Raises as `checked_schema` does."""
    parameters = checked_schema(schema, param)
    named = parameters.get("type", "object")
    if "object" not in (named if isinstance(named, list) else [named]):
        raise InvalidRequest(
            f"{param}: a tool's parameters are an object, so the schema's type is not {named!r}", param=param
        )
    return parameters


def _parts(schema: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Any, int]]:
    """Every subschema with its place, such as `/properties/city`, and its depth."""
    yield place, schema, depth
    if not isinstance(schema, dict) or depth > _MOST_DEPTH:
        return
    for key in _ONE:
        if key in schema:
            yield from _parts(schema[key], f"{place}/{key}", depth + 1)
    for key in _MANY:
        for number, part in enumerate(schema[key] if isinstance(schema.get(key), list) else []):
            yield from _parts(part, f"{place}/{key}/{number}", depth + 1)
    for key in _NAMED:
        for name, part in (schema[key] if isinstance(schema.get(key), dict) else {}).items():
            yield from _parts(part, f"{place}/{key}/{name}", depth + 1)


def _wrong(part: Any, root: JsonObject) -> str | None:
    """What is wrong with one subschema, its own parts aside."""
    if isinstance(part, bool):
        return None
    if not isinstance(part, dict):
        return f"must be an object or a boolean, not {type(part).__name__}"
    named = part.get("type", [])
    for name in named if isinstance(named, list) else [named]:
        if not isinstance(name, str) or name not in _TYPES:
            return f"has an unknown type {name!r}; types are {', '.join(sorted(_TYPES))}"
    for key, wanted, is_wrong in _FORMS:
        if key in part and is_wrong(part[key]):
            return f"needs {wanted} as {key!r}"
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#") and not _resolves(reference, root):
        return f"refers to {reference!r}, which is not there"
    for least, most in (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum")):
        if least in part and most in part and part[least] > part[most]:
            return f"allows nothing: {least} is above {most}"
    return None


def _no_number(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, (int, float))


def _no_names(value: Any) -> bool:
    return not isinstance(value, list) or not all(isinstance(name, str) for name in value)


_FORMS: list[tuple[str, str, Callable[[Any], bool]]] = [
    *((key, "an object of schemas", lambda value: not isinstance(value, dict)) for key in _NAMED),
    *((key, "a list of schemas", lambda value: not isinstance(value, list) or not value) for key in _MANY),
    *((key, "a number", _no_number) for key in (*_COUNTS, *_BOUNDS)),
    ("enum", "a list of values", lambda value: not isinstance(value, list) or not value),
    ("required", "a list of names", _no_names),
    ("pattern", "a regular expression", lambda value: not isinstance(value, str)),
    ("$ref", "a text", lambda value: not isinstance(value, str)),
]


def _resolves(reference: str, root: JsonObject) -> bool:
    at: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(at, list) and name.isdecimal() and int(name) < len(at):
            at = at[int(name)]
        elif isinstance(at, dict) and name in at:
            at = at[name]
        else:
            return False
    return True


def narrowed(schema: JsonObject) -> JsonObject:
    """A schema whose every value the given one accepts, and which a weak model cannot run away in.

    Objects that list their properties get no others unless they say so, and integers stay within what every JSON
    reader keeps exact (RFC 8259, section 6). A schema that combines or negates parts is left as it is: there, closing
    one part could exclude everything, or let in what was excluded.
    """
    if any(_COMBINING & part.keys() or len(_SHAPING & part.keys()) > 1 for _, part, _ in _objects(schema)):
        return schema
    made: JsonObject = _narrowed(schema)
    return made


_COMBINING = frozenset(
    {"allOf", "oneOf", "not", "if", "dependentSchemas", "unevaluatedProperties", "patternProperties"}
)
_SHAPING = frozenset({"anyOf", "$ref", "properties"})


def _objects(schema: JsonObject) -> Iterator[tuple[str, JsonObject, int]]:
    return ((place, part, depth) for place, part, depth in _parts(schema) if isinstance(part, dict))


def _narrowed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    for key in _ONE:
        if key in made:
            made[key] = _narrowed(made[key])
    for key in _MANY:
        if key in made:
            made[key] = [_narrowed(part) for part in made[key]]
    for key in _NAMED:
        if key in made:
            made[key] = {name: _narrowed(part) for name, part in made[key].items()}
    if "properties" in made and set(made.get("required", [])) <= made["properties"].keys():
        made.setdefault("additionalProperties", False)
    if made.get("type") == "integer" and not {"enum", "const", *_BOUNDS} & made.keys():
        made |= {"minimum": -_SAFE_INTEGER, "maximum": _SAFE_INTEGER}
    return made
