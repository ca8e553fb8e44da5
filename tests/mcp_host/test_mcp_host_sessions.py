"""What a host does over several requests: cancel a call, keep a tool's state, wait long, read a long list."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, MCPError

from llama_stack.api.agents import AgentConfig
from llama_stack.mcp_host import server as mcp_host
from llama_stack.testing.scripted import ScriptedInference, calls, says
from llama_stack.testing.scripted_stack import MODEL
from tests.mcp_host.hosting import LOCAL, Scales, served, text
from tests.providers.code_interpreter.conftest import needs_bubblewrap, open_desk, settings

ACCEPT = {"accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
WAIT = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "wait", "arguments": {}}}
CANCEL = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}


async def begun(http: httpx.AsyncClient, url: str) -> dict[str, str]:
    """The header of a new session."""
    answer = await http.post(url, json=INITIALIZE)
    assert answer.status_code == 200
    return {"mcp-session-id": answer.headers["mcp-session-id"]}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_ends_and_the_connection_goes_on(mode: str, tmp_path: Path) -> None:
    scales = Scales()
    async with (
        served(tmp_path, tools={"scales": scales}) as (_, url),
        Client(url, mode=mode) as client,
        asyncio.timeout(60),
    ):
        call = asyncio.create_task(client.call_tool("wait", {}))
        await scales.begun.wait()
        call.cancel()
        await scales.cancelled.wait()
        assert text(await client.call_tool("weigh", {"things": []})) == "0 kg"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_of_an_agent_stops_its_model(mode: str, tmp_path: Path) -> None:
    inference = ScriptedInference([asyncio.Event()], says("Here I am."))
    async with (
        served(tmp_path, inference=inference) as (stack, url),
        Client(url, mode=mode) as client,
        asyncio.timeout(60),
    ):
        await (await stack.agents()).create_agent(AgentConfig(model=MODEL, name="thinker"), LOCAL)
        call = asyncio.create_task(client.call_tool("thinker", {"message": "Think."}))
        await inference.opened.wait()
        call.cancel()
        await inference.closed_early.wait()
        assert text(await client.call_tool("thinker", {"message": "Are you there?"})) == "Here I am."


async def test_the_answer_of_a_cancelled_call_says_so(tmp_path: Path) -> None:
    scales = Scales()
    async with (
        served(tmp_path, tools={"scales": scales}) as (_, url),
        httpx.AsyncClient(headers=ACCEPT, timeout=60) as http,
    ):
        session = await begun(http, url)
        waiting = asyncio.create_task(http.post(url, json=WAIT, headers=session))
        await scales.begun.wait()
        assert (await http.post(url, json=CANCEL, headers=session)).status_code == 202
        assert '"code":-32800' in (await waiting).text
        assert scales.cancelled.is_set()
        assert (await http.post(url, json=CANCEL, headers=session)).status_code == 202


async def test_another_session_cannot_cancel_a_call(tmp_path: Path) -> None:
    scales = Scales()
    async with (
        served(tmp_path, tools={"scales": scales}) as (_, url),
        httpx.AsyncClient(headers=ACCEPT, timeout=60) as http,
    ):
        ours, theirs = await begun(http, url), await begun(http, url)
        assert ours != theirs
        waiting = asyncio.create_task(http.post(url, json=WAIT, headers=ours))
        await scales.begun.wait()
        await http.post(url, json=CANCEL, headers=theirs)
        await http.delete(url, headers=theirs)
        assert not scales.cancelled.is_set()
        assert (await http.delete(url, headers=ours)).status_code == 200
        assert scales.cancelled.is_set()
        assert (await waiting).status_code == 200


async def test_a_session_that_another_process_opened_goes_on(tmp_path: Path) -> None:
    async with (
        served(tmp_path, tools={"scales": Scales()}) as (_, url),
        httpx.AsyncClient(headers={**ACCEPT, "mcp-session-id": "from-elsewhere"}) as http,
    ):
        weigh = {**WAIT, "params": {"name": "weigh", "arguments": {"things": []}}}
        assert "0 kg" in (await http.post(url, json=weigh)).text


@pytest.mark.parametrize("name", ["", "two words", "x" * 129])
async def test_what_is_no_name_of_a_session_is_refused(name: str, tmp_path: Path) -> None:
    async with served(tmp_path) as (_, url), httpx.AsyncClient(headers=ACCEPT) as http:
        answer = await http.post(url, json=WAIT, headers={"mcp-session-id": name})
    assert answer.status_code == 400
    assert "Mcp-Session-Id must be what `initialize` was answered with" in answer.json()["error"]["message"]


async def test_there_is_no_stream_to_wait_on(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, url), httpx.AsyncClient(headers=ACCEPT) as http:
        answer = await http.get(url, headers=await begun(http, url))
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST, DELETE")
        assert (await http.delete(url)).status_code == 405


@needs_bubblewrap
async def test_a_tool_keeps_its_state_for_a_session(tmp_path: Path, stack_home: Path) -> None:
    async with (
        open_desk(stack_home, settings("bubblewrap")) as desk,
        served(tmp_path, tools={"code": desk.interpreter}) as (_, url),
        Client(url, mode="legacy") as ours,
        Client(url, mode="legacy") as theirs,
    ):
        await ours.call_tool("code_interpreter", {"code": "kept = 41"})
        assert "42" in text(await ours.call_tool("code_interpreter", {"code": "kept + 1"}))
        assert "NameError" in text(await theirs.call_tool("code_interpreter", {"code": "kept + 1"}))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_long_call_says_that_it_is_still_at_work(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_host, "PULSE_S", 0.01)
    go_on = asyncio.Event()
    told: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))
        if len(told) == 5:
            go_on.set()

    script: list[Any] = [go_on, *says("Done.")]
    async with served(tmp_path, script) as (stack, url), Client(url, mode=mode) as client, asyncio.timeout(60):
        await (await stack.agents()).create_agent(AgentConfig(model=MODEL, name="thinker"), LOCAL)
        result = await client.call_tool("thinker", {"message": "Think."}, progress_callback=hear)
    assert text(result) == "Done."
    assert len(told) >= 5
    assert {message for _, message in told} <= {"thinker is at work", "inference"}
    assert [progress for progress, _ in told] == sorted({progress for progress, _ in told})


async def test_a_long_list_of_tools_comes_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_host, "PAGE_TOOLS", 3)
    async with served(tmp_path, tools={"scales": Scales()}) as (_, url), Client(url) as client:
        first = await client.list_tools()
        assert [tool.name for tool in first.tools] == ["weigh", "break_down", "explode"]
        second = await client.list_tools(cursor=first.next_cursor)
        assert [tool.name for tool in second.tools] == ["wait"]
        assert second.next_cursor is None
        for cursor in ("nonsense", "!", "d2VpZ2h0"):
            with pytest.raises(MCPError, match="this cursor is not known"):
                await client.list_tools(cursor=cursor)


async def test_a_turn_that_was_cancelled_leaves_a_session_that_goes_on(tmp_path: Path) -> None:
    """By the stack's own account of it: what was said before stays, the cancelled turn is marked."""
    inference = ScriptedInference(
        calls(("weigh", '{"things": []}')), [asyncio.Event()], says("Nothing, so nothing."), says("And on.")
    )
    async with (
        served(tmp_path, inference=inference, tools={"scales": Scales()}) as (stack, url),
        Client(url, mode="legacy") as client,
        asyncio.timeout(60),
    ):
        agents = await stack.agents()
        record = await agents.create_agent(AgentConfig(model=MODEL, name="helper", tool_groups=["scales"]), LOCAL)
        session = await agents.create_session(record.agent_id, "s", LOCAL)
        arguments = {"message": "Weigh nothing.", "session_id": session.session_id}
        call = asyncio.create_task(client.call_tool("helper", arguments))
        while len(inference.requests) < 2:  # noqa: ASYNC110  # the second request has no event of its own
            await asyncio.sleep(0)
        call.cancel()
        await inference.closed_early.wait()
        assert text(await client.call_tool("helper", arguments)) == "Nothing, so nothing."
        turns = (await agents.session(record.agent_id, session.session_id, LOCAL)).turns
        assert [turn.end_reason for turn in turns] == ["interrupted", "completed"]
