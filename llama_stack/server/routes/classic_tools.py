"""Tool groups and their tools in the classic shapes: /v1/toolgroups, /v1/tools and /v1/tool-runtime/..."""

import logging

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.agents import ToolGroupUse
from llama_stack.api.common import Caller
from llama_stack.api.stack import ServedStack
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import InvalidRequest, NotFound, StackError
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute, OnceRoute
from llama_stack.server.classic_schema import (
    ClassicInvocation,
    ClassicTool,
    ClassicToolDefList,
    ClassicToolGroup,
    ClassicToolGroupList,
    ClassicToolList,
    Removed,
)
from llama_stack.server.edge import request_id_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.side_by_side import gather_results
from llama_stack.wire.classic.resources import (
    InvokeToolBody,
    RegisterToolGroupBody,
    asked_tool_group,
    decode_invocation,
    decode_tool_group,
    encode_tool_group,
    encode_tool_result,
    with_whole_numbers,
)
from llama_stack.wire.classic.tools import encode_tool, encode_tool_def
from llama_stack.wire.validation import naming

logger = logging.getLogger(__name__)

_OLDER_MCP_PROVIDER = "model-context-protocol"
"""What every distribution of the servers before this one called its provider of MCP servers; programs name it."""

Listed = list[tuple[ToolGroup, ToolDefinition]]


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("classic tools", ClassicRoute)
    _add_groups(router, stack, options)
    _add_tools(router, stack)
    return router


