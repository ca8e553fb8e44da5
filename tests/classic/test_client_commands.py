"""The command line of the unmodified client, for what this server has."""

import asyncio
from typing import Any

import pytest
from click.testing import CliRunner, Result
from llama_stack_client.lib.cli.llama_stack_client import llama_stack_client

from llama_stack import __version__
from llama_stack.testing.scripted import says
from tests.classic.conftest import Arithmetic, Running, Start


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands print tables as wide as the terminal, and cut what does not fit."""
    monkeypatch.setenv("COLUMNS", "400")


async def command(server: Running, *words: str) -> str:
    def run() -> Result:
        return CliRunner().invoke(llama_stack_client, ["--endpoint", server.url, *words], catch_exceptions=False)

    result = await asyncio.to_thread(run)
    assert result.exit_code == 0, result.output
    return result.output


async def test_models_providers_and_version(start_agents: Start) -> None:
    async with start_agents() as server:
        listed = await command(server, "models", "list")
        one = await command(server, "models", "get", "scripted")
        registered = await command(
            server, "models", "register", "quick", "--provider-model-id", "scripted", "--metadata", '{"tier": "fast"}'
        )
        again = await command(server, "models", "list")
        await command(server, "models", "unregister", "quick")
        providers = await command(server, "providers", "list")
        provider = await command(server, "providers", "inspect", "scripted")
        version = await command(server, "inspect", "version")
    assert "scripted" in listed
    assert "Total models: 1" in listed
    assert "llm" in one
    assert "Successfully registered model quick" in registered
    assert "{'tier': 'fast'}" in again
    assert "inline::scripted" in providers
    assert "provider_id=scripted" in provider
    assert __version__ in version


async def test_tool_groups_and_shields(start_agents: Start) -> None:
    providers: Any = {"tools": [{"provider_id": "mcp", "provider_type": "remote::mcp"}]}
    async with start_agents(tools={"builtin::math": Arithmetic()}, providers=providers) as server:
        listed = await command(server, "toolgroups", "list")
        one = await command(server, "toolgroups", "get", "builtin::math")
        await command(
            server,
            *("toolgroups", "register", "mcp::shop", "--provider-id", "mcp"),
            *("--mcp-endpoint", "https://example.com/mcp", "--args", '{"b": 2}'),
        )
        again = await command(server, "toolgroups", "list")
        await command(server, "toolgroups", "unregister", "mcp::shop")
        shields = await command(server, "shields", "list")
    assert "builtin::math" in listed
    assert "divide" in one
    assert "https://example.com/mcp" in again
    assert "{'b': 2.0}" in again
    assert "Traceback" not in shields


async def test_a_chat(start: Start) -> None:
    async with start(says("Hello", " there")) as server:
        whole = await command(server, "inference", "chat-completion", "--message", "hi")
        streamed = await command(server, "inference", "chat-completion", "--message", "hi", "--stream")
    assert "Hello there" in whole
    assert "Assistant> Hello there" in streamed


async def test_an_error_is_printed(start: Start) -> None:
    async with start() as server:
        failed = await command(server, "models", "get", "nope")
    assert "nope" in failed
