"""Tools of MCP servers: listed, called and mapped, over each transport."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from mcp_types import CallToolResult, ImageContent

from llama_stack.api.messages import ImagePart, TextPart
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack_providers.remote._mcp.content import result_of
from tests.providers.mcp.conftest import (
    ALICE,
    Open,
    eventually,
    group_at,
    group_named,
    serving,
    stdio_server,
)
from tests.providers.mcp.workshop import PIXEL, Workshop, before_2026, workshop

Serve = Callable[[Workshop], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def streamable(server: Workshop) -> AsyncIterator[str]:
    async with serving(server.streamable_http_app()) as url:
        yield f"{url}/mcp"


@asynccontextmanager
async def streamable_before_2026(server: Workshop) -> AsyncIterator[str]:
    async with serving(before_2026(server.streamable_http_app())) as url:
        yield f"{url}/mcp"


@asynccontextmanager
async def sse(server: Workshop) -> AsyncIterator[str]:
    async with serving(server.sse_app()) as url:
        yield f"{url}/sse"


TRANSPORTS = pytest.mark.parametrize("serve", [streamable, streamable_before_2026, sse])


@TRANSPORTS
async def test_tools_are_listed_once_and_called(serve: Serve, open_tools: Open) -> None:
    server = workshop()
    async with serve(server) as url, open_tools() as tools:
        definitions = await tools.list_tools(group_at(url), ALICE)
        assert [definition.name for definition in definitions][:2] == ["add", "deliver"]
        assert definitions[0].description == "Add two numbers."
        result = await tools.invoke_tool(group_at(url), "add", {"left": 2, "right": 3}, ALICE)
        assert (result.content, result.is_error) == ("5", False)
        assert result.metadata == {"structured_content": {"result": 5}}
        await tools.list_tools(group_at(url), ALICE)
        assert server.lists == 1


@TRANSPORTS
async def test_twenty_calls_run_side_by_side_in_one_session(serve: Serve, open_tools: Open) -> None:
    server = workshop()
    async with serve(server) as url, open_tools() as tools, asyncio.timeout(60):
        calls = [tools.invoke_tool(group_at(url), "meet", {"parties": 20}, ALICE) for _ in range(20)]
        results = await asyncio.gather(*calls)
        assert {str(result.content) for result in results} == {"20 met"}
        assert server.lists == 1


@TRANSPORTS
async def test_the_list_is_fetched_anew_when_the_server_says_it_changed(serve: Serve, open_tools: Open) -> None:
    server = workshop()
    async with serve(server) as url, open_tools() as tools, asyncio.timeout(60):
        before = await tools.list_tools(group_at(url), ALICE)
        assert "fold" not in [definition.name for definition in before]
        await tools.invoke_tool(group_at(url), "learn", {}, ALICE)

        async def knows_fold() -> bool:
            return "fold" in [definition.name for definition in await tools.list_tools(group_at(url), ALICE)]

        await eventually(knows_fold)
        assert server.lists == 2
        assert (await tools.invoke_tool(group_at(url), "fold", {}, ALICE)).content == "folded"


@TRANSPORTS
async def test_a_cancelled_call_stops_its_tool_and_no_other(serve: Serve, open_tools: Open) -> None:
    server = workshop()
    async with serve(server) as url, open_tools() as tools, asyncio.timeout(60):
        other = asyncio.create_task(tools.invoke_tool(group_at(url), "meet", {"parties": 2}, ALICE))
        call = asyncio.create_task(tools.invoke_tool(group_at(url), "wait", {}, ALICE))
        await server.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.cancelled.wait()
        await tools.invoke_tool(group_at(url), "meet", {"parties": 2}, ALICE)
        assert (await other).content == "2 met"


async def test_a_process_of_the_configuration_is_a_tool_group(open_tools: Open) -> None:
    servers = {"shop": stdio_server(env={"WORKSHOP_KEY": "hunter2"})}
    async with open_tools(servers=servers) as tools:
        group = group_named("shop")
        assert (await tools.invoke_tool(group, "add", {"left": 1, "right": 1}, ALICE)).content == "2"
        passed = await tools.invoke_tool(group, "environment", {"name": "WORKSHOP_KEY"}, ALICE)
        assert passed.content == "hunter2"
        ours = await tools.invoke_tool(group, "environment", {"name": "LLAMA_STACK_HOME"}, ALICE)
        assert ours.content == "unset"


async def test_every_kind_of_content_reaches_the_model(open_tools: Open) -> None:
    async with streamable(workshop()) as url, open_tools() as tools:
        result = await tools.invoke_tool(group_at(url), "everything", {}, ALICE)
    image = ImagePart(url=f"data:image/png;base64,{PIXEL}")
    assert result.content == [
        TextPart(text="hello"),
        image,
        TextPart(text="[audio, audio/wav, 3 bytes, not shown]"),
        TextPart(text="[resource file:///a.txt]\ninside"),
        image,
        TextPart(text="[resource file:///c.bin, application/octet-stream, 3 bytes, not shown]"),
        TextPart(text="[link to manual, https://example.com/manual]: how it works"),
    ]


@pytest.mark.parametrize(
    ("data", "kind", "shown"),
    [
        (PIXEL, "image/jpeg", f"data:image/png;base64,{PIXEL}"),
        ("PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4=", "image/svg+xml", None),
        ("bm90IGFuIGltYWdlIGF0IGFsbCwgaG93ZXZlciBpdCBpcyBjYWxsZWQ=", "image/png", None),
        (PIXEL[:-1], "image/png", None),
        ("A===", "image/png", None),
    ],
    ids=["by its first bytes", "a drawing", "no image", "cut", "no base64"],
)
def test_only_images_that_models_take_are_shown(data: str, kind: str, shown: str | None) -> None:
    content = result_of(CallToolResult(content=[ImageContent(data=data, mime_type=kind)])).content
    if shown is not None:
        assert content == [ImagePart(url=shown)]
    else:
        assert isinstance(content, str)
        assert content.startswith(f"[image, {kind}, ")


async def test_structure_without_text_is_told_as_json(open_tools: Open) -> None:
    async with streamable(workshop()) as url, open_tools() as tools:
        result = await tools.invoke_tool(group_at(url), "only_structure", {}, ALICE)
    assert result.content == '{"rows": [1, 2], "unit": "°C"}'
    assert result.metadata == {"structured_content": {"rows": [1, 2], "unit": "°C"}}


async def test_a_tools_own_failure_is_a_result(open_tools: Open) -> None:
    async with streamable(workshop()) as url, open_tools() as tools:
        result = await tools.invoke_tool(group_at(url), "break_a_rule", {}, ALICE)
    assert result.is_error
    assert "the kiln is cold" in str(result.content)


async def test_the_whole_schema_is_passed_on(open_tools: Open) -> None:
    async with streamable(workshop()) as url, open_tools() as tools:
        definitions = {definition.name: definition for definition in await tools.list_tools(group_at(url), ALICE)}
        schema = definitions["deliver"].parameters or {}
        assert schema["$defs"]["Address"]["properties"]["city"]["minLength"] == 1
        order = {"customer": "Ann", "deliver_to": [{"street": "A", "city": "Rome"}, {"street": "B", "city": "Oslo"}]}
        result = await tools.invoke_tool(group_at(url), "deliver", {"order": order}, ALICE)
        assert result.content == "Ann: Rome, Oslo"


async def test_an_unknown_tool_and_wrong_arguments_do_not_reach_the_server(open_tools: Open) -> None:
    async with streamable(workshop()) as url, open_tools() as tools:
        with pytest.raises(NotFound, match=r"has no tool 'ad'. It has: add, deliver"):
            await tools.invoke_tool(group_at(url), "ad", {}, ALICE)
        with pytest.raises(InvalidRequest, match=r"order\.deliver_to"):
            await tools.invoke_tool(group_at(url), "deliver", {"order": {"customer": "Ann"}}, ALICE)


async def test_a_group_that_names_no_server_says_which_there_are(open_tools: Open) -> None:
    async with open_tools(servers={"workshop": stdio_server()}) as tools:
        with pytest.raises(InvalidRequest, match=r"no server 'workshp'\. Did you mean 'workshop'\?"):
            await tools.list_tools(group_named("workshp"), ALICE)


async def test_nothing_is_left_when_the_provider_closes(open_tools: Open) -> None:
    before = asyncio.all_tasks()
    server = workshop()
    async with streamable(server) as url, open_tools() as tools:
        running = asyncio.create_task(tools.invoke_tool(group_at(url), "wait", {}, ALICE))
        await server.begun.wait()
    with pytest.raises(Exception, match="is being closed"):
        await running

    async def is_as_before() -> bool:
        return asyncio.all_tasks() <= before

    await eventually(is_as_before)