def _add_groups(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.get("/v1/toolgroups", summary="List the tool groups", **describe(answer=ClassicToolGroupList))
    async def list_groups(request: Request) -> Response:
        groups = await stack.registry.resources(ToolGroup, caller_of(request))
        return json_response({"data": [encode_tool_group(group) for group in groups]})

    @router.post(
        "/v1/toolgroups",
        summary="Register a tool group",
        **describe(body=RegisterToolGroupBody, answer=ClassicToolGroup),
    )
    async def register_group(request: Request) -> Response:
        group = decode_tool_group(await read_json(request, options))
        with naming(mcp_endpoint="mcp_endpoint.uri", identifier="toolgroup_id"):
            registered = await _registered(stack, group, caller_of(request))
        return json_response(encode_tool_group(registered))

    # Identifiers hold slashes, and clients send them unescaped: the rest of the path is the identifier.
    @router.get("/v1/toolgroups/{identifier:path}", summary="One tool group", **describe(answer=ClassicToolGroup))
    async def get_group(request: Request, identifier: str) -> Response:
        return json_response(
            encode_tool_group(await stack.registry.resource(ToolGroup, identifier, caller_of(request)))
        )

    @router.delete("/v1/toolgroups/{identifier:path}", summary="Remove a tool group", **describe(answer=Removed))
    async def unregister_group(request: Request, identifier: str) -> Response:
        await stack.registry.unregister(ToolGroup, identifier, caller_of(request))
        return json_response({"identifier": identifier, "deleted": True})


def _add_tools(router: PlainRouter, stack: ServedStack) -> None:
    @router.get("/v1/tools", summary="List the tools", **describe(answer=ClassicToolList))
    async def list_tools(request: Request) -> Response:
        listed = await _listed(stack, asked_tool_group(request.query_params), caller_of(request))
        return json_response(
            {"data": [encode_tool(tool, group.identifier, group.provider_id) for group, tool in listed]}
        )

    @router.get("/v1/tools/{identifier:path}", summary="One tool", **describe(answer=ClassicTool))
    async def get_tool(request: Request, identifier: str) -> Response:
        group, tool = await _found(stack, identifier, caller_of(request))
        return json_response(encode_tool(tool, group.identifier, group.provider_id))

    @router.get(
        "/v1/tool-runtime/list-tools",
        summary="List the tools of a group or of an MCP server",
        **describe(answer=ClassicToolDefList),
    )
    async def runtime_list_tools(request: Request) -> Response:
        caller = caller_of(request)
        named = request.query_params.get("tool_group_id") or None
        endpoint = request.query_params.get("mcp_endpoint[uri]")
        if endpoint:
            use = ToolGroupUse(identifier=named or endpoint, mcp_endpoint=endpoint)
            tools = await stack.tools.list_tools(await stack.tools.group(use, caller), caller)
        else:
            tools = [tool for _, tool in await _listed(stack, named, caller)]
        return json_response({"data": [encode_tool_def(tool) for tool in tools]})


def run_routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    """What runs a tool; a client that repeats such a request would run it twice."""
    router = PlainRouter("classic tools", OnceRoute)

    @router.post(
        "/v1/tool-runtime/invoke",
        summary="Run a tool",
        **describe(body=InvokeToolBody, answer=ClassicInvocation),
    )
    async def invoke_tool(request: Request) -> Response:
        name, arguments = decode_invocation(await read_json(request, options))
        caller = caller_of(request)
        async with stops_with_its_client(request):
            group, tool = await _found(stack, name, caller)
            given = {**with_whole_numbers(arguments, tool.parameters), **group.args}
            try:
                with naming(arguments="kwargs"):
                    result = await stack.tools.invoke_tool(group, tool.name, given, caller)
            except StackError:
                raise
            # A stranger's code runs here, and its failure is the tool's, not the server's.
            except (Exception, SystemExit) as error:
                result = _failed(tool.name, error, request_id_of(request.scope))
        return json_response(encode_tool_result(result))

    return router


async def _registered(stack: ServedStack, group: ToolGroup, caller: Caller) -> ToolGroup:
    try:
        return await stack.registry.register(group, caller)
    except InvalidRequest as error:
        if error.param != "provider_id" or group.provider_id != _OLDER_MCP_PROVIDER or group.mcp_endpoint is None:
            raise
    use = ToolGroupUse(identifier=group.identifier, mcp_endpoint=group.mcp_endpoint)
    owner = (await stack.tools.group(use, caller)).provider_id
    return await stack.registry.register(group.model_copy(update={"provider_id": owner}), caller)


def _failed(name: str, error: BaseException, request_id: str) -> ToolResult:
    """What the error says itself nobody has read before: it may hold a credential, and so stays in the log."""
    logger.error("request %s: the tool %r raised", request_id, name, exc_info=error)
    told = f"{name} failed with {type(error).__name__}; the server's log tells more under request id {request_id}"
    return ToolResult(content=told, is_error=True)


async def _listed(stack: ServedStack, group_id: str | None, caller: Caller) -> Listed:
    """Tools of one group; of all groups that can be listed where none is named."""
    if group_id is not None:
        group = await stack.tools.group(ToolGroupUse(identifier=group_id), caller)
        return [(group, tool) for tool in await stack.tools.list_tools(group, caller)]
    groups = await stack.registry.resources(ToolGroup, caller)
    listed = await gather_results([_listed_if_there(stack, group, caller) for group in groups])
    return [entry for entries in listed for entry in entries]


async def _listed_if_there(stack: ServedStack, group: ToolGroup, caller: Caller) -> Listed:
    """A group that is away, or was registered with what cannot work, does not hide the tools of all others."""
    try:
        return [(group, tool) for tool in await stack.tools.list_tools(group, caller)]
    except StackError as error:
        logger.warning("tools of %r are left out of the list: %s", group.identifier, error.message)
        return []


async def _found(stack: ServedStack, name: str, caller: Caller) -> tuple[ToolGroup, ToolDefinition]:
    """The tool by its name, or by `group/tool` where several groups have one of that name."""
    listed = await _listed(stack, None, caller)
    found = [(group, tool) for group, tool in listed if name in (tool.name, f"{group.identifier}/{tool.name}")]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{group.identifier}/{tool.name}" for group, tool in found)
        raise InvalidRequest(f"there are several tools {name!r}; name one of: {names}", param="tool_name")
    names = ", ".join(sorted(tool.name for _, tool in listed)[:20]) or "none"
    raise NotFound(f"there is no tool {name!r}; there are: {names}", param="tool_name", code="tool_not_found")
