"""The tools of a turn: what the model may call, who runs it, and one call from its JSON text to its result.

Whatever goes wrong with a call - an unknown name, arguments off the schema, a tool that raises or answers too much -
becomes a result that tells the model what to do next. Nothing a model or a tool does ends a turn.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic_core import from_json

from llama_stack.agents.json_schema import schema_faults
from llama_stack.api.common import JsonObject
from llama_stack.api.messages import Content, TextPart, ToolCall
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack.errors import InvalidRequest

MAX_RESULT_CHARS = 16_000
"""Characters of one result that reach the model, about 4,000 tokens."""


class BadArguments(Exception):
    """The arguments do not fit the tool; the message tells the model what to change."""


@dataclass(frozen=True)
class Tool:
    """A tool as the loop needs it.

    check: turns the parsed arguments into those `run` takes, or raises BadArguments.
    run: does the work; what it raises is told to the model; cancelling it stops it. None: the caller runs it, and a
        call of it pauses the turn.
    needs_approval: a call waits until a person has said yes to it.
    """

    definition: ToolDefinition
    check: Callable[[JsonObject], Mapping[str, Any]]
    run: Callable[[Mapping[str, Any]], Awaitable[ToolResult]] | None = None
    needs_approval: bool = False


def tool_from_schema(
    definition: ToolDefinition,
    run: Callable[[Mapping[str, Any]], Awaitable[ToolResult]] | None = None,
    *,
    needs_approval: bool = False,
) -> Tool:
    """A tool whose arguments are described by a JSON Schema, such as one of an MCP server or of the caller."""

    def check(arguments: JsonObject) -> Mapping[str, Any]:
        faults = schema_faults(arguments, definition.parameters or {"type": "object"})
        if faults:
            raise BadArguments("; ".join(faults))
        return arguments

    return Tool(definition, check, run, needs_approval)


class Toolbox:
    """The tools of one turn, by name, in the order they are offered."""

    def __init__(self, tools: Iterable[Tool] = (), *, max_result_chars: int = MAX_RESULT_CHARS) -> None:
        """Raises InvalidRequest when two tools have one name."""
        self.max_result_chars = max_result_chars
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.definition.name in self._tools:
                raise InvalidRequest(f"two tools are named {tool.definition.name!r}; rename one", param="tools")
            self._tools[tool.definition.name] = tool

    def __bool__(self) -> bool:
        return bool(self._tools)

    @property
    def definitions(self) -> list[ToolDefinition]:
        return [tool.definition for tool in self._tools.values()]

    def awaits_caller(self, call: ToolCall) -> bool:
        """Whether only the caller can answer this call: it names a tool of theirs, with arguments that fit it."""
        prepared = self._prepare(call)
        return not isinstance(prepared, ToolResult) and prepared[0].run is None

    def needs_approval(self, call: ToolCall) -> bool:
        """Whether a person must agree to this call first. One that cannot be run anyway is not worth the question."""
        prepared = self._prepare(call)
        return not isinstance(prepared, ToolResult) and prepared[0].run is not None and prepared[0].needs_approval

    async def run(self, call: ToolCall) -> ToolResult:
        """The call's result, bounded in size. Raises nothing but cancellation."""
        prepared = self._prepare(call)
        if isinstance(prepared, ToolResult):
            # It may tell a schema of any size.
            return bounded(prepared, self.max_result_chars)
        tool, arguments = prepared
        if tool.run is None:
            return error_result(f"{call.name} is run by the caller and was not answered.")
        return bounded(await _run_safely(tool.run, arguments), self.max_result_chars)

    def _prepare(self, call: ToolCall) -> tuple[Tool, Mapping[str, Any]] | ToolResult:
        """The tool and its checked arguments, or the error result that the call has earned."""
        tool = self._tools.get(call.name)
        if tool is None:
            return error_result(f"There is no tool named {call.name!r}. {self._hint(call.name)}")
        try:
            arguments = from_json(call.arguments or "{}")
        except ValueError as error:
            return error_result(f"The arguments of {call.name} are not valid JSON: {error}. {_usage(tool)}")
        if not isinstance(arguments, dict):
            return error_result(f"The arguments of {call.name} must be a JSON object. {_usage(tool)}")
        try:
            return tool, tool.check(arguments)
        except BadArguments as error:
            return error_result(f"Wrong arguments for {call.name}: {error}. {_usage(tool)}")

    def _hint(self, name: str) -> str:
        if not self._tools:
            return "There are no tools; answer without one."
        near = get_close_matches(name, self._tools, n=1)
        return (f"Did you mean {near[0]!r}? " if near else "") + f"Available tools: {', '.join(self._tools)}."


async def _run_safely(
    run: Callable[[Mapping[str, Any]], Awaitable[ToolResult]], arguments: Mapping[str, Any]
) -> ToolResult:
    try:
        return await run(arguments)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return error_result("The tool cancelled itself.")
    # A stranger's code runs here; even its sys.exit() must not end the process that serves other turns.
    except (Exception, SystemExit) as error:
        return error_result(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def error_result(text: str) -> ToolResult:
    """A failure in words the model can use."""
    return ToolResult(content=f"Error: {text}", is_error=True)


def denial(reason: str | None) -> str:
    """What the model is told of a call that a person said no to."""
    return "Error: the call was denied by a person and was not made." + (f" Reason: {reason}" if reason else "")


def meaning_of(call: ToolCall) -> tuple[str, str]:
    """The same for two calls of one tool with the same arguments, however they are spelled."""
    try:
        return call.name, json.dumps(from_json(call.arguments or "{}"), sort_keys=True)
    except ValueError:
        return call.name, call.arguments


def _usage(tool: Tool) -> str:
    return f"Its schema: {json.dumps(tool.definition.parameters or {'type': 'object'}, ensure_ascii=False)}"


def bounded(result: ToolResult, limit: int) -> ToolResult:
    """The result with at most `limit` characters of text; what is left out is counted in the text itself."""
    return result.model_copy(update={"content": _cut(result.content, limit)})


def _cut(content: Content, limit: int) -> Content:
    if isinstance(content, str):
        return _cut_text(content, limit)
    parts = []
    for part in content:
        if isinstance(part, TextPart):
            part = TextPart(text=_cut_text(part.text, limit))
            limit = max(0, limit - len(part.text))
        parts.append(part)
    return parts


def _cut_text(text: str, limit: int) -> str:
    """Beginning and end are kept: one says what it is, the other how it ended."""
    if len(text) <= limit:
        return text
    head, tail = limit * 3 // 4, limit // 4
    left_out = len(text) - head - tail
    return f"{text[:head]}\n[... {left_out} of {len(text)} characters left out ...]\n{text[len(text) - tail :]}"
