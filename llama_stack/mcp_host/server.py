"""The MCP server over a stack, for one caller: what every face of it serves.

It is made for one connection or one request, which costs little, so that a caller's identity is in no shared place.
"""

import asyncio
import binascii
import logging
from base64 import urlsafe_b64decode, urlsafe_b64encode
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
from llama_stack.mcp_host.calls import CallCancelled, Calls, Session
from llama_stack.mcp_host.offers import Offer, offers
from llama_stack.mcp_host.results import encode_offer, encode_result, error_result

logger = logging.getLogger(__name__)
Context = ServerRequestContext[Any, Any]

PAGE_TOOLS = 500
"""Tools in one page of the list. Many hosts read the first page only, so only a list that few could use is cut."""
PULSE_S = 10.0
"""A call that takes long says so this often: hosts give up a call of which they hear nothing, many after a minute."""
REQUEST_CANCELLED = -32800
"""JSON-RPC's word, as the Language Server Protocol has it, for an answer that the host itself gave up."""


def mcp_server(
    stack: ServedStack, caller: Caller, *, session: Session | None = None, calls: Calls | None = None
) -> Server[Any]:
    """The server. session: the host's, for tools that keep state and for cancelling. calls: shared by a session's
    requests where each has a server of its own.
    """
    running = calls or Calls()
    session_id = None if session is None else f"mcp-{session.name}"

    async def found() -> dict[str, Offer]:
        try:
            return await offers(stack, caller, session_id=session_id)
        except StackError as error:
            raise MCPError(INTERNAL_ERROR, _told(error)) from error

    async def list_tools(context: Context, params: PageParams | None) -> ListToolsResult:
        return _page(await found(), None if params is None else params.cursor)

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        offered = await found()
        offer = offered.get(params.name)
        if offer is None:
            names = ", ".join(list(offered)[:20]) or "none"
            raise MCPError(INVALID_PARAMS, f"there is no tool {params.name!r}; there are: {names}")
        try:
            return await running.run(session, context.request_id, _run(offer, params.arguments or {}, context))
        except CallCancelled:
            raise MCPError(REQUEST_CANCELLED, "the call was cancelled") from None

    return Server("llama-stack", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


def _page(offered: dict[str, Offer], cursor: str | None) -> ListToolsResult:
    """The tools after the one that the cursor names; by its name, so that a list that changes meanwhile loses none."""
    names = list(offered)
    start = 0
    if cursor is not None:
        try:
            start = names.index(urlsafe_b64decode(cursor).decode()) + 1
        except (binascii.Error, ValueError):
            raise MCPError(
                INVALID_PARAMS, "this cursor is not known, or its tool is gone; begin the list anew"
            ) from None
    page = names[start : start + PAGE_TOOLS]
    is_last = start + PAGE_TOOLS >= len(names)
    return ListToolsResult(
        tools=[encode_offer(offered[name]) for name in page],
        next_cursor=None if is_last else urlsafe_b64encode(page[-1].encode()).decode(),
    )


class _Progress:
    """Tells the host what is being done: each step, and every few seconds that it still is."""

    def __init__(self, context: Context, doing: str) -> None:
        self._context = context
        self._doing = doing
        self._told = 0

    async def report(self, doing: str) -> None:
        self._doing = doing
        self._told += 1  # it has to grow with every word
        await self._context.session.report_progress(self._told, message=doing)

    async def pulse(self) -> None:
        while True:
            await asyncio.sleep(PULSE_S)
            await self.report(self._doing)


async def _run(offer: Offer, arguments: dict[str, Any], context: Context) -> CallToolResult:
    """The result; a failure is one too, so that the model on the other side can read it."""
    progress = _Progress(context, f"{offer.name} is at work")
    pulse = asyncio.create_task(progress.pulse())
    try:
        return encode_result(await offer.run(arguments, progress.report))
    except StackError as error:
        return error_result(_told(error))
    except Exception:
        # A bug of ours or of a tool; the caller learns nothing but that there is one.
        logger.exception("the tool %r failed", offer.name)
        return error_result("internal error; the server's log tells more")
    finally:
        pulse.cancel()


def _told(error: StackError) -> str:
    """What another program may know: a wrong setting is the operator's affair."""
    if isinstance(error, ConfigError):
        logger.error("%s", error)
        return "the stack is not set up for this; its log tells more"
    return error.message


async def serve_stdio(stack: ServedStack, caller: Caller) -> None:
    """Serve the program that started this process, until it closes our stdin."""
    server = mcp_server(stack, caller, session=Session(caller.owner, new_id("host")))
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
