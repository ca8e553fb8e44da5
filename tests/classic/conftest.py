"""A real server on loopback and unmodified clients of the package `llama-stack-client` 0.2.12."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from llama_stack_client import AsyncLlamaStackClient, LlamaStackClient

from llama_stack.api.common import Caller
from llama_stack.api.messages import Message, text_of
from llama_stack.api.resources import Shield
from llama_stack.api.safety import ShieldVerdict, Violation, ViolationLevel
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.server.app import create_app
from llama_stack.server.options import ServerOptions
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference, ScriptedStack
from llama_stack.testing.scripted_stack import open_scripted_stack


@dataclass(frozen=True)
class Running:
    """A server, its script, and clients of it. `sync` blocks: use it in a thread."""

    url: str
    inference: ScriptedInference
    client: AsyncLlamaStackClient
    sync: LlamaStackClient
    http: httpx.AsyncClient


Start = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def clients_of(app: Any, inference: ScriptedInference) -> AsyncIterator[Running]:
    async with (
        serving(app) as url,
        AsyncLlamaStackClient(base_url=url, max_retries=0) as client,
        httpx.AsyncClient(base_url=url, verify=False) as http,
    ):
        with LlamaStackClient(base_url=url, max_retries=0) as sync:
            yield Running(url, inference, client, sync, http)


@asynccontextmanager
async def start_inference(
    *scripts: Script, inference: ScriptedInference | None = None, options: ServerOptions | None = None
) -> AsyncIterator[Running]:
    inference = inference or ScriptedInference(*scripts)
    async with clients_of(create_app(ScriptedStack(inference), options), inference) as running:
        yield running


@pytest.fixture
def start() -> Start:
    """A server that has a scripted model and no agents."""
    return start_inference


class Arithmetic:
    """Tools that add and divide; `seen` has the arguments of every call."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        numbers = {name: {"type": "integer", "description": f"number {name}"} for name in ("x", "y")}
        schema = {"type": "object", "properties": numbers, "required": ["x", "y"]}
        return [
            ToolDefinition(name=name, description=f"{name.title()}s two numbers", parameters=schema)
            for name in ("add", "divide")
        ]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        self.seen.append(arguments)
        if name == "add":
            return ToolResult(content=str(arguments["x"] + arguments["y"]), metadata={"source": "head"})
        if arguments["y"] == 0:
            return ToolResult(content="division by zero", is_error=True)
        return ToolResult(content=str(arguments["x"] // arguments["y"]))


class Guard:
    """A shield that objects to a word."""

    def __init__(self, word: str) -> None:
        self._word = word

    async def run_shield(
        self, shield: Shield, messages: list[Message], caller: Caller, params: dict[str, Any] | None = None
    ) -> ShieldVerdict:
        if self._word not in text_of(messages[-1].content):
            return ShieldVerdict()
        metadata = {"violation_type": "S1"}
        return ShieldVerdict(
            violation=Violation(level=ViolationLevel.ERROR, user_message="I cannot help.", metadata=metadata)
        )


@pytest.fixture
def start_agents(tmp_path: Path) -> Start:
    """A whole stack with a scripted model: `start_agents(*scripts, tools=..., shields=...)`."""

    @asynccontextmanager
    async def starting(*scripts: Script, **settings: Any) -> AsyncIterator[Running]:
        inference = ScriptedInference(*scripts)
        async with (
            open_scripted_stack(inference=inference, home=tmp_path, **settings) as stack,
            clients_of(create_app(stack), inference) as running,
        ):
            yield running

    return starting


def frames_of(body: bytes) -> list[Any]:
    """The frames of a classic stream, each parsed; checks the framing byte by byte on the way."""
    assert body.endswith(b"\n\n"), "a frame without its blank line is dropped by the client"
    frames = body.removesuffix(b"\n\n").split(b"\n\n")
    assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames), body
    return [orjson.loads(frame.removeprefix(b"data: ")) for frame in frames]
