"""Resources of a server, offered to models as two tools: one lists them, one reads them.

By the protocol it is the host that decides which resources a model sees (MCP specification 2025-11-25, "Resources");
a model that may choose among them by itself is what the setting `offer_resources` allows. Names begin with the group's,
so that several servers can be used by one agent. What is read comes from the server alone: this process opens no URI.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mcp import Client, MCPError
from mcp_types import EmbeddedResource, ReadResourceResult, Resource, ResourceTemplate, TextResourceContents

from llama_stack.api.messages import ContentPart, TextPart
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack_providers.remote._mcp.content import joined, part_of

MAX_LISTED = 200
"""Resources and templates in one list; what is beyond is counted as far as the server has told of it."""
MAX_PAGES = 20
MAX_ABOUT_CHARS = 300
MAX_URI_CHARS = 4096
_MAX_GROUP_CHARS = 40

Asking = Callable[[Client], Awaitable[ToolResult]]


class ResourceTools:
    """The tools of one group. They exist where the server declares that it has resources."""

    def __init__(self, group: str) -> None:
        """group: the identifier of the tool group."""
        name = re.sub(r"[^a-zA-Z0-9]+", "_", group.rpartition("::")[2]).strip("_")[:_MAX_GROUP_CHARS] or "server"
        self._listing = ToolDefinition(
            name=f"{name}_list_resources",
            description="List what can be read here: URIs, and templates of URIs, with what stands behind them.",
            parameters={"type": "object", "properties": {}, "additionalProperties": False},
        )
        uri = {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_URI_CHARS,
            "description": "A URI from the list or from a link, or one made of a template.",
        }
        self._reading = ToolDefinition(
            name=f"{name}_read_resource",
            description=f"Read what stands behind a URI, such as those that {self._listing.name} gives.",
            parameters={"type": "object", "properties": {"uri": uri}, "required": ["uri"]},
        )

    @property
    def definitions(self) -> list[ToolDefinition]:
        return [self._listing, self._reading]

    def asking(self, name: str, arguments: dict[str, object]) -> Asking | None:
        """What the tool asks of the server; None for a tool that is not one of these. arguments: as its schema says."""
        if name == self._listing.name:
            return list_resources
        if name == self._reading.name:
            uri = str(arguments["uri"])

            async def read(client: Client) -> ToolResult:
                return read_result(await client.read_resource(uri))

            return read
        return None


async def has_resources(client: Client) -> bool:
    return client.server_capabilities.resources is not None


async def list_resources(client: Client) -> ToolResult:
    """Resources first, then templates, in the server's order and each in a line."""
    lines: list[str] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_resources(cursor=cursor)
        lines.extend(_line(one.uri, one) for one in page.resources)
        if not page.next_cursor or page.next_cursor == cursor or len(lines) > MAX_LISTED:
            break
        cursor = page.next_cursor
    # Many servers have none, and some then do not know the question.
    with suppress(MCPError):
        templates = await client.list_resource_templates()
        lines.extend(_line(one.uri_template, one) for one in templates.resource_templates)
    if not lines:
        return ToolResult(content="There is nothing to read here.")
    more = [f"... and more: {len(lines) - MAX_LISTED} at least"] if len(lines) > MAX_LISTED else []
    return ToolResult(content="\n".join([*lines[:MAX_LISTED], *more]))


def read_result(result: ReadResourceResult) -> ToolResult:
    """Text as it is; a picture as a picture; anything else as a line that says what it is."""
    contents = result.contents
    if len(contents) == 1 and isinstance(contents[0], TextResourceContents):
        return ToolResult(content=contents[0].text)
    parts: list[ContentPart] = [part_of(EmbeddedResource(resource=content)) for content in contents]
    return ToolResult(content=joined(parts or [TextPart(text="(empty)")]))


def _line(uri: str, one: Resource | ResourceTemplate) -> str:
    about = ", ".join(text for text in (one.title or one.name, one.mime_type) if text)
    told = f"{about}: {' '.join(one.description.split())[:MAX_ABOUT_CHARS]}" if one.description else about
    return f"{uri} ({told})"
