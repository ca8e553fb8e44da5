"""Sessions: whose they are, how long they live, how many there may be."""

import asyncio

import psutil
import pytest

from llama_stack.api.common import Caller
from llama_stack.errors import InvalidRequest, NotPermitted, ProviderUnavailable
from tests.providers.mcp.conftest import (
    ALICE,
    Open,
    group_at,
    group_named,
    serving,
    stdio_server,
    with_headers,
)
from tests.providers.mcp.workshop import workshop
from tests.providers.remote.upstream import json_reply, running


async def test_two_callers_credentials_never_meet(open_tools: Open) -> None:
    server = workshop()
    async with serving(server.streamable_http_app()) as base, open_tools() as tools, asyncio.timeout(60):
        url = f"{base}/mcp"
        callers = {
            "key-of-alice": with_headers(url, "alice", x_workshop_key="key-of-alice"),
            "another-of-alice": with_headers(url, "alice", x_workshop_key="another-of-alice"),
            "key-of-bob": with_headers(url, "bob", x_workshop_key="key-of-bob"),
            "none": Caller(owner="carol"),
        }

        async def ask(key: str) -> None:
            assert (await tools.invoke_tool(group_at(url), "key", {}, callers[key])).content == key

        await asyncio.gather(*(ask(key) for _ in range(5) for key in callers))
        assert server.lists == len(callers)


async def test_credentials_go_to_the_server_they_are_meant_for_only(open_tools: Open) -> None:
    async with running(json_reply({}, 500)) as upstream, open_tools() as tools:
        for credentials in (
            {"mcp_headers": {"https://elsewhere.example/mcp": {"Authorization": "Bearer a"}}},
            {"mcp_authorization": {"https://elsewhere.example/mcp": "a"}},
        ):
            with pytest.raises(Exception, match="answered 500"):
                await tools.list_tools(group_at(upstream.url), Caller(owner="alice", provider_credentials=credentials))
        assert not any("authorization" in received.headers for received in upstream.received)


@pytest.mark.parametrize("token", ["tok-1", "Bearer tok-1"])
async def test_a_token_is_sent_as_bearer(token: str, open_tools: Open) -> None:
    async with running(json_reply({}, 500)) as upstream, open_tools() as tools:
        caller = Caller(owner="alice", provider_credentials={"mcp_authorization": {f"{upstream.url}/": token}})
        with pytest.raises(Exception, match="answered 500"):
            await tools.list_tools(group_at(upstream.url), caller)
        assert {received.headers["authorization"] for received in upstream.received} == {"Bearer tok-1"}


async def test_a_callers_headers_stand_over_those_of_the_configuration(open_tools: Open) -> None:
    async with serving(workshop().streamable_http_app()) as base:
        servers = {"shop": {"url": f"{base}/mcp", "headers": {"X-Workshop-Key": "of-the-operator"}}}
        async with open_tools(servers=servers) as tools:
            assert (await tools.invoke_tool(group_named("shop"), "key", {}, ALICE)).content == "of-the-operator"
            caller = with_headers("mcp::test", x_workshop_key="of-alice")
            assert (await tools.invoke_tool(group_named("shop"), "key", {}, caller)).content == "of-alice"
            assert (await tools.invoke_tool(group_named("shop"), "key", {}, ALICE)).content == "of-the-operator"


@pytest.mark.parametrize(
    "credentials",
    [
        {"mcp_headers": "Bearer s3cret"},
        {"mcp_headers": {"http://x/mcp": "Bearer s3cret"}},
        {"mcp_headers": {"http://x/mcp": {"authorization": ["s3cret"]}}},
        {"mcp_headers": {"http://x/mcp": {"authorization": "s3cret\r\nhost: y"}}},
        {"mcp_headers": {"http://x/mcp": {"Host": "s3cret"}}},
        {"mcp_headers": {"http://x/mcp": {"Mcp-Session-Id": "s3cret"}}},
        {"mcp_headers": {"http://x/mcp": {"a b": "s3cret"}}},
        {"mcp_headers": {"http://x/mcp": {f"x-{number}": "s3cret" for number in range(100)}}},
        {"mcp_authorization": "s3cret"},
        {"mcp_authorization": {"http://x/mcp": {"token": "s3cret"}}},
    ],
)
async def test_credentials_that_cannot_be_sent_are_refused_unrepeated(
    credentials: dict[str, object], open_tools: Open
) -> None:
    async with open_tools() as tools:
        with pytest.raises(InvalidRequest) as caught:
            await tools.list_tools(group_at("http://x/mcp"), Caller(owner="alice", provider_credentials=credentials))
    assert "s3cret" not in str(caught.value)


async def test_a_callers_group_cannot_use_a_server_of_the_configuration(open_tools: Open) -> None:
    async with open_tools(servers={"shop": stdio_server()}) as tools:
        with pytest.raises(NotPermitted, match="must name an mcp_endpoint"):
            await tools.invoke_tool(group_named("shop", from_caller=True), "process", {}, ALICE)


async def test_a_session_that_nobody_uses_ends_with_its_process(open_tools: Open) -> None:
    async with open_tools(servers={"shop": stdio_server()}, idle_s=0.2) as tools, asyncio.timeout(60):
        group = group_named("shop")
        process = psutil.Process(int(str((await tools.invoke_tool(group, "process", {}, ALICE)).content)))
        await asyncio.to_thread(process.wait, 60)
        again = (await tools.invoke_tool(group, "process", {}, ALICE)).content
        assert again != str(process.pid)


async def test_the_longest_unused_session_makes_room(open_tools: Open) -> None:
    server = workshop()
    async with serving(server.streamable_http_app()) as base, open_tools(max_sessions=2) as tools:
        group = group_at(f"{base}/mcp")
        for owner in ("ann", "bob", "ann", "cid"):
            await tools.list_tools(group, Caller(owner=owner))
        assert server.lists == 3
        await tools.list_tools(group, Caller(owner="ann"))
        assert server.lists == 3
        await tools.list_tools(group, Caller(owner="bob"))
        assert server.lists == 4


async def test_no_session_at_work_is_closed_for_another(open_tools: Open) -> None:
    server = workshop()
    async with serving(server.streamable_http_app()) as base, open_tools(max_sessions=1) as tools:
        group = group_at(f"{base}/mcp")
        call = asyncio.create_task(tools.invoke_tool(group, "wait", {}, ALICE))
        async with asyncio.timeout(60):
            await server.begun.wait()
        with pytest.raises(ProviderUnavailable, match=r"all 1 MCP sessions are at work; .*max_sessions"):
            await tools.list_tools(group, Caller(owner="bob"))
        server.may_end.set()
        assert (await call).content == "waited"


async def test_calls_beyond_the_bounds_wait_and_then_fail(open_tools: Open) -> None:
    server = workshop()
    settings = {"max_parallel_calls": 1, "max_waiting_calls": 2}
    async with serving(server.streamable_http_app()) as base, open_tools(**settings) as tools, asyncio.timeout(60):
        group = group_at(f"{base}/mcp")
        await tools.list_tools(group, ALICE)
        first = asyncio.create_task(tools.invoke_tool(group, "wait", {}, ALICE))
        await server.begun.wait()
        further = [asyncio.create_task(tools.invoke_tool(group, "talk", {"length": 1}, ALICE)) for _ in range(3)]
        done, _ = await asyncio.wait(further, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(ProviderUnavailable, match="2 calls wait already"):
            await done.pop()
        server.may_end.set()
        assert (await first).content == "waited"
        results = await asyncio.gather(*further, return_exceptions=True)
        assert sum(isinstance(result, ProviderUnavailable) for result in results) == 1
