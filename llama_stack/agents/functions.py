"""Python functions as tools.

Name, description and parameters are read from the signature, its annotations and the docstring; the JSON Schema and
the check of a call's arguments are Pydantic's, so a function is called with the very types it declares.
"""

import inspect
import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import from_json, to_json

from llama_stack.agents.context import ToolContext, changed_state, current_call, encoded_state
from llama_stack.agents.docstrings import read_docstring
from llama_stack.agents.threads import in_own_thread
from llama_stack.agents.tools import BadArguments, Tool
from llama_stack.api.common import JsonObject
from llama_stack.api.messages import AudioPart, FilePart, ImagePart, TextPart
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack.errors import InvalidRequest

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CONTENT_PARTS = (TextPart, ImagePart, FilePart, AudioPart)
_SUBSCHEMA_MAPS = ("properties", "$defs", "patternProperties")


@dataclass(frozen=True)
class FunctionTool:
    """A function marked with `tool`: still callable as before, and usable as a tool."""

    function: Callable[..., Any]
    tool: Tool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


@overload
def tool(function: Callable[..., Any]) -> FunctionTool: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, needs_approval: bool = False
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: bool = False,
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Mark a function as a tool, with another name or description than its own where that is wanted.

    needs_approval: each call waits until a person has said yes to it.
    Optional: an agent takes plain functions too. Raises InvalidRequest as `tool_from_function` does.
    """

    def mark(marked: Callable[..., Any]) -> FunctionTool:
        made = tool_from_function(marked, name=name, description=description, needs_approval=needs_approval)
        return FunctionTool(marked, made)

    return mark if function is None else mark(function)


def tool_from_function(
    function: Callable[..., Any] | FunctionTool,
    *,
    name: str | None = None,
    description: str | None = None,
    needs_approval: bool = False,
) -> Tool:
    """The function as a tool; a plain function runs in a thread, a coroutine function on the event loop.

    What it returns becomes the result: text as it is, content parts as they are, anything else as JSON. A parameter
    annotated with ToolContext is given the context of the call.
    Raises InvalidRequest for a parameter without annotation, for *args and **kwargs, and for types without a schema.
    """
    if isinstance(function, FunctionTool):
        return function.tool
    inner = function.func if isinstance(function, partial) else function
    tool_name = name or str(getattr(inner, "__name__", type(inner).__name__))
    if not _NAME.fullmatch(tool_name):
        raise InvalidRequest(
            f"{tool_name!r} is no name for a tool (1 to 64 letters, digits, _ or -); give one: tool(name=...)",
            param="tools",
        )
    docstring = read_docstring(inner)
    hints = _hints(function, tool_name)
    contexts = [name for name in inspect.signature(function).parameters if hints.get(name) is ToolContext]
    arguments = _arguments_model(function, tool_name, hints, docstring.parameters)
    definition = ToolDefinition(
        name=tool_name,
        description=description or docstring.description or None,
        parameters=_schema_of(arguments, tool_name),
    )
    run = partial(_call_in_session, function, contexts) if contexts else partial(_call, function)
    return Tool(definition, partial(_checked, arguments), run, needs_approval)


def _arguments_model(
    function: Callable[..., Any], tool_name: str, hints: Mapping[str, Any], descriptions: Mapping[str, str]
) -> type[BaseModel]:
    """A model with one field per parameter. Fields are numbered and the names are aliases: any name is allowed."""
    fields: dict[str, Any] = {}
    for position, parameter in enumerate(inspect.signature(function).parameters.values()):
        if hints.get(parameter.name) is ToolContext:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise InvalidRequest(
                f"tool {tool_name}: {parameter} cannot be filled by name; write each parameter out", param="tools"
            )
        if parameter.name not in hints:
            raise InvalidRequest(
                f"tool {tool_name}: parameter {parameter.name!r} has no type annotation; write for example "
                f"`{parameter.name}: str`",
                param="tools",
            )
        annotation, described = _described(hints[parameter.name])
        default = ... if parameter.default is parameter.empty else parameter.default
        description = described or descriptions.get(parameter.name)
        fields[f"argument_{position}"] = (annotation, Field(default, alias=parameter.name, description=description))
    try:
        return create_model(f"{tool_name}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise _without_schema(tool_name, error) from error


def _hints(function: Callable[..., Any], tool_name: str) -> dict[str, Any]:
    inner = function.func if isinstance(function, partial) else function
    annotated = inner if inspect.isroutine(inner) else type(inner).__call__
    try:
        return get_type_hints(annotated, include_extras=True)
    except (NameError, TypeError) as error:
        raise InvalidRequest(f"tool {tool_name}: its annotations cannot be read: {error}", param="tools") from error


def _described(annotation: Any) -> tuple[Any, str | None]:
    """`Annotated[str, "what it is"]` describes a parameter, too; Pydantic's own Field does so by itself."""
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, str):
                return annotation, extra
            if getattr(extra, "description", None):
                return annotation, str(extra.description)
    return annotation, None


