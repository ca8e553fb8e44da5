"""Resources of MCP servers, which a model lists and reads with tools where the settings say so."""

import base64
from typing import Any

import pytest
from mcp.server import Server
from mcp.server.mcpserver import MCPServer
from mcp_types import ListResourcesResult, ListToolsResult, Resource

from llama_stack.api.messages import ImagePart
from llama_stack.api.tools import ToolGroup
from llama_stack.errors import InvalidRequest
from tests.providers.mcp.conftest import ALICE, Open, group_at, serving
from tests.providers.mcp.test_mcp_tools import TRANSPORTS, Serve
from tests.providers.mcp.workshop import PIXEL, Workshop, workshop


async def no_tools(context: Any, params: Any) -> ListToolsResult:
    return ListToolsResult(tools=[])


def library() -> Workshop:
    server = workshop()

    @server.resource("notes://today", description="What is\nto be done.", mime_type="text/plain")
    def today() -> str:
        return "fire the kiln"

    @server.resource("notes://mark.png", mime_type="image/png")
    def mark() -> bytes:
        return base64.b64decode(PIXEL)

    @server.resource("notes://{day}/{hour}")
    def hour(day: str, hour: str) -> str:
        return f"{day} at {hour}: nothing"

    return server


@TRANSPORTS
async def test_what_a_server_holds_is_listed_and_read(serve: Serve, open_tools: Open) -> None:
    async with serve(library()) as url, open_tools(offer_resources=True) as tools:
        group = group_at(url)
        names = [definition.name for definition in await tools.list_tools(group, ALICE)]
        assert names[0] == "add"
        assert names[-2:] == ["test_list_resources", "test_read_resource"]
        listed = await tools.invoke_tool(group, "test_list_resources", {}, ALICE)
        assert listed.content == (
            "notes://today (today, text/plain: What is to be done.)\n"
            "notes://mark.png (mark, image/png)\n"
            "notes://{day}/{hour} (hour, text/plain)"
        )
        read = await tools.invoke_tool(group, "test_read_resource", {"uri": "notes://monday/10"}, ALICE)
        assert (read.content, read.is_error) == ("monday at 10: nothing", False)
        picture = await tools.invoke_tool(group, "test_read_resource", {"uri": "notes://mark.png"}, ALICE)
        assert picture.content == [ImagePart(url=f"data:image/png;base64,{PIXEL}")]
        unknown = await tools.invoke_tool(group, "test_read_resource", {"uri": "file:///etc/passwd"}, ALICE)
        assert unknown.is_error
        assert "file:///etc/passwd" in str(unknown.content)
        with pytest.raises(InvalidRequest, match="uri"):
            await tools.invoke_tool(group, "test_read_resource", {}, ALICE)


async def test_only_servers_with_resources_have_such_tools_and_only_where_it_is_set(open_tools: Open) -> None:
    async with serving(library().streamable_http_app()) as url, open_tools() as tools:
        names = [definition.name for definition in await tools.list_tools(group_at(f"{url}/mcp"), ALICE)]
        assert not any("resource" in name for name in names)
    bare: Server[Any] = Server("bare", on_list_tools=no_tools)
    async with serving(bare.streamable_http_app()) as url, open_tools(offer_resources=True) as tools:
        assert await tools.list_tools(group_at(f"{url}/mcp"), ALICE) == []


async def test_a_list_without_end_is_cut_and_a_server_may_know_no_templates(open_tools: Open) -> None:
    async def endless(context: Any, params: Any) -> ListResourcesResult:
        begin = int(params.cursor or 0) if params is not None else 0
        resources = [Resource(uri=f"n://{number}", name="n") for number in range(begin, begin + 150)]
        return ListResourcesResult(resources=resources, next_cursor=str(begin + 150))

    server: Server[Any] = Server("endless", on_list_tools=no_tools, on_list_resources=endless)
    async with serving(server.streamable_http_app()) as url, open_tools(offer_resources=True) as tools:
        listed = await tools.invoke_tool(group_at(f"{url}/mcp"), "test_list_resources", {}, ALICE)
    lines = str(listed.content).splitlines()
    assert (lines[0], lines[-2:], len(lines)) == ("n://0 (n)", ["n://199 (n)", "... and more: 100 at least"], 201)


async def test_a_tool_of_the_servers_own_goes_before_one_of_that_name(open_tools: Open) -> None:
    server: MCPServer[Any] = MCPServer("archive", log_level="CRITICAL")

    @server.tool(structured_output=False)
    def archive_read_resource(shelf: int) -> str:
        """Read a shelf."""
        return f"shelf {shelf}"

    @server.resource("a://1")
    def one() -> str:
        return "1"

    async with serving(server.streamable_http_app()) as url, open_tools(offer_resources=True) as tools:
        group = ToolGroup(
            identifier="mcp::archive", provider_id="mcp", provider_resource_id="a", mcp_endpoint=f"{url}/mcp"
        )
        names = [definition.name for definition in await tools.list_tools(group, ALICE)]
        assert names == ["archive_read_resource", "archive_list_resources"]
        read = await tools.invoke_tool(group, "archive_read_resource", {"shelf": 2}, ALICE)
        assert read.content == "shelf 2"
