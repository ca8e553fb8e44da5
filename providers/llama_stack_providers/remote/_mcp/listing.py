"""A server's list of tools, page by page, within bounds: it is kept for as long as the session, and models read it."""

from mcp import Client
from mcp_types import Tool

from llama_stack_providers.remote._mcp.settings import Config

MAX_PAGES = 200


async def list_tools(client: Client, config: Config) -> list[Tool]:
    """The tools in the server's order, each name once. Raises ListRefused for a list that is too long or has no end."""
    tools: dict[str, Tool] = {}
    size = 0
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            size += _size(tool)
            tools.setdefault(tool.name, tool)
        if len(tools) > config.max_tools:
            raise ListRefused(f"it has more than {config.max_tools} tools; raise max_tools or have it offer fewer")
        if size > config.max_tool_list_bytes:
            longest = max(tools.values(), key=_size)
            raise ListRefused(
                f"the list of its tools is longer than {config.max_tool_list_bytes} bytes, {_size(longest)} of them for"
                f" {longest.name[:100]!r}; raise max_tool_list_bytes or have it offer fewer"
            )
        if not page.next_cursor:
            return list(tools.values())
        if page.next_cursor == cursor:
            raise ListRefused("the list of its tools has no end: it gave the same cursor twice")
        cursor = page.next_cursor
    raise ListRefused(f"the list of its tools has no end: {MAX_PAGES} pages, and a cursor for more")


class ListRefused(Exception):
    """A list of tools that is not taken; the message says why of the server ("it has ...")."""


def _size(tool: Tool) -> int:
    return len(tool.model_dump_json(by_alias=True, exclude_none=True))