def _schema_of(arguments: type[BaseModel], tool_name: str) -> JsonObject:
    try:
        schema = arguments.model_json_schema(by_alias=True)
    except PydanticUserError as error:
        raise _without_schema(tool_name, error) from error
    schema.pop("title", None)
    schema.setdefault("properties", {})
    # The loop answers for unknown names; a small model's prompt is better without this line.
    schema.pop("additionalProperties", None)
    _drop_titles(schema)
    for described in schema["properties"].values():
        default = described.get("default")
        if isinstance(default, float) and not math.isfinite(default):
            del described["default"]  # JSON has no infinity
    return schema


def _drop_titles(schema: Any) -> None:
    """Pydantic titles every field with its own name again, which costs a small model's prompt tokens."""
    if isinstance(schema, list):
        for item in schema:
            _drop_titles(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        for key, value in schema.items():
            if key in _SUBSCHEMA_MAPS and isinstance(value, dict):
                _drop_titles(list(value.values()))
            elif key not in ("default", "enum", "const", "examples"):
                _drop_titles(value)


def _without_schema(tool_name: str, error: Exception) -> InvalidRequest:
    return InvalidRequest(f"tool {tool_name}: a parameter's type has no JSON Schema: {error}", param="tools")


def _checked(model: type[BaseModel], arguments: JsonObject) -> Mapping[str, Any]:
    try:
        checked = model.model_validate(arguments)
    except ValidationError as error:
        raise BadArguments("; ".join(_fault(fault) for fault in error.errors(include_url=False))) from error
    return {field.alias or name: getattr(checked, name) for name, field in model.model_fields.items()}


def _fault(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"])) or "the arguments"
    if fault["type"] == "missing":
        return f"{place} is required"
    if fault["type"] == "extra_forbidden":
        return f"{place} is not a known argument"
    return f"{place}: {fault['msg'][:1].lower()}{fault['msg'][1:]}, got {str(fault['input'])[:80]!r}"


async def _call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> ToolResult:
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        answer = await _going_on(function(**arguments))
    else:
        answer = await in_own_thread(partial(_called, function, arguments))
        if isinstance(answer, Awaitable):
            answer = await _going_on(answer)
    if isinstance(answer, AsyncIterator):
        answer = await _going_on(_listed(answer))
    return _as_result(answer)


def _called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """In a worker thread, where no key that a person presses interrupts: only the function can have raised these.

    On its way through the event loop either would end that, and all who wait for it would wait for ever.
    """
    try:
        answer = function(**arguments)
        return list(answer) if isinstance(answer, Generator) else answer
    except (SystemExit, KeyboardInterrupt) as error:
        raise _ending(error) from error


async def _listed(answer: AsyncIterator[Any]) -> list[Any]:
    return [part async for part in answer]


async def _going_on(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except SystemExit as error:
        raise _ending(error) from error


def _ending(error: BaseException) -> RuntimeError:
    said = f": {error}" if str(error) else ""
    return RuntimeError(f"it tried to end the program with {type(error).__name__}{said}")


async def _call_in_session(
    function: Callable[..., Any], parameters: list[str], arguments: Mapping[str, Any]
) -> ToolResult:
    """With the context of the call; the result says what the session's state has become."""
    context = current_call()
    before = encoded_state(context.state)
    result = await _call(function, {**arguments, **dict.fromkeys(parameters, context)})
    try:
        changed = changed_state(context.state, before)
    except ValueError:
        # What cannot be kept is taken back, so that it does not fail the calls after this one.
        context.state.clear()
        context.state.update(from_json(before))
        raise
    return result.model_copy(update={"metadata": {**result.metadata, **changed}}) if changed else result


def _as_result(answer: Any) -> ToolResult:
    match answer:
        case ToolResult():
            return answer
        case None:
            return ToolResult(content="done")
        case str():
            return ToolResult(content=answer)
        case bytes() | bytearray() | memoryview():
            return ToolResult(content=f"{len(answer)} bytes of binary data, which cannot be shown as text")
        case [*parts] if parts and all(isinstance(part, _CONTENT_PARTS) for part in parts):
            return ToolResult(content=parts)
        case _:
            said = to_json(answer, fallback=str, bytes_mode="base64")
            # A date, a table: what is one text in JSON is a text as it is.
            return ToolResult(content=from_json(said) if said.startswith(b'"') else said.decode())
