"""The toolbox of a turn: tools of the stack's groups, and those that the caller runs."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from llama_stack.agents.context import STATE
from llama_stack.agents.handoff import HANDED_TO
from llama_stack.agents.tools import Tool, Toolbox, tool_from_schema
from llama_stack.api.agents import AgentConfig, ToolGroupUse
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.stack import ToolRunner
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import InvalidRequest
from llama_stack.gathering import gathered

_RESERVED = {STATE, HANDED_TO}
"""What only the agent's own functions may say of a session; a tool server that says it is not believed."""

MAX_NAME_CHARS = 64
_MARK_CHARS = 8
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")


async def toolbox_for(
    config: AgentConfig, tools: ToolRunner, caller: Caller, *, session_id: str, own: Sequence[Tool] = ()
) -> Toolbox:
    """Every tool the agent offers its model: its groups', the caller's, and `own` (functions of this process).

    Raises NotFound for a group that there is not, InvalidRequest for a tool that a group has not or for two tools of
    one name, and what listing raises for a group that cannot be reached.
    """
    offered = await gathered(_tools_of(use, tools, caller, session_id) for use in config.tool_groups)
    groups = [tool for group in offered for tool in group]
    return Toolbox([*groups, *(tool_from_schema(definition) for definition in config.client_tools), *own])


async def _tools_of(use: ToolGroupUse, tools: ToolRunner, caller: Caller, session_id: str) -> list[Tool]:
    group = await tools.group(use, caller)
    listed = {definition.name: definition for definition in await tools.list_tools(group, caller)}
    wanted = list(listed) if use.tools is None else use.tools
    if unknown := [name for name in wanted if name not in listed]:
        raise InvalidRequest(
            f"tool group {use.identifier!r} has no tool {unknown[0]!r}; it has: {', '.join(listed) or 'none'}",
            param="tool_groups",
        )
    given = {**group.args, **use.args}
    return [
        tool_from_schema(
            without_parameters(listed[name], given).model_copy(update={"name": offered_name(name)}),
            partial(_invoke, tools, group, name, given, caller, session_id),
            needs_approval=needs_approval(use, name),
        )
        for name in wanted
    ]


def offered_name(name: str) -> str:
    """The tool's name as a model may be offered it. MCP allows more characters, and longer names, than the chat
    formats do (OpenAI API reference, "function.name": 64 of letters, digits, _ and -). Where much of it is lost, a mark
    of the whole name keeps it apart from others that begin alike.
    """
    plain = _NOT_IN_A_NAME.sub("_", name)
    if name.isascii() and len(name) <= MAX_NAME_CHARS:
        return plain
    mark = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:_MARK_CHARS]
    return f"{plain[: MAX_NAME_CHARS - _MARK_CHARS - 1]}_{mark}"


def needs_approval(use: ToolGroupUse, tool: str) -> bool:
    return use.approval == "always" or (use.approval != "never" and tool in use.approval)


def without_parameters(definition: ToolDefinition, given: Mapping[str, Any]) -> ToolDefinition:
    """The definition without the parameters that are given anyway, so that the model does not fill them in."""
    schema: JsonObject = definition.parameters or {}
    properties: JsonObject = schema.get("properties", {})
    if not given or not properties.keys() & given.keys():
        return definition
    kept = {name: parameter for name, parameter in properties.items() if name not in given}
    required = [name for name in schema.get("required", []) if name not in given]
    return definition.model_copy(update={"parameters": {**schema, "properties": kept, "required": required}})


async def _invoke(
    tools: ToolRunner,
    group: ToolGroup,
    name: str,
    given: JsonObject,
    caller: Caller,
    session_id: str,
    arguments: Mapping[str, Any],
) -> ToolResult:
    # The group may be used in another session; the model cannot say so.
    session_id = given.get("session_id") or session_id
    result = await tools.invoke_tool(group, name, {**arguments, **given}, caller, session_id=session_id)
    if not result.metadata.keys() & _RESERVED:
        return result
    return result.model_copy(
        update={"metadata": {key: value for key, value in result.metadata.items() if key not in _RESERVED}}
    )
