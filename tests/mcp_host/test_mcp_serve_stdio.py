"""`llama mcp serve`: a host starts the program and calls a tool of a server behind it, and an agent."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
from mcp import Client, StdioServerParameters
from mcp_types import TextContent

from llama_stack.api.agents import AgentConfig
from llama_stack.api.common import Caller
from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution
from tests.providers.mcp.conftest import WORKSHOP
from tests.providers.remote.upstream import HANG, running, stream_reply, text_chunk

FILE = """
version: 1
name: gateway
providers:
  inference:
    - provider_id: upstream
      provider_type: remote::openai-compatible
      config:
        base_url: {url}
      models:
        - identifier: m
  tools:
    - provider_id: mcp
      provider_type: remote::mcp
      config:
        servers:
          shop:
            command: {python}
            args: ["{workshop}"]
      tool_groups:
        - identifier: mcp::shop
          provider_resource_id: shop
"""


async def test_a_host_calls_a_tool_behind_the_stack_and_an_agent(tmp_path: Path, stack_home: Path) -> None:
    async with running(stream_reply(text_chunk("Good day.", "stop"))) as upstream, asyncio.timeout(60):
        file = tmp_path / "gateway.yaml"
        file.write_text(FILE.format(url=upstream.url, python=sys.executable, workshop=WORKSHOP), encoding="utf-8")
        async with open_stack(load_distribution(str(file))) as stack:
            await (await stack.agents()).create_agent(AgentConfig(model="m", name="greeter"), Caller(owner="local"))

        others = psutil.Process().children(recursive=True)
        program = StdioServerParameters(
            command=sys.executable,
            args=["-m", "llama_stack", "mcp", "serve", str(file)],
            env={"LLAMA_STACK_HOME": str(stack_home)},
        )
        async with Client(program) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert {"add", "greeter"} <= set(names)
            children = [child for child in psutil.Process().children(recursive=True) if child not in others]
            added = await client.call_tool("add", {"left": 2, "right": 3})
            assert added.content == [TextContent(text="5")]
            answer = await client.call_tool("greeter", {"message": "hello"})
            assert answer.content == [TextContent(text="Good day.")]
            failed = await client.call_tool("break_a_rule", {})
            assert failed.is_error
        assert len(children) >= 2, "the program and the server behind it"
        _, alive = await asyncio.to_thread(psutil.wait_procs, children, timeout=60)
        assert not [child for child in alive if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


async def test_over_stdio_a_call_is_cancelled_and_the_program_goes_on(tmp_path: Path, stack_home: Path) -> None:
    hanging = stream_reply(done=False, then=HANG)
    async with running(hanging, stream_reply(text_chunk("Good day.", "stop"))) as upstream, asyncio.timeout(60):
        file = tmp_path / "gateway.yaml"
        file.write_text(FILE.format(url=upstream.url, python=sys.executable, workshop=WORKSHOP), encoding="utf-8")
        async with open_stack(load_distribution(str(file))) as stack:
            await (await stack.agents()).create_agent(AgentConfig(model="m", name="greeter"), Caller(owner="local"))
        program = StdioServerParameters(
            command=sys.executable,
            args=["-m", "llama_stack", "mcp", "serve", str(file)],
            env={"LLAMA_STACK_HOME": str(stack_home)},
        )
        begun = asyncio.Event()

        async def told(progress: float, total: float | None, message: str | None) -> None:
            begun.set()

        async with Client(program, mode="legacy") as client:
            call = asyncio.create_task(client.call_tool("greeter", {"message": "hello"}, progress_callback=told))
            await begun.wait()
            call.cancel()
            answer = await client.call_tool("greeter", {"message": "hello"})
            assert answer.content == [TextContent(text="Good day.")]


def test_a_server_does_not_load_the_package_before_it_is_asked() -> None:
    program = (
        "import sys; from llama_stack.server.app import create_app; from llama_stack.testing.scripted import *;"
        "import llama_stack_providers.remote.mcp; create_app(ScriptedStack());"
        "print([name for name in sys.modules if name.split('.')[0] in ('mcp', 'mcp_types', 'httpx2')])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
