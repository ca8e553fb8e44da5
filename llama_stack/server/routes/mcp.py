"""The stack as an MCP server over streamable HTTP, at /mcp (MCP specification 2025-11-25, "Transports").

Each request is served by a server of its own, for the caller that the request itself names. So nothing is kept
between requests that one caller could use of another's, and any number of servers share the load. A host of the
protocol's handshake era gets a session, which is a name for calls that belong together: tools that keep state keep it
by that name, and a call is cancelled by it. Later hosts cancel by hanging up, and have no sessions.
"""

import asyncio
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any
from uuid import uuid4

import orjson
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from llama_stack.api.common import Caller
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, NotPermitted, StackError
from llama_stack.mcp_host.calls import Calls, Session
from llama_stack.server.callers import caller_of
from llama_stack.server.errors import error_response
from llama_stack.server.options import ServerOptions

PATH = "/mcp"
SESSION_HEADER = "Mcp-Session-Id"
MAX_HANDSHAKE_BYTES = 64 * 1024
"""What opens a session or cancels a call is a short message; longer ones are not looked into."""
_SESSION_NAME = re.compile(r"[\x21-\x7e]{1,128}")


def routes(stack: ServedStack, options: ServerOptions) -> list[Route]:
    # Not in the document: it describes REST, and this speaks a protocol of its own.
    return [Route(PATH, endpoint=McpFace(stack, options), methods=["GET", "POST", "DELETE"])]


class McpFace:
    def __init__(self, stack: ServedStack, options: ServerOptions) -> None:
        self._stack = stack
        self._options = options
        self._calls = Calls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        _check_origin(request, self._options.cors_origins)
        caller = caller_of(request)
        session = _session_of(request, caller)
        try:
            # The SDK takes a second to import; a server that is never asked does not pay for it.
            await asyncio.to_thread(import_module, "llama_stack.mcp_host.server")
        except ImportError:
            missing = StackError(
                "this server speaks MCP once the package is there: pip install 'llama-stack[mcp]'", code="not_installed"
            )
            await error_response(missing, status=501)(scope, receive, send)
            return
        match request.method:
            case "POST":
                await self._post(caller, session, scope, receive, send)
            case "DELETE" if session is not None:
                self._calls.end(session)
                await Response(status_code=200)(scope, receive, send)
            case _:
                # Nothing is ever said but in answer to a request, so there is no stream to wait on.
                await Response(status_code=405, headers={"Allow": "POST, DELETE"})(scope, receive, send)

    async def _post(self, caller: Caller, session: Session | None, scope: Scope, receive: Receive, send: Send) -> None:
        messages, said = await _peeked(receive)
        if session is None and said.get("method") == "initialize":
            session = Session(caller.owner, uuid4().hex)
            send = _naming(session, send)
        elif session is not None and said.get("method") == "notifications/cancelled":
            params = said.get("params")
            self._calls.cancel(session, params.get("requestId") if isinstance(params, dict) else None)
            await Response(status_code=202)(scope, receive, send)
            return
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from llama_stack.mcp_host.server import mcp_server

        server = mcp_server(self._stack, caller, session=session, calls=self._calls)
        manager = StreamableHTTPSessionManager(
            server, stateless=True, max_request_body_size=self._options.max_body_bytes
        )
        async with manager.run():
            await manager.handle_request(scope, _replayed(messages, receive), send)


def _session_of(request: Request, caller: Caller) -> Session | None:
    name = request.headers.get(SESSION_HEADER)
    if name is None:
        return None
    if not _SESSION_NAME.fullmatch(name):
        raise InvalidRequest(
            f"{SESSION_HEADER} must be what `initialize` was answered with: at most 128 visible ASCII characters",
            param=SESSION_HEADER,
            code="invalid_header",
        )
    return Session(caller.owner, name)


async def _peeked(receive: Receive) -> tuple[list[Message], dict[str, Any]]:
    """What has come of the request, and the message in it if that is all of it and short; else an empty one."""
    messages: list[Message] = []
    body = b""
    while len(body) <= MAX_HANDSHAKE_BYTES:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    else:
        return messages, {}
    if b"initialize" not in body and b"notifications/cancelled" not in body:
        return messages, {}
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:  # the SDK says so in the protocol's words
        return messages, {}
    return messages, said if isinstance(said, dict) else {}


def _replayed(messages: list[Message], receive: Receive) -> Receive:
    waiting = iter(messages)

    async def next_message() -> Message:
        return next(waiting, None) or await receive()

    return next_message


def _naming(session: Session, send: Send) -> Send:
    """Tells the host the session's name with the answer."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)[SESSION_HEADER] = session.name
        await send(message)

    return named


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
