"""Responses over a real MCP server of the SDK: the caller's headers reach it, and stay with it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.providers.mcp.conftest import serving as serving_mcp
from tests.providers.mcp.workshop import SECRET_HEADER, workshop
from tests.responses.conftest import Start

MCP: Any = {
    "provider_id": "mcp",
    "provider_type": "remote::mcp",
    "config": {"allow_private_addresses": True},
    "tool_groups": [],
}


@pytest.mark.parametrize("headers", [{SECRET_HEADER: "s3cret-key", "X-Tenant": "acme"}, None])
async def test_one_taken_up_by_another_process_names_the_headers_it_lacks(
    headers: dict[str, str] | None, start: Start
) -> None:
    server = workshop()
    tool: Any = {"type": "mcp", "server_label": "workshop", "require_approval": "never", "headers": headers}
    never = asyncio.Event()
    async with serving_mcp(server.streamable_http_app()) as mcp_url:
        tool["server_url"] = f"{mcp_url}/mcp"
        async with start([never], providers={"tools": [MCP]}) as running:
            queued = await running.openai.responses.create(model="scripted", input="?", tools=[tool], background=True)
            async with asyncio.timeout(60):
                await running.inference.opened.wait()
        async with start(says("Done."), providers={"tools": [MCP]}) as running, asyncio.timeout(60):
            await running.stack.responses()
            async for _ in await running.openai.responses.retrieve(queued.id, stream=True):
                pass
            response = await running.openai.responses.retrieve(queued.id)
            asked = len(running.inference.requests)
    if headers is None:
        assert (response.status, response.output_text) == ("completed", "Done.")
        return
    assert (response.status, asked) == ("failed", 0)
    assert response.error is not None
    assert response.error.message.startswith(
        f"MCP server 'workshop': it is not asked without the headers {SECRET_HEADER}, X-Tenant: they came with the"
    )
    assert "send the request again" in response.error.message
    assert "s3cret-key" not in response.model_dump_json()


async def test_headers_go_to_their_server_and_are_not_kept(tmp_path: Path) -> None:
    scripts = [calls(("add", '{"left": 2, "right": 2}'), ("key", "{}")), says("Done.")]
    async with (
        serving_mcp(workshop().streamable_http_app()) as mcp_url,
        open_scripted_stack(*scripts, providers={"tools": [MCP]}, home=tmp_path) as stack,
        serving(create_app(stack)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
    ):
        tool: Any = {
            "type": "mcp",
            "server_label": "workshop",
            "server_url": f"{mcp_url}/mcp",
            "headers": {SECRET_HEADER: "s3cret-key"},
            "allowed_tools": ["add", "key"],
            "require_approval": {"always": {"tool_names": ["key"]}},
        }
        asked = await openai.responses.create(model="scripted", input="Go.", tools=[tool])
        listing, added, request = asked.output
        assert [one.name for one in listing.tools] == ["add", "key"]  # type: ignore[union-attr]
        assert (added.type, added.output) == ("mcp_call", "4")  # type: ignore[union-attr]
        assert request.type == "mcp_approval_request"
        decision: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
        done = await openai.responses.create(
            model="scripted", input=[decision], tools=[tool], previous_response_id=asked.id
        )
        listed = await openai.responses.input_items.list(asked.id)
    made = done.output[0]
    # The server read the key; nothing else ever shows or stores it but the tool's own answer.
    assert made.type == "mcp_call"
    assert made.output == "s3cret-key"
    shown = [one.model_dump_json() for one in (asked, listed)]
    assert "s3cret-key" not in "".join(shown)
    assert done.tools[0].headers is None  # type: ignore[union-attr]
