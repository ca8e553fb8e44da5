"""Servers that send without end: a bounded part of it is read, the error says which bound, and the next call works."""

import asyncio
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.types import Message, Receive, Scope, Send

from llama_stack.errors import ProviderFailed
from tests.providers.mcp.conftest import ALICE, Open, eventually, group_at, group_named, serving
from tests.providers.mcp.workshop import workshop
from tests.providers.remote.upstream import Reply, running

FLOODER = Path(__file__).parent / "flooder.py"
GROUP = group_named("flooder")
LIMIT = 16_384
PIPE_BYTES = 2 << 20
"""What may lie in the pipe and in our buffers once nobody reads on."""


def flooder(fault: str, count_in: Path) -> dict[str, Any]:
    return {"flooder": {"command": sys.executable, "args": [str(FLOODER), fault, str(count_in)]}}


def bytes_out(count: Path) -> int:
    """How much the program has written by its own count; nothing where it did not get so far."""
    return int(count.read_text()) if count.exists() else 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "a line without end",
            r"did not answer the call of add: it sent a message of more than 16384 bytes; raise max",
        ),
        (
            "a long line",
            r"did not answer the call of add: it sent a message of more than 16384 bytes; raise max_answer",
        ),
        ("notifications without end", r"sent more than 10000 messages without an answer among them"),
    ],
)
async def test_a_flood_over_stdio_ends_the_session_and_the_next_call_starts_it_anew(
    fault: str, message: str, open_tools: Open, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    async with (
        open_tools(servers=flooder(fault, count), max_answer_bytes=LIMIT) as tools,
        asyncio.timeout(60),
    ):
        first = (await tools.invoke_tool(GROUP, "add", {"behave": True}, ALICE)).content
        with pytest.raises(ProviderFailed, match=message):
            await tools.invoke_tool(GROUP, "add", {}, ALICE)
        second = (await tools.invoke_tool(GROUP, "add", {"behave": True}, ALICE)).content
        assert first != second
        assert bytes_out(count) < PIPE_BYTES
    assert not [pid for pid in (first, second) if psutil.pid_exists(int(str(pid)))]


async def test_a_call_beside_the_flood_gets_the_same_reason(open_tools: Open, tmp_path: Path) -> None:
    servers = flooder("a line without end", tmp_path / "count")
    async with open_tools(servers=servers, max_answer_bytes=LIMIT) as tools, asyncio.timeout(60):
        calls = [tools.invoke_tool(GROUP, "add", {}, ALICE) for _ in range(3)]
        failures = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(failure) for failure in failures] == [ProviderFailed] * 3
    assert all("more than 16384 bytes" in str(failure) for failure in failures)


async def test_a_flood_instead_of_a_greeting_is_refused(open_tools: Open, tmp_path: Path) -> None:
    count = tmp_path / "count"
    servers = flooder("a greeting without end", count)
    async with open_tools(servers=servers, max_answer_bytes=LIMIT) as tools, asyncio.timeout(60):
        with pytest.raises(ProviderFailed, match="the MCP server 'flooder': it sent a message of more than 16384"):
            await tools.list_tools(GROUP, ALICE)
    assert bytes_out(count) < PIPE_BYTES


async def test_a_flood_on_stderr_neither_fills_us_nor_stops_the_tool(open_tools: Open, tmp_path: Path) -> None:
    count = tmp_path / "count"
    async with open_tools(servers=flooder("stderr without end", count)) as tools, asyncio.timeout(60):
        await tools.invoke_tool(GROUP, "add", {}, ALICE)

        async def much_is_out() -> bool:
            return bytes_out(count) > 1 << 20

        await eventually(much_is_out)
        before = psutil.Process().memory_info().rss
        so_far = bytes_out(count)

        async def twenty_megabytes_more() -> bool:
            return bytes_out(count) > so_far + (20 << 20)

        await eventually(twenty_megabytes_more)
        assert psutil.Process().memory_info().rss - before < 10 << 20

    async def nothing_is_left() -> bool:
        return not [one for one in psutil.process_iter(["cmdline"]) if str(count) in (one.info["cmdline"] or ())]

    # What writes is a child of the server, which ends by itself.
    await eventually(nothing_is_left)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("pages without end", "the list of its tools has no end: 200 pages, and a cursor for more"),
        ("the same cursor", "the list of its tools has no end: it gave the same cursor twice"),
        ("many tools", "it has more than 100 tools; raise max_tools or have it offer fewer"),
        ("a long schema", "longer than 16384 bytes, [0-9]+ of them for 'long'; raise max_tool_list_bytes or have it"),
    ],
)
async def test_a_list_of_tools_is_bounded(fault: str, message: str, open_tools: Open, tmp_path: Path) -> None:
    servers = flooder(fault, tmp_path / "count")
    settings = {"max_tools": 100, "max_tool_list_bytes": LIMIT}
    async with open_tools(servers=servers, **settings) as tools, asyncio.timeout(60):
        with pytest.raises(ProviderFailed, match=f"the MCP server 'flooder' did not list its tools: .*{message}"):
            await tools.list_tools(GROUP, ALICE)


async def test_a_long_event_over_sse_ends_the_session_and_the_next_call_opens_another(open_tools: Open) -> None:
    async with (
        serving(workshop().sse_app()) as url,
        open_tools(max_answer_bytes=LIMIT) as tools,
        asyncio.timeout(60),
    ):
        group = group_at(f"{url}/sse")
        with pytest.raises(
            ProviderFailed, match="did not answer the call of talk: it sent a message longer than 16384"
        ):
            await tools.invoke_tool(group, "talk", {"length": 40_000}, ALICE)
        assert (await tools.invoke_tool(group, "talk", {"length": 10}, ALICE)).content == "x" * 10


async def test_an_endless_stream_of_events_is_no_answer(open_tools: Open) -> None:
    """Each event is short; together they are more than an answer and its progress may be."""
    app = workshop().streamable_http_app()

    async def chatty(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        first = await receive()
        if b'"tools/call"' not in first["body"]:
            messages = iter([first])

            async def replayed() -> Message:
                return next(messages, None) or await receive()

            await app(scope, replayed, send)
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": b": still there\n\n" * 200, "more_body": True})

    async with serving(chatty) as url, open_tools(max_answer_bytes=LIMIT) as tools, asyncio.timeout(60):
        with pytest.raises(ProviderFailed, match="it sent an answer longer than 131072 bytes; raise max_answer_bytes"):
            await tools.invoke_tool(group_at(f"{url}/mcp"), "talk", {"length": 10}, ALICE)


async def test_a_compressed_answer_is_refused_before_it_is_unpacked(open_tools: Open) -> None:
    bomb = gzip.compress(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"x": "x" * (4 << 20)}}).encode())
    assert len(bomb) < LIMIT
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    async with running(Reply(200, [bomb], headers)) as upstream, open_tools(max_answer_bytes=LIMIT) as tools:
        with pytest.raises(
            ProviderFailed, match="sent an answer in the encoding 'gzip', which it was asked not to use"
        ):
            await tools.list_tools(group_at(upstream.url), ALICE)
    assert upstream.received[0].headers["accept-encoding"] == "identity"
