"""MCP tools in an agent's turn: what the model is told, and what the caller is told."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.agents import AgentConfig, Agents, ToolExecutionStep, Turn, TurnCompleted
from llama_stack.api.messages import UserMessage
from llama_stack.errors import InvalidRequest, ProviderUnavailable
from llama_stack.testing.scripted import Script, calls, says
from llama_stack.testing.scripted_stack import MODEL, open_scripted_stack
from tests.providers.mcp.conftest import ALICE, serving, stdio_server
from tests.providers.mcp.test_mcp_failures import free_port
from tests.providers.mcp.workshop import workshop


@asynccontextmanager
async def agents_of(home: Path, *scripts: Script, **config: Any) -> AsyncIterator[Agents]:
    entry = {
        "provider_id": "mcp",
        "provider_type": "remote::mcp",
        "config": {"servers": {"shop": stdio_server()}, **config},
        "tool_groups": [
            {"identifier": "mcp::shop", "provider_resource_id": "shop"},
            {"identifier": "mcp::away", "mcp_endpoint": f"http://127.0.0.1:{free_port()}/mcp"},
        ],
    }
    async with open_scripted_stack(*scripts, providers={"tools": [entry]}, home=home) as stack:
        yield await stack.agents()


async def turn_of(agents: Agents, *tool_groups: Any) -> Turn:
    config = AgentConfig.model_validate({"model": MODEL, "tool_groups": tool_groups})
    agent_id = (await agents.create_agent(config, ALICE)).agent_id
    session_id = (await agents.create_session(agent_id, "s", ALICE)).session_id
    turn: Turn | None = None
    async with aclosing(agents.create_turn(agent_id, session_id, [UserMessage(content="Go.")], ALICE)) as events:
        async for event in events:
            if isinstance(event, TurnCompleted):
                turn = event.turn
    assert turn is not None
    return turn


async def test_a_server_that_dies_in_a_call_is_told_to_the_model_and_the_turn_goes_on(tmp_path: Path) -> None:
    scripts = [calls(("die", "{}")), calls(("add", '{"left": 2, "right": 2}')), says("Four, after all.")]
    async with agents_of(tmp_path, *scripts) as agents:
        turn = await turn_of(agents, {"identifier": "mcp::shop", "tools": ["die", "add"]})
    died, added = [step for step in turn.steps if isinstance(step, ToolExecutionStep)]
    assert died.failed
    assert "ended and did not answer the call of die" in str(died.results[0].content)
    assert added.results[0].content == "4"
    assert turn.end_reason == "completed"


async def test_a_server_that_cannot_be_listed_is_named_to_the_caller(tmp_path: Path) -> None:
    async with agents_of(tmp_path) as agents:
        with pytest.raises(ProviderUnavailable, match=r"the MCP server 'mcp::away' \(http://127\.0\.0\.1:.*cannot be"):
            await turn_of(agents, "mcp::away")


async def test_an_agent_may_name_a_server_itself_where_the_operator_lets_it(tmp_path: Path) -> None:
    async with serving(workshop().streamable_http_app()) as url:
        group = {"identifier": "mine", "mcp_endpoint": f"{url}/mcp", "tools": ["add"], "args": {"right": 40}}
        async with agents_of(tmp_path / "closed") as agents:
            with pytest.raises(InvalidRequest, match="inside the server's own network"):
                await turn_of(agents, group)
        scripts = [calls(("add", '{"left": 2}')), says("42.")]
        async with agents_of(tmp_path / "open", *scripts, allow_private_addresses=True) as agents:
            turn = await turn_of(agents, group)
    added = next(step for step in turn.steps if isinstance(step, ToolExecutionStep))
    assert added.results[0].content == "42"
