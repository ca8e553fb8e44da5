"""Grammars that hold a model's answer to a JSON schema, or to calls of the offered tools in the model's own form.

Written in llguidance's dialect of Lark (documented in its `docs/syntax.md` and `docs/json_schema.md`), which llama.cpp
takes where a grammar begins with `%llguidance`. Whitespace in JSON is fixed to one line, `", "` and `": "`: a weak
model that may write blanks writes blanks until its tokens run out, and this is how Llama writes calls.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ToolPromptFormat
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest
from llama_stack.wire.json_schemas import checked_schema, narrowed
from llama_stack.wire.llama_prompts.families import LlamaFamily, default_tool_format, tokens_of
from llama_stack.wire.llama_prompts.tool_text import CODE_INTERPRETER, split_builtin

_HEADER = "%llguidance {}\n"
_MOST_CALLS = 8
_TIGHT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def json_schema_grammar(schema: JsonObject, *, param: str = "response_format") -> str:
    """Text that is one line of JSON the schema accepts.

    Raises InvalidRequest, naming `param`, for what is no JSON schema. A schema may be sound and still ask for what the
    engine cannot enforce; only the engine can say so.
    """
    return f"{_HEADER}start: {_json(checked_schema(schema, param))}\n"


def json_object_grammar() -> str:
    """Text that is one line of JSON, an object of any kind."""
    return json_schema_grammar({"type": "object"})


def _json(schema: JsonObject) -> str:
    return "%json " + json.dumps({**narrowed(schema), "x-guidance": _TIGHT}, ensure_ascii=False)


def tool_grammar(
    tools: Sequence[ToolDefinition],
    choice: ToolChoice,
    family: LlamaFamily,
    parallel: bool | None = None,
    *,
    form: ToolPromptFormat | None = None,
) -> str | None:
    """What the model may answer when these tools are offered, or None when nothing is to be held.

    choice: "required" and a named choice force a call; "auto" leaves the model to say anything, but what begins like a
        call must be one, of an offered tool, with arguments its schema accepts.
    parallel: whether there may be several calls; None leaves it to what the family was taught.
    form: how the prompt wrote the tools, as in `ChatRequest.tool_prompt_format`.
    Raises InvalidRequest for a choice that cannot be met, and for a tool whose parameters are no JSON schema.
    """
    chosen = chosen_tools(tools, choice)
    if not chosen:
        return None
    form = form or default_tool_format(family)
    several = form == "python_list" if parallel is None else parallel
    rules = _Rules(family, form, several)
    position = {tool.name: index for index, tool in enumerate(tools)}
    builtin, custom = ([], chosen) if family is LlamaFamily.LLAMA_4 else split_builtin(chosen)
    starts = rules.builtin_calls(builtin) + rules.custom_calls(custom, position)
    forced = choice == "required" or (isinstance(choice, NamedToolChoice) and choice.mode == "required")
    if not forced:
        starts.append(rules.free_text())
    return f"{_HEADER}start: {' | '.join(starts)}\n{rules.text()}"


def chosen_tools(tools: Sequence[ToolDefinition], choice: ToolChoice) -> list[ToolDefinition]:
    """The tools the choice allows to be called; what reads the calls should know these and no others.

    Raises InvalidRequest when the choice asks for a tool that is not offered.
    """
    if choice == "none" or (choice == "auto" and not tools):
        return []
    if not tools:
        raise InvalidRequest("a tool must be called, but none is offered; send tools", param="tool_choice")
    if not isinstance(choice, NamedToolChoice):
        return list(tools)
    offered = [tool.name for tool in tools]
    unknown = [name for name in choice.names if name not in offered]
    if unknown or not choice.names:
        asked = ", ".join(unknown) if unknown else "no tool at all"
        raise InvalidRequest(f"tool_choice names {asked}; offered are {', '.join(offered)}", param="tool_choice")
    return [tool for tool in tools if tool.name in choice.names]


class _Rules:
    """Collects the rules of one grammar; methods return the name of what they added."""

    def __init__(self, family: LlamaFamily, form: ToolPromptFormat, several: bool) -> None:
        self.tokens = tokens_of(family)
        self.form = form
        self.several = several
        self._rules: dict[str, str] = {}

    def text(self) -> str:
        return "".join(f"{name}: {body}\n" for name, body in self._rules.items())

    def _add(self, name: str, body: str) -> str:
        self._rules[name] = body
        return name

    def _many(self, rule: str, separator: str) -> str:
        more = (
            f" ({_quoted(separator)} {rule}){{0,{_MOST_CALLS - 1}}}" if separator else f" {rule}{{0,{_MOST_CALLS - 1}}}"
        )
        return rule + (more if self.several else "")

    # --- builtin tools ---

    def builtin_calls(self, tools: Sequence[ToolDefinition]) -> list[str]:
        """`name.call(query="...")` and code, as the families of Llama 3 were taught; each ends the message."""
        starts = []
        queried = [tool.name for tool in tools if tool.name != CODE_INTERPRETER]
        if queried:
            # The escapes are those our renderer writes; a length keeps a weak model from never closing the quote.
            self._add("QUERY", r'/([^"\\\n\r]|\\["\\nr]){1,500}/')
            names = " | ".join(_quoted(name) for name in queried)
            self._add("query_call", f"({names}) {_quoted('.call(query=' + chr(34))} QUERY {_quoted(chr(34) + ')')}")
            starts.append(self._tagged("query_calls", self._many("query_call", "; ")))
        if len(queried) < len(tools):
            self._add("CODE", "/(?s:.+)/")
            starts.append(self._tagged("code_call", "CODE"))
        return starts

    def _tagged(self, name: str, body: str) -> str:
        return self._add(name, f"{self.tokens.call_start} {body} {self.tokens.end_of_message}")

    # --- all others ---

    def custom_calls(self, tools: Sequence[ToolDefinition], position: Mapping[str, int]) -> list[str]:
        calls = []
        for tool in tools:
            number = position[tool.name]
            schema = checked_schema(tool.parameters or {}, f"tools[{number}].parameters")
            calls.append(self._add(f"call_{number}", self._call(tool.name, {"type": "object", **schema}, number)))
        if not calls:
            return []
        self._add("call", " | ".join(calls))
        separator = {"json": "; ", "function_tag": "", "python_list": ", "}[self.form]
        many = self._many("call", separator)
        return [self._add("calls", f'"[" {many} "]"' if self.form == "python_list" else many)]

    def _call(self, name: str, schema: JsonObject, number: int) -> str:
        if self.form == "function_tag":
            return f"{_quoted(f'<function={name}>')} {self._arguments(schema, number)} {_quoted('</function>')}"
        if self.form == "python_list" and all(key.isidentifier() for key in schema.get("properties", {})):
            return f'{_quoted(name + "(")} {self._python_arguments(schema, number)} ")"'
        head = f'{{"name": {json.dumps(name, ensure_ascii=False)}, "parameters": '
        return f'{_quoted(head)} {self._arguments(schema, number)} "}}"'

    def _arguments(self, schema: JsonObject, number: int) -> str:
        if "properties" not in schema and not (schema.keys() - {"type"}):
            return '"{}"'
        return self._add(f"arguments_{number}", _json(schema))

    def _python_arguments(self, schema: JsonObject, number: int) -> str:
        """`a=1, b="x"`: the required ones, then any of the others, in the schema's order; values as JSON."""
        definitions: JsonObject = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = [key for key in properties if key in schema.get("required", [])]
        optional = [key for key in properties if key not in required]
        rules = {}
        for place, key in enumerate(properties):
            value = properties[key] if isinstance(properties[key], dict) else {}
            value_rule = self._add(f"value_{number}_{place}", _json({**value, **definitions}))
            rules[key] = self._add(f"argument_{number}_{place}", f"{_quoted(key + '=')} {value_rule}")
        rest = "".join(f' (", " {rules[key]})?' for key in optional)
        if required:
            return ' ", " '.join(rules[key] for key in required) + rest
        firsts = [
            rules[key] + "".join(f' (", " {rules[later]})?' for later in optional[place + 1 :])
            for place, key in enumerate(optional)
        ]
        return f"({' | '.join(firsts)})?" if firsts else ""

    # --- anything else ---

    def free_text(self) -> str:
        """Nothing, or text that begins neither as a JSON call nor as a call of this form."""
        openings = {"json": "{", "function_tag": "{<", "python_list": "{["}[self.form]
        return self._add("FREE", rf"/([^\s{re.escape(openings)}](?s:.*))?/")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
