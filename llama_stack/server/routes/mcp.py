"""The stack as an MCP server over streamable HTTP, at /mcp (MCP specification 2025-11-25, "Transports").

Without sessions: each request is served by a server of its own, for the caller that the request itself names. So
nothing is kept between requests that one caller could use of another's, and any number of servers share the load.
"""

import asyncio
from collections.abc import Sequence
from importlib import import_module

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from llama_stack.api.stack import ServedStack
from llama_stack.errors import NotPermitted, StackError
from llama_stack.server.callers import caller_of
from llama_stack.server.errors import error_response
from llama_stack.server.options import ServerOptions

PATH = "/mcp"


def routes(stack: ServedStack, options: ServerOptions) -> list[Route]:
    # Not one of FastAPI's routes: the document describes REST, and this speaks a protocol of its own.
    return [Route(PATH, endpoint=McpFace(stack, options), methods=["GET", "POST", "DELETE"])]


class McpFace:
    def __init__(self, stack: ServedStack, options: ServerOptions) -> None:
        self._stack = stack
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        _check_origin(request, self._options.cors_origins)
        caller = caller_of(request)
        try:
            # The SDK takes a second to import; a server that is never asked does not pay for it.
            await asyncio.to_thread(import_module, "llama_stack.mcp_host.server")
        except ImportError:
            missing = StackError(
                "this server speaks MCP once the package is there: pip install 'llama-stack[mcp]'", code="not_installed"
            )
            await error_response(missing, status=501)(scope, receive, send)
            return
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from llama_stack.mcp_host.server import mcp_server

        manager = StreamableHTTPSessionManager(
            mcp_server(self._stack, caller), stateless=True, max_request_body_size=self._options.max_body_bytes
        )
        async with manager.run():
            await manager.handle_request(scope, receive, send)


def _check_origin(request: Request, allowed: Sequence[str]) -> None:
    """A web page may call only when its origin is allowed; programs send none.

    Otherwise a page could reach a server on its visitor's machine under a name that it resolves to 127.0.0.1.
    """
    origin = request.headers.get("origin")
    if origin is not None and origin not in allowed and "*" not in allowed:
        raise NotPermitted(
            f"pages of {origin[:200]!r} may not call this server; add the origin to server.cors_origins",
            code="origin_not_allowed",
        )
