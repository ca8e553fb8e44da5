"""The stack as an MCP server over HTTP, with the SDK's own client: its tools, its agents, and who may call them."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ImageContent

from llama_stack.api.agents import CHAT_AGENT_NAME, AgentConfig
from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import ProviderFailed
from llama_stack.server.options import ServerOptions
from llama_stack.testing.scripted import calls, says
from llama_stack.testing.scripted_stack import MODEL
from tests.mcp_host.hosting import LOCAL, WEIGH, Scales, served, text


class Away(Scales):
    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        raise ProviderFailed("nobody is there")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_of_every_group_are_offered_and_called(mode: str, tmp_path: Path) -> None:
    scales = Scales()
    async with served(tmp_path, tools={"scales": scales}) as (_, url), Client(url, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["weigh", "break_down", "explode", "wait"]
        assert tools["weigh"].input_schema == WEIGH
        result = await client.call_tool("weigh", {"things": [{"name": "clay"}, {"name": "glaze"}]})
        assert text(result) == "2 kg"
        assert result.content[1] == ImageContent(data="AAAA", mime_type="image/png")
        assert result.structured_content == {"kg": 2}
        assert (result.meta or {})["llama-stack/metadata"] == {"sources": ["the scales"]}
        assert not result.is_error


class Drawing(Scales):
    """Tools whose names no model takes as they are, and what a code interpreter gives back."""

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name=name) for name in ("plot.line/v2", "画图", "x" * 90)]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller, **context: Any
    ) -> ToolResult:
        figures = [{"type": "image", "url": "data:image/png;base64,AAAA"}]
        return ToolResult(content=f"{name} <figure 1>", metadata={"figures": figures, "driver": "d"})


async def test_names_are_those_that_models_take_and_figures_are_shown(tmp_path: Path) -> None:
    async with served(tmp_path, tools={"draw": Drawing()}) as (_, url), Client(url) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("plot_line_v2", {})
    assert names[0] == "plot_line_v2"
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    assert text(result) == "plot.line/v2 <figure 1>"
    assert result.content[1:] == [ImageContent(data="AAAA", mime_type="image/png")]
    assert (result.meta or {})["llama-stack/metadata"] == {"driver": "d"}


async def test_a_failing_tool_is_a_result_and_a_bug_tells_nothing(tmp_path: Path) -> None:
    async with served(tmp_path, tools={"scales": Scales()}) as (_, url), Client(url) as client:
        broken = await client.call_tool("break_down", {})
        assert broken.is_error
        assert text(broken) == "the scales are broken; oil them"
        bug = await client.call_tool("explode", {})
        assert bug.is_error
        assert text(bug) == "internal error; the server's log tells more"


async def test_an_unknown_tool_is_named_with_those_there_are(tmp_path: Path) -> None:
    async with served(tmp_path, tools={"scales": Scales()}) as (_, url), Client(url) as client:
        with pytest.raises(MCPError, match=r"there is no tool 'weight'; there are: weigh, break_down"):
            await client.call_tool("weight", {})


async def test_a_group_that_is_away_does_not_hide_the_others(tmp_path: Path) -> None:
    async with served(tmp_path, tools={"away": Away(), "scales": Scales()}) as (_, url), Client(url) as client:
        assert "weigh" in [tool.name for tool in (await client.list_tools()).tools]


async def test_tools_of_one_name_are_told_apart_by_their_groups(tmp_path: Path) -> None:
    first, second = Scales(), Scales()
    async with served(tmp_path, tools={"mcp::first": first, "second": second}) as (_, url), Client(url) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert names[:1] == ["mcp_first__weigh"]
        assert "second__weigh" in names
        await client.call_tool("second__weigh", {"things": []})
        assert (len(first.callers), len(second.callers)) == (0, 1)


async def test_an_agent_is_a_tool_whose_conversation_goes_on(tmp_path: Path) -> None:
    scripts = [calls(("weigh", '{"things": [{"name": "clay"}]}')), says("One kilogram."), says("You said clay.")]
    steps: list[str | None] = []

    async def told(progress: float, total: float | None, message: str | None) -> None:
        steps.append(message)

    async with served(tmp_path, *scripts, tools={"scales": Scales()}) as (stack, url), Client(url) as client:
        agents = await stack.agents()
        config = AgentConfig(model=MODEL, name="Potter's helper", instructions="Weigh.", tool_groups=["scales"])
        record = await agents.create_agent(config, LOCAL)
        await agents.create_agent(AgentConfig(model=MODEL, name="theirs"), Caller(owner="bob"))
        await agents.create_agent(AgentConfig(model=MODEL, name=f"{CHAT_AGENT_NAME}1a2b3c"), LOCAL)
        await agents.create_agent(AgentConfig(model=MODEL, name="billing", description="For invoices."), LOCAL)

        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert [name for name in tools if tools[name].output_schema] == ["Potter_s_helper", "billing"], (
            "no chat of the terminal"
        )
        assert tools["billing"].description == "Asks the agent billing. For invoices."
        assert tools["Potter_s_helper"].description == "Asks the agent Potter's helper. Its instructions begin: Weigh."
        first = await client.call_tool("Potter_s_helper", {"message": "How heavy is clay?"}, progress_callback=told)
        assert text(first) == "One kilogram."
        assert steps == ["inference", "tool execution", "inference"]
        structure = first.structured_content or {}
        assert structure["answer"] == "One kilogram."
        again = await client.call_tool(
            "Potter_s_helper", {"message": "What did I ask of?", "session_id": structure["session_id"]}
        )
        assert text(again) == "You said clay."
        session = await agents.session(record.agent_id, structure["session_id"], LOCAL)
        assert [turn.end_reason for turn in session.turns] == ["completed", "completed"]


@pytest.mark.parametrize("arguments", [{}, {"message": 7}, {"message": "x", "session_id": 7}])
async def test_an_agent_wants_a_message(arguments: dict[str, Any], tmp_path: Path) -> None:
    async with served(tmp_path) as (stack, url), Client(url) as client:
        await (await stack.agents()).create_agent(AgentConfig(model=MODEL, name="helper"), LOCAL)
        result = await client.call_tool("helper", arguments)
        assert result.is_error
        assert "wrong arguments" in text(result)


async def test_an_agent_that_waits_for_a_person_says_so(tmp_path: Path) -> None:
    async with (
        served(tmp_path, calls(("weigh", '{"things": []}')), tools={"scales": Scales()}) as (stack, url),
        Client(url) as client,
    ):
        use = {"identifier": "scales", "approval": "always"}
        config = AgentConfig.model_validate({"model": MODEL, "name": "careful", "tool_groups": [use]})
        await (await stack.agents()).create_agent(config, LOCAL)
        result = await client.call_tool("careful", {"message": "Weigh nothing."})
        assert result.is_error
        assert text(result).startswith("The agent waits: weigh needs a person's approval")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_host_that_leaves_stops_the_tool(mode: str, tmp_path: Path) -> None:
    scales = Scales()
    async with served(tmp_path, tools={"scales": scales}) as (_, url), asyncio.timeout(60):
        async with Client(url, mode=mode) as client:
            call = asyncio.create_task(client.call_tool("wait", {}))
            await scales.begun.wait()
            call.cancel()
            await asyncio.wait([call])
        await scales.cancelled.wait()


async def test_the_callers_credentials_reach_the_tool(tmp_path: Path) -> None:
    scales = Scales()
    headers = {"X-LlamaStack-Provider-Data": '{"scales_key": "k"}'}
    async with (
        served(tmp_path, tools={"scales": scales}) as (_, url),
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        await client.call_tool("weigh", {"things": []})
    assert scales.callers[0].provider_credentials == {"scales_key": "k"}


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("https://chat.example", 200),
        ("https://evil.example", 403),
        ("http://127.0.0.1:8321", 403),
        ("null", 403),
    ],
)
async def test_a_page_may_call_only_from_an_allowed_origin(origin: str | None, status: int, tmp_path: Path) -> None:
    options = ServerOptions(cors_origins=("https://chat.example",))
    async with served(tmp_path, options=options) as (_, url), httpx.AsyncClient() as http:
        headers = ACCEPT if origin is None else {**ACCEPT, "origin": origin}
        answer = await http.post(url, json=INITIALIZE, headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert "add the origin to server.cors_origins" in answer.json()["error"]["message"]


async def test_what_is_no_message_is_refused(tmp_path: Path) -> None:
    options = ServerOptions(max_body_bytes=2000)
    async with served(tmp_path, options=options) as (_, url), httpx.AsyncClient(headers=ACCEPT) as http:
        assert (await http.post(url, content=b"{", headers={"content-type": "application/json"})).status_code == 400
        assert (await http.post(url, content=b"hello", headers={"content-type": "text/plain"})).status_code in (
            400,
            415,
        )
        assert (await http.post(url, json={**INITIALIZE, "x": "y" * 3000})).status_code == 413
        assert (await http.put(url, json={})).status_code == 405


async def test_without_the_package_the_answer_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "llama_stack.mcp_host.server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp", None)
    async with served(tmp_path) as (_, url), httpx.AsyncClient(headers=ACCEPT) as http:
        answer = await http.post(url, json=INITIALIZE)
    assert answer.status_code == 501
    assert "pip install 'llama-stack[mcp]'" in answer.json()["error"]["message"]
