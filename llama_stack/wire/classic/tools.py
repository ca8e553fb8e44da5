"""Tools in the classic shapes (`ToolDef`, `Tool`, `ToolGroup`, `ToolConfig` and the inference API's tool definition of
`llama-stack-client` 0.2.12), and what becomes of their parameters in JSON Schema.

The client's `client_tool` decorator names parameter types as Python does (`int`, `list`), people by hand as JSON Schema
does (`integer`, `array`); both are understood.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.api.inference import ToolPromptFormat
from llama_stack.api.tools import NamedToolChoice, ToolChoice, ToolDefinition
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.body import ClassicBody
from llama_stack.wire.json_schemas import checked_parameters

FUNCTION_DEFINITIONS = "{{function_definitions}}"
"""Stands in a system message for the definitions of the tools."""

# --- what comes in -------------------------------------------------------------------------------------------------


class ParameterBody(ClassicBody):
    """One parameter of a client tool. `items` and `enum` are JSON Schema's."""

    name: str
    parameter_type: str = "string"
    description: str | None = None
    required: bool | None = True
    default: Any = None
    items: JsonObject | None = None
    enum: list[Any] | None = None


class ToolDefBody(ClassicBody):
    """A client tool; extra keys, such as the `tool_prompt_format` that the client adds, are ignored."""

    name: str
    description: str | None = None
    parameters: list[ParameterBody] | None = None


class ParamDefinitionBody(ClassicBody):
    """One parameter of a tool of the inference API."""

    param_type: str = "string"
    description: str | None = None
    required: bool | None = True
    default: Any = None
    items: JsonObject | None = None
    enum: list[Any] | None = None


class ToolDefinitionBody(ClassicBody):
    tool_name: str
    description: str | None = None
    parameters: dict[str, ParamDefinitionBody] | None = None


class ToolConfigBody(ClassicBody):
    """tool_choice: a mode, or the name of the tool that must be called."""

    tool_choice: str | None = None
    tool_prompt_format: ToolPromptFormat | None = None
    system_message_behavior: Literal["append", "replace"] | None = None


