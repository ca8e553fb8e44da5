"""A server built with the SDK's own server class: a tool of every kind. Run as a program, it speaks over stdio.

Arguments: `wordy-end` to fail at the start with a word on stderr, `http PORT newer|older` to serve streamable HTTP.
"""

import asyncio
import os
import sys
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SECRET_HEADER = "x-workshop-key"


class Address(BaseModel):
    street: str
    city: Annotated[str, Field(min_length=1)]


class Order(BaseModel):
    customer: str
    deliver_to: list[Address]


class Workshop(MCPServer[Any]):
    """Counts the lists it gives, and lets calls meet."""

    def __init__(self) -> None:
        super().__init__("workshop", log_level="CRITICAL")
        self.lists = 0
        self.waiting = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.seen_keys: list[str | None] = []

    async def list_tools(self) -> list[Tool]:
        self.lists += 1
        return await super().list_tools()


def workshop() -> Workshop:
    server = Workshop()

    @server.tool()
    def add(left: int, right: int) -> int:
        """Add two numbers."""
        return left + right

    @server.tool(structured_output=False)
    def deliver(order: Order) -> str:
        """Deliver an order."""
        return f"{order.customer}: " + ", ".join(place.city for place in order.deliver_to)

    @server.tool()
    def everything() -> CallToolResult:
        """One block of each kind."""
        return CallToolResult(
            content=[
                TextContent(text="hello"),
                ImageContent(data=PIXEL, mime_type="image/png"),
                AudioContent(data="AAAA", mime_type="audio/wav"),
                EmbeddedResource(
                    resource=TextResourceContents(uri="file:///a.txt", text="inside", mime_type="text/plain")
                ),
                EmbeddedResource(resource=BlobResourceContents(uri="file:///b.png", blob=PIXEL, mime_type="image/png")),
                EmbeddedResource(resource=BlobResourceContents(uri="file:///c.bin", blob="AAAA")),
                ResourceLink(name="manual", uri="https://example.com/manual", description="how it works"),
            ]
        )

    @server.tool()
    def only_structure() -> CallToolResult:
        """No content beside the structure."""
        return CallToolResult(content=[], structured_content={"rows": [1, 2], "unit": "°C"})

    @server.tool()
    def break_a_rule() -> str:
        """Fails."""
        raise ToolError("the kiln is cold")

    @server.tool()
    async def meet(parties: int) -> str:
        """Wait until so many calls are under way."""
        server.waiting += 1
        if server.waiting >= parties:
            server.may_end.set()
        await server.may_end.wait()
        return f"{parties} met"

    @server.tool(structured_output=False)
    def parties() -> str:
        """How many calls wait to meet."""
        return str(server.waiting)

    @server.tool(structured_output=False)
    def talk(length: int) -> str:
        """Say much."""
        return "x" * length

    @server.tool()
    async def wait() -> str:
        """Wait until the test lets go."""
        server.begun.set()
        try:
            await server.may_end.wait()
        except asyncio.CancelledError:
            server.cancelled.set()
            raise
        return "waited"

    @server.tool()
    def die() -> str:
        """End the whole process at once."""
        os.write(2, b"out of clay\n")
        os._exit(3)

    @server.tool()
    def process() -> int:
        """The process that runs this."""
        return os.getpid()

    @server.tool()
    def environment(name: str) -> str:
        """One environment variable."""
        return os.environ.get(name, "unset")

    @server.tool()
    async def key(context: Context) -> str:
        """The key that came with the request."""
        found = (context.headers or {}).get(SECRET_HEADER)
        server.seen_keys.append(found)
        return found or "none"

    @server.tool()
    async def leak(context: Context) -> str:
        """Repeats the caller's key in an error."""
        raise ToolError(f"I do not like {(context.headers or {}).get(SECRET_HEADER)}")

    @server.tool()
    async def learn(context: Context) -> str:
        """Learn a new tool, and say so."""

        def fold() -> str:
            """Fold paper."""
            return "folded"

        server.add_tool(fold)
        await context.notify_tools_changed()
        await context.request_context.session.send_tool_list_changed()
        return "learned"

    return server


def before_2026(app: ASGIApp) -> ASGIApp:
    """The same server for clients of the protocol's handshake era only."""

    async def older(scope: Scope, receive: Receive, send: Send) -> None:
        versions = [value for name, value in scope.get("headers", []) if name == b"mcp-protocol-version"]
        if versions and versions[0] >= b"2026":
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"unknown version"})
            return
        await app(scope, receive, send)

    return older


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["wordy-end"]:
            sys.exit("the workshop is closed: token hunter2-hunter2 is stale")
        case ["http", port, era]:
            import uvicorn

            app = workshop().streamable_http_app()
            uvicorn.run(before_2026(app) if era == "older" else app, port=int(port), log_level="critical")
        case _:
            workshop().run()
