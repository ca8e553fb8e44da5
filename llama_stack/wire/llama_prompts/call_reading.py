"""What the scanner found, read as calls: names, and arguments of the types the tools want."""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.tools import BUILTIN_TOOL_NAMES, ToolDefinition
from llama_stack.wire.llama_prompts.arguments import NotLiteral, literal, literal_of_node, parsed_expression, typed_json
from llama_stack.wire.llama_prompts.call_scanner import CallScanner, FoundCall
from llama_stack.wire.llama_prompts.tool_text import builtin_argument

Tools = Mapping[str, ToolDefinition]


@dataclass(frozen=True)
class ReadCall:
    """A call: the name as written, and one text that is JSON unless the model's own was beyond repair."""

    name: str
    arguments: str


def read_calls(scanner: CallScanner, tools: Tools, *, known_names_only: bool = False) -> list[ReadCall] | None:
    """The calls the scanned text consists of, or None when it is something else.

    known_names_only: take the forms that look like Python only with a tool's name, because other names may be code.

    A last call that breaks off counts when it names an offered tool: its arguments are then as the model wrote them,
    and whoever should run the tool says that they are no JSON.
    """
    if not scanner.possible or not scanner.calls:
        return None
    calls = []
    for found in scanner.calls:
        call = _read_object(scanner, found, tools) if found.form == "object" else _read_python(scanner, found, tools)
        if call is None or (found.form != "object" and known_names_only and call.name not in tools):
            return None
        calls.append(call)
    return calls


def arguments_json(name: str, written: str, tools: Tools) -> str:
    """The arguments of a call as one JSON text, from the JSON or Python literal the model wrote.

    A text that holds the object (some models quote it once more) is unpacked. What is no literal stays as it is.
    """
    text = written.strip()
    try:
        value = literal(text)
        if isinstance(value, str):
            text = value.strip()
            value = literal(text)
        return "{}" if value is None else typed_json(value, _schema(name, tools), text)
    except NotLiteral:
        return written.strip()


def _schema(name: str, tools: Tools) -> JsonObject | None:
    tool = tools.get(name)
    return tool.parameters if tool is not None else None


# --- objects -------------------------------------------------------------------------------------------------------


def _read_object(scanner: CallScanner, found: FoundCall, tools: Tools) -> ReadCall | None:
    written = {member.key: scanner.text[member.start : member.end] for member in found.members}
    kind = _name_in(written.get("type", '"function"'))
    if kind != "function":
        return None
    function = written.get("function", "")
    if function.lstrip().startswith("{"):
        return _nested(function, tools)
    name = _name_in(written.get("name", function))
    if name is None:
        return None
    arguments = written.get("parameters", written.get("arguments"))
    if not (arguments or "").strip():
        # Without arguments it may be any object that has a name; the name of a tool decides. When it broke off before
        # them, they were still to come, and none is not what the model meant.
        return ReadCall(name, "{}" if found.end is not None else "{") if name in tools else None
    assert arguments is not None
    if found.end is None and found.members[-1].end is None and name not in tools:
        return None
    return ReadCall(name, arguments_json(name, arguments, tools))


def _nested(function: str, tools: Tools) -> ReadCall | None:
    inner = CallScanner(())
    calls = read_calls(inner, tools) if inner.feed(function) else None
    return calls[0] if calls and len(calls) == 1 else None


def _name_in(written: str) -> str | None:
    """The name in a quoted text; None when it is something else or could not be the name of a tool."""
    try:
        name = literal(written)
    except NotLiteral:
        return None
    return name if isinstance(name, str) and name and not any(char.isspace() for char in name) else None


# --- calls with parentheses ----------------------------------------------------------------------------------------


def _read_python(scanner: CallScanner, found: FoundCall, tools: Tools) -> ReadCall | None:
    if found.arguments_start is None:
        return None
    if found.end is None:
        raw = scanner.text[found.arguments_start :].strip()
        return ReadCall(found.name, raw) if found.name in tools and raw else None
    written = scanner.text[found.arguments_start : found.end - 1]
    if found.form == "dotted" and (argument := _unescaped_query(written)) is not None:
        return _call(found.name, {builtin_argument(found.name): argument}, tools)
    try:
        node = parsed_expression(f"call({written}\n)")
        return _call(found.name, _arguments_of(node, found, tools), tools)
    except NotLiteral:
        return None


def _call(name: str, arguments: dict[str, Any], tools: Tools) -> ReadCall:
    return ReadCall(name, typed_json(arguments, _schema(name, tools)))


def _arguments_of(node: ast.expr, found: FoundCall, tools: Tools) -> dict[str, Any]:
    """Arguments by name; unnamed ones take the names of the schema's properties in order. Raises NotLiteral."""
    if not isinstance(node, ast.Call) or any(keyword.arg is None for keyword in node.keywords):
        raise NotLiteral("not plain arguments")
    properties = list((_schema(found.name, tools) or {}).get("properties", {}))
    if not properties and found.name in BUILTIN_TOOL_NAMES:
        properties = [builtin_argument(found.name)]
    if len(node.args) > len(properties):
        raise NotLiteral("unnamed arguments")
    arguments = {name: literal_of_node(value) for name, value in zip(properties, node.args, strict=False)}
    return arguments | {str(keyword.arg): literal_of_node(keyword.value) for keyword in node.keywords}


def _unescaped_query(written: str) -> str | None:
    """The text of `query="..."` when the model forgot to escape the quotes in it, so that it is no Python."""
    text = written.strip()
    if not (text.startswith('query="') and text.endswith('"') and len(text) > len('query="')):
        return None
    try:
        parsed_expression(f"call({text})")
    except NotLiteral:
        return text[len('query="') : -1]
    return None


def code_json(code: str, *, cut: bool) -> str:
    """Arguments of a call of the code interpreter. cut: the code breaks off; the text is then left open, so that
    half a program is never run."""
    text = json.dumps({"code": code}, ensure_ascii=False)
    return text.removesuffix('"}') if cut else text