_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What every chat format lets a tool be called (OpenAI API reference, "function.name")."""


def decode_tool_def(body: ToolDefBody, where: str) -> ToolDefinition:
    """where: the path of the tool in the request. Raises InvalidRequest naming the wrong field."""
    _check_name(body.name, f"{where}.name")
    fields = {
        parameter.name: _Parameter(parameter.parameter_type, parameter, f"{where}.parameters.{number}.parameter_type")
        for number, parameter in enumerate(body.parameters or ())
    }
    parameters = _object_schema(fields, f"{where}.parameters")
    return ToolDefinition(name=body.name, description=body.description, parameters=parameters)


def decode_tool_definition(body: ToolDefinitionBody, where: str) -> ToolDefinition:
    """As `decode_tool_def`."""
    _check_name(body.tool_name, f"{where}.tool_name")
    fields = {
        name: _Parameter(parameter.param_type, parameter, f"{where}.parameters.{name}.param_type")
        for name, parameter in (body.parameters or {}).items()
    }
    parameters = _object_schema(fields, f"{where}.parameters")
    return ToolDefinition(name=body.tool_name, description=body.description, parameters=parameters)


def _check_name(name: str, param: str) -> None:
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{param}: a tool's name is 1 to 64 letters, digits, _ and -, not {name[:100]!r}", param=param
        )


@dataclass(frozen=True)
class _Parameter:
    """where: the path of its type in the request."""

    kind: str
    body: ParameterBody | ParamDefinitionBody
    where: str


def _object_schema(parameters: Mapping[str, _Parameter], where: str) -> JsonObject | None:
    if not parameters:
        return None
    schema: JsonObject = {
        "type": "object",
        "properties": {name: _parameter_schema(parameter) for name, parameter in parameters.items()},
        "required": [name for name, parameter in parameters.items() if parameter.body.required],
    }
    return checked_parameters(schema, where)


def _parameter_schema(parameter: _Parameter) -> JsonObject:
    body = parameter.body
    told = {"description": body.description, "default": body.default, "items": body.items, "enum": body.enum}
    schema = _schema_of_type(parameter.kind, parameter.where)
    return {**schema, **{name: value for name, value in told.items() if value is not None}}


_SCHEMA_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "tuple": "array",
    "set": "array",
    "dict": "object",
    **{name: name for name in ("string", "integer", "number", "boolean", "array", "object", "null")},
}


_ANY_TYPES = frozenset(
    {"any", "none", "bytes", "bytearray", "complex", "frozenset", "date", "datetime", "time", "timedelta"}
)
"""Words of Python for values that JSON Schema has no type for."""


def _schema_of_type(kind: str, where: str) -> JsonObject:
    """`list[int]`, `List` and `Optional` are how Python writes types; the name of a class allows any value.

    Raises InvalidRequest, naming `where`, for a word in small letters that is no type of either.
    """
    name, _, inner = kind.strip().partition("[")
    schema_type = _SCHEMA_TYPES.get(name.lower())
    if schema_type is None:
        if not name or (name.isalpha() and name.islower() and name not in _ANY_TYPES):
            raise InvalidRequest(
                f"{where}: there is no type {name[:100]!r}; types are {', '.join(_SCHEMA_TYPES)}", param=where
            )
        return {}
    if schema_type == "array" and inner.endswith("]"):
        items = _schema_of_type(inner[:-1], where)
        return {"type": "array", "items": items} if items else {"type": "array"}
    return {"type": schema_type}


def decode_tool_choice(
    config: ToolConfigBody | None,
    tool_choice: str | None = None,
    tool_prompt_format: ToolPromptFormat | None = None,
) -> tuple[ToolChoice | None, ToolPromptFormat | None]:
    """What the caller said, None for what it did not say.

    tool_choice, tool_prompt_format: the older fields beside `tool_config`; InvalidRequest where both differ.
    """
    config = config or ToolConfigBody()
    for name, older, newer in (
        ("tool_choice", tool_choice, config.tool_choice),
        ("tool_prompt_format", tool_prompt_format, config.tool_prompt_format),
    ):
        if older is not None and newer is not None and older != newer:
            raise InvalidRequest(f"{name}: differs from tool_config.{name}; send one of them", param=name)
    word = config.tool_choice if config.tool_choice is not None else tool_choice
    prompt_format = config.tool_prompt_format or tool_prompt_format
    match word:
        case None | "auto" | "none" | "required":
            return word, prompt_format
        case _:
            return NamedToolChoice(names=[word]), prompt_format


def fills_definitions_in(text: str) -> bool:
    return FUNCTION_DEFINITIONS in text


def with_function_definitions(text: str, tools: list[ToolDefinition]) -> str:
    """The text with the tools' definitions, one JSON object a line, where it asks for them."""
    lines = "\n".join(
        orjson.dumps({"name": tool.name, "description": tool.description, "parameters": tool.parameters}).decode()
        for tool in tools
    )
    return text.replace(FUNCTION_DEFINITIONS, lines)


# --- what goes out -------------------------------------------------------------------------------------------------


def encode_tool_def(tool: ToolDefinition) -> JsonObject:
    return {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": encode_parameters(tool.parameters),
        "metadata": {},
    }


def encode_tool(tool: ToolDefinition, toolgroup_id: str, provider_id: str) -> JsonObject:
    """A tool as a resource, as the list of tools shows it."""
    return {
        "identifier": tool.name,
        "provider_id": provider_id,
        "provider_resource_id": tool.name,
        "type": "tool",
        "toolgroup_id": toolgroup_id,
        "description": tool.description or "",
        "parameters": encode_parameters(tool.parameters),
        "metadata": {},
    }


def encode_parameters(schema: JsonObject | None) -> list[JsonObject]:
    """A schema's properties as classic parameters; `items` and `enum` go with them, deeper structure does not."""
    properties = (schema or {}).get("properties") or {}
    required = (schema or {}).get("required") or ()
    return [
        {
            "name": name,
            "parameter_type": _type_of(prop),
            "description": prop.get("description") or "",
            "required": name in required,
            "default": prop.get("default"),
            **{key: prop[key] for key in ("items", "enum") if key in prop},
        }
        for name, prop in properties.items()
        if isinstance(prop, dict)
    ]


def _type_of(schema: JsonObject) -> str:
    """The schema's type in one word; of several, the first that is not null."""
    named = schema.get("type")
    if isinstance(named, list):
        named = next((name for name in named if name != "null"), None)
    if isinstance(named, str):
        return named
    for key in ("anyOf", "oneOf"):
        for choice in schema.get(key) or ():
            if isinstance(choice, dict) and (found := _type_of(choice)) not in ("null", "any"):
                return found
    return "any"
