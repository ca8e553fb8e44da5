"""Servers that are dead, slow, broken, forgetful or no MCP servers at all: a precise error, and the next call works."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_stack.errors import ProviderFailed, ProviderTimeout, ProviderUnavailable, RateLimited
from llama_stack_providers.remote._mcp.surrogates import MendedLines
from tests.providers.mcp.conftest import (
    ALICE,
    WORKSHOP,
    Open,
    eventually,
    group_at,
    group_named,
    serving,
    stdio_server,
    with_headers,
)
from tests.providers.mcp.workshop import before_2026, workshop
from tests.providers.remote.upstream import CUT, HANG, Reply, json_reply, running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (json_reply({"error": "who are you?"}, 401), "answered 401: no credentials were sent to it; send yours"),
        (json_reply({"error": "not you"}, 403), "answered 403: no credentials were sent to it; send yours"),
        (json_reply({"detail": "Not Found"}, 404), "answered 404: no MCP server is at this address"),
        (json_reply({"detail": "Method Not Allowed"}, 405), "answered 405: no MCP server is at this address"),
        (json_reply({"error": "later"}, 500), "answered 500"),
        (Reply(200, [b"<html>"], {"content-type": "text/html"}), "answers with text/html: no MCP server"),
        (json_reply({"hello": "world"}), "an answer that is no MCP message"),
        (Reply(200, [b"event: message\ndata: {}\n\n"], {"content-type": "text/event-stream"}), "no MCP message"),
        (Reply(200, [b"{"], {"content-type": "application/json"}, then=CUT), "broke off"),
        (Reply(None, then=CUT), "broke off"),
        (Reply(raw_head=b"SSH-2.0-OpenSSH_9.6\r\n"), "is not valid HTTP"),
    ],
)
async def test_what_is_no_mcp_server_says_what_it_is(reply: Reply, message: str, open_tools: Open) -> None:
    async with running(reply) as upstream, open_tools() as tools, asyncio.timeout(60):
        with pytest.raises(ProviderFailed, match=message) as caught:
            await tools.list_tools(group_at(upstream.url), ALICE)
    assert str(caught.value).startswith("the MCP server 'mcp::test' (http://127.0.0.1:")
    assert caught.value.http_status == (reply.status if reply.status in (401, 403, 405) else 502)


async def test_credentials_that_are_not_accepted_are_named(open_tools: Open) -> None:
    async with running(json_reply({}, 401)) as upstream, open_tools() as tools:
        caller = with_headers(upstream.url, x_api_key="k-123456", x_tenant="acme")
        with pytest.raises(
            ProviderFailed, match="does not accept the credentials in x-api-key, x-tenant; send"
        ) as caught:
            await tools.list_tools(group_at(upstream.url), caller)
    assert "k-123456" not in str(caught.value)


async def test_too_many_requests_say_when_to_come_back(open_tools: Open) -> None:
    reply = json_reply({}, 429, **{"retry-after": "7"})
    async with running(reply) as upstream, open_tools() as tools:
        with pytest.raises(RateLimited, match="answered 429") as caught:
            await tools.list_tools(group_at(upstream.url), ALICE)
    assert caught.value.retry_after_s == 7


async def test_a_server_that_is_not_there_is_unavailable(open_tools: Open) -> None:
    async with open_tools() as tools:
        with pytest.raises(ProviderUnavailable, match="cannot be reached: Connect"):
            await tools.list_tools(group_at(f"http://127.0.0.1:{free_port()}/mcp"), ALICE)


async def test_a_server_that_says_nothing_is_given_up(open_tools: Open) -> None:
    async with running(Reply(None, then=HANG)) as upstream, open_tools(connect_timeout_s=0.3) as tools:
        with pytest.raises(ProviderTimeout, match="did not greet in time"):
            await tools.list_tools(group_at(upstream.url), ALICE)


async def test_a_tool_that_takes_too_long_is_cancelled(open_tools: Open) -> None:
    server = workshop()
    async with serving(server.streamable_http_app()) as url, open_tools(call_timeout_s=2) as tools:
        with pytest.raises(ProviderTimeout, match="did not answer the call of wait in time"):
            await tools.invoke_tool(group_at(f"{url}/mcp"), "wait", {}, ALICE)
        async with asyncio.timeout(60):
            await server.cancelled.wait()


async def test_a_process_that_dies_in_a_call_is_an_error_and_the_next_call_starts_it_anew(open_tools: Open) -> None:
    async with open_tools(servers={"shop": stdio_server()}) as tools, asyncio.timeout(60):
        group = group_named("shop")
        first = (await tools.invoke_tool(group, "process", {}, ALICE)).content
        with pytest.raises(
            ProviderFailed, match="ended and did not answer the call of die; its last words: out of clay"
        ):
            await tools.invoke_tool(group, "die", {}, ALICE)
        second = (await tools.invoke_tool(group, "process", {}, ALICE)).content
        assert first != second
    assert not psutil.pid_exists(int(str(second)))


async def test_a_process_that_cannot_start_tells_its_last_words_without_secrets(open_tools: Open) -> None:
    server = stdio_server("wordy-end", env={"TOKEN": "hunter2-hunter2"})
    async with open_tools(servers={"shop": server}) as tools:
        with pytest.raises(ProviderFailed, match=r"the workshop is closed: token \*+ is stale"):
            await tools.list_tools(group_named("shop"), ALICE)


async def test_a_program_that_is_not_there_is_named(open_tools: Open) -> None:
    async with open_tools(servers={"shop": {"command": "no-such-program-here"}}) as tools:
        with pytest.raises(ProviderUnavailable, match="cannot be started: No such file or directory"):
            await tools.list_tools(group_named("shop"), ALICE)


async def test_a_program_that_speaks_something_else_is_given_up(open_tools: Open) -> None:
    server = {"command": sys.executable, "args": ["-c", "import time; print('hello'); time.sleep(60)"]}
    async with open_tools(servers={"shop": server}, connect_timeout_s=1) as tools:
        with pytest.raises(ProviderTimeout, match="the MCP server 'shop' did not greet in time"):
            await tools.list_tools(group_named("shop"), ALICE)
    assert not [child for child in psutil.Process().children() if "time.sleep(60)" in child.cmdline()]


@pytest.mark.parametrize("era", ["newer", "older"])
async def test_a_server_that_is_killed_in_a_call_is_an_error_and_the_next_call_finds_its_successor(
    era: str, open_tools: Open
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with open_tools() as tools, asyncio.timeout(60):
        with _workshop_process(port, era) as process:
            await _until_up(tools, url)
            call = asyncio.create_task(tools.invoke_tool(group_at(url), "meet", {"parties": 2}, ALICE))
            await eventually(lambda: _has_waiting(tools, url))
            process.kill()
            with pytest.raises(ProviderFailed, match=r"broke off|ended|cannot be reached"):
                await call
        with pytest.raises(ProviderUnavailable, match="cannot be reached"):
            await tools.invoke_tool(group_at(url), "add", {"left": 1, "right": 1}, ALICE)
        with _workshop_process(port, era):
            await _until_up(tools, url)
            assert (await tools.invoke_tool(group_at(url), "add", {"left": 1, "right": 1}, ALICE)).content == "2"


def _workshop_process(port: int, era: str) -> "subprocess.Popen[bytes]":
    return _Killed([sys.executable, str(WORKSHOP), "http", str(port), era])


class _Killed(subprocess.Popen[bytes]):
    def __exit__(self, *error: Any) -> None:
        self.kill()
        super().__exit__(*error)


async def _until_up(tools: Any, url: str) -> None:
    async def is_up() -> bool:
        try:
            await tools.list_tools(group_at(url), ALICE)
        except ProviderUnavailable:
            return False
        return True

    await eventually(is_up, within_s=30)


async def _has_waiting(tools: Any, url: str) -> bool:
    return bool((await tools.invoke_tool(group_at(url), "parties", {}, ALICE)).content != "0")


async def test_a_server_that_forgot_the_session_is_greeted_anew(open_tools: Open) -> None:
    first, second = workshop(), workshop()
    apps: list[ASGIApp] = [first.streamable_http_app(), second.streamable_http_app()]
    current = 0

    async def restarted(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[current](scope, receive, send)

    async with (
        first.session_manager.run(),
        second.session_manager.run(),
        serving(before_2026(restarted), lifespan="off") as url,
        open_tools() as tools,
    ):
        group = group_at(f"{url}/mcp")
        await tools.list_tools(group, ALICE)
        current = 1
        assert (await tools.invoke_tool(group, "add", {"left": 2, "right": 2}, ALICE)).content == "4"
    assert (first.lists, second.lists) == (1, 1)


async def test_a_server_that_does_not_let_go_does_not_hold_us(open_tools: Open) -> None:
    server = workshop()
    app = server.streamable_http_app()
    asked_to_end = asyncio.Event()

    async def clinging(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "DELETE":
            asked_to_end.set()
            await asyncio.Event().wait()
        await app(scope, receive, send)

    async with serving(before_2026(clinging)) as url, asyncio.timeout(60):
        async with open_tools(close_timeout_s=2) as tools:
            await tools.list_tools(group_at(f"{url}/mcp"), ALICE)
        assert asked_to_end.is_set()


async def test_a_redirect_to_elsewhere_is_not_followed(open_tools: Open) -> None:
    async with running(json_reply({})) as elsewhere:
        reply = Reply(307, [], {"location": elsewhere.url})
        async with running(reply) as upstream, open_tools() as tools:
            with pytest.raises(ProviderFailed, match="not followed"):
                await tools.list_tools(group_at(upstream.url), with_headers(upstream.url, Authorization="Bearer x"))
        assert elsewhere.received == []


@pytest.mark.parametrize("json_response", [False, True])
async def test_an_answer_that_is_too_long_costs_that_call_only(json_response: bool, open_tools: Open) -> None:
    app = workshop().streamable_http_app(json_response=json_response)
    async with serving(app) as url, open_tools(max_answer_bytes=16_384) as tools, asyncio.timeout(60):
        group = group_at(f"{url}/mcp")
        with pytest.raises(ProviderFailed, match="16384"):
            await tools.invoke_tool(group, "talk", {"length": 40_000}, ALICE)
        assert (await tools.invoke_tool(group, "talk", {"length": 10}, ALICE)).content == "x" * 10


async def test_half_an_emoji_is_a_replacement_character(open_tools: Open, tmp_path: Path) -> None:
    """What is left of a text that was cut at a length is no character, and must not cost the answer."""
    app = workshop().streamable_http_app()

    async def cutting(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.body":
                message["body"] = message.get("body", b"").replace(b"x" * 6, rb"\ud83d")
            await send(message)

        await app(scope, receive, sent)

    flooder = stdio_server() | {"args": [str(WORKSHOP.with_name("flooder.py")), "half an emoji", str(tmp_path / "n")]}
    async with serving(cutting) as url, open_tools(servers={"cuts": flooder}) as tools, asyncio.timeout(60):
        over_http = await tools.invoke_tool(group_at(f"{url}/mcp"), "talk", {"length": 12}, ALICE)
        over_stdio = await tools.invoke_tool(group_named("cuts"), "add", {}, ALICE)
    assert (over_http.content, over_stdio.content) == ("\ufffd\ufffd", "cut \ufffd")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb"\ud83d\ude00 \ud83d\u0041 \uDE00", rb"\ud83d\ude00 \ufffd\u0041 \ufffd"),
        (rb"\\ud83d \\\ud83d", rb"\\ud83d \\\ufffd"),
        (rb"\ud83d\ud83d\ude00", rb"\ufffd\ud83d\ude00"),
    ],
    ids=["pairs stay", "an escaped backslash is none", "a half before a pair"],
)
def test_only_halves_are_mended_however_the_text_is_cut(text: bytes, expected: bytes) -> None:
    for cut in range(len(text)):
        lines = MendedLines()
        assert lines.feed(text[:cut]) + lines.feed(text[cut:] + b"\n") + lines.rest() == expected + b"\n"


async def test_a_callers_key_does_not_come_back_in_an_error(open_tools: Open) -> None:
    async with serving(workshop().streamable_http_app()) as url, open_tools() as tools:
        group = group_at(f"{url}/mcp")
        result = await tools.invoke_tool(group, "leak", {}, with_headers(f"{url}/mcp", x_workshop_key="s3cret-key"))
        assert result.is_error
        assert "s3cret" not in str(result.content)
    echo = json_reply({"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "bad s3cret-key"}}, 400)
    async with running(echo) as upstream, open_tools() as tools:
        with pytest.raises(ProviderFailed, match=r"bad \*+") as caught:
            await tools.list_tools(
                group_at(upstream.url), with_headers(upstream.url, Authorization="Bearer s3cret-key")
            )
        assert "s3cret" not in str(caught.value)
