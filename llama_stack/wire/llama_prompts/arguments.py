"""Arguments of a call: from what the model wrote to one JSON text that fits the tool's schema.

Models write a number as "10", a zip code as 94103, a Python repr instead of JSON. The value is kept to the letter
where it already is JSON of the right types; otherwise it is written anew.
"""

import ast
import json
import math
import warnings
from typing import Any, NoReturn

from llama_stack.api.common import JsonObject


class NotLiteral(ValueError):
    """The text is no JSON and no Python literal that JSON can express."""


def literal(text: str) -> Any:
    """The value of a JSON text or a Python literal, of JSON types only. Raises NotLiteral; never evaluates a name."""
    try:
        # Models put raw line ends into strings; only a strict reader minds.
        return json.loads(text, strict=False, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        pass
    return literal_of_node(parsed_expression(text.strip()))


def parsed_expression(text: str) -> ast.expr:
    """The Python expression in the text, unevaluated. Raises NotLiteral."""
    try:
        with warnings.catch_warnings():
            # An odd escape in a model's string is a matter of the model's, not of this program's.
            warnings.simplefilter("ignore")
            return ast.parse(text, mode="eval").body
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise NotLiteral(str(error)) from error


def literal_of_node(node: ast.expr) -> Any:
    """The value of a literal of JSON types; `true`, `false` and `null` are read as JSON's. Raises NotLiteral."""
    try:
        return _of_node(node)
    except RecursionError as error:
        raise NotLiteral("nested too deeply") from error


def _of_node(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=None | bool() | int() | str() as value):
            return value
        case ast.Constant(value=float() as value) if math.isfinite(value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if math.isfinite(value):
            return -value
        case ast.Name(id="true" | "false" | "null" as word):
            return {"true": True, "false": False, "null": None}[word]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return [_of_node(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {_key_of(key): _of_node(value) for key, value in zip(keys, values, strict=True)}
    raise NotLiteral(f"not a literal: {type(node).__name__}")


def _key_of(node: ast.expr | None) -> str:
    key = None if node is None else _of_node(node)
    if isinstance(key, str):
        return key
    raise NotLiteral("a key is not a text")


def typed_json(value: Any, schema: JsonObject | None, written: str | None = None) -> str:
    """The value as a JSON text, its parts converted to the types the schema wants where that loses nothing.

    written: the model's own text of the value; returned unchanged when it is JSON and nothing had to be converted.
    Raises NotLiteral for what is nested too deeply to be written.
    """
    try:
        typed = _typed(value, schema)
        if written is not None and _same(typed, value) and _is_json(written):
            return written
        text = json.dumps(typed, ensure_ascii=False)
    except RecursionError as error:
        raise NotLiteral("nested too deeply") from error
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair has no UTF-8; as an escape it can travel.
        return json.dumps(typed)
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down: 1, 1.0 and True are three values."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right) or left != left


def _typed(value: Any, schema: Any) -> Any:
    if not isinstance(schema, dict):
        return value
    wanted = _single_type(schema)
    if isinstance(value, str) and wanted in ("integer", "number", "boolean", "array", "object"):
        value = _from_text(value, wanted)
    elif isinstance(value, float) and wanted == "integer" and value.is_integer():
        return int(value)
    elif isinstance(value, (bool, int, float)) and wanted == "string":
        return json.dumps(value)
    if isinstance(value, dict):
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        return {key: _typed(part, known.get(key)) for key, part in value.items()}
    if isinstance(value, list):
        return [_typed(part, schema.get("items")) for part in value]
    return value


def _single_type(schema: JsonObject) -> str | None:
    """The one type the schema allows besides null, or None when it allows several or does not say."""
    options: list[Any] = []
    if isinstance(named := schema.get("type"), (str, list)):
        options = named if isinstance(named, list) else [named]
    elif isinstance(choices := schema.get("anyOf") or schema.get("oneOf"), list):
        options = [choice.get("type") if isinstance(choice, dict) else None for choice in choices]
    options = [option for option in options if option != "null"]
    return options[0] if len(options) == 1 and isinstance(options[0], str) else None


def _from_text(text: str, wanted: str) -> Any:
    """What the text says in the wanted type, or the text itself."""
    try:
        value = literal(text)
    except NotLiteral:
        return text
    fits = {
        "integer": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, (int, float)) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value if fits[wanted] else text
