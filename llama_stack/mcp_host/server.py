"""The MCP server over a stack, for one caller: what every face of it serves.

It is made for one connection or one request, which costs little, so that a caller's identity is in no shared place.
"""

import logging
from typing import Any

from mcp import MCPError, stdio_server
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolRequestParams, CallToolResult, ListToolsResult
from mcp_types import PaginatedRequestParams as PageParams

from llama_stack import __version__
from llama_stack.agents.setup import new_id
from llama_stack.api.common import Caller
from llama_stack.api.stack import ServedStack
from llama_stack.errors import ConfigError, StackError
from llama_stack.mcp_host.offers import Offer, offers
from llama_stack.mcp_host.results import encode_offer, encode_result, error_result

logger = logging.getLogger(__name__)
Context = ServerRequestContext[Any, Any]


def mcp_server(stack: ServedStack, caller: Caller, *, session_id: str | None = None) -> Server[Any]:
    """The server. session_id: for tools that keep state, where all calls belong to one conversation."""

    async def found() -> dict[str, Offer]:
        try:
            return await offers(stack, caller, session_id=session_id)
        except StackError as error:
            raise MCPError(INTERNAL_ERROR, _told(error)) from error

    async def list_tools(context: Context, params: PageParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[encode_offer(offer) for offer in (await found()).values()])

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        offered = await found()
        offer = offered.get(params.name)
        if offer is None:
            names = ", ".join(list(offered)[:20]) or "none"
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}; there are: {names}")
        return await _run(offer, params.arguments or {}, context)

    return Server("llama-stack", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def _run(offer: Offer, arguments: dict[str, Any], context: Context) -> CallToolResult:
    """The result; a failure is one too, so that the model on the other side can read it."""
    steps = 0

    async def report(doing: str) -> None:
        nonlocal steps
        steps += 1
        await context.session.report_progress(steps, message=doing)

    try:
        return encode_result(await offer.run(arguments, report))
    except StackError as error:
        return error_result(_told(error))
    except Exception:
        # A bug of ours or of a tool; the caller learns nothing but that there is one.
        logger.exception("the tool %r failed", offer.name)
        return error_result("internal error; the server's log tells more")


def _told(error: StackError) -> str:
    """What another program may know: a wrong setting is the operator's affair."""
    if isinstance(error, ConfigError):
        logger.error("%s", error)
        return "the stack is not set up for this; its log tells more"
    return error.message


async def serve_stdio(stack: ServedStack, caller: Caller) -> None:
    """Serve the program that started this process, until it closes our stdin."""
    server = mcp_server(stack, caller, session_id=new_id("mcp"))
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
