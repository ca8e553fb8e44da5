"""The provider as a distribution opens it, and the SDK's own servers on loopback."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import uvicorn
from starlette.types import ASGIApp

from llama_stack.api.common import Caller
from llama_stack.api.inference import Inference
from llama_stack.api.tools import ToolGroup, Tools
from llama_stack.provider import Ground, ToolsFloor
from llama_stack_providers.remote._mcp.settings import Config
from llama_stack_providers.remote.mcp import provider
from tests.providers.tools.opening import no_memory

WORKSHOP = Path(__file__).parent / "workshop.py"
ALICE = Caller(owner="alice")

Open = Callable[..., AbstractAsyncContextManager[Tools]]


@pytest.fixture
def open_tools(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Tools]:
        # No MCP tool asks a model for anything: an inference that is none would be found out.
        floor = ToolsFloor(Ground(home=tmp_path, state=tmp_path), cast(Inference, None), no_memory)
        async with provider.open(Config.model_validate(settings), floor) as tools:
            yield tools

    return opened


def stdio_server(*arguments: str, **settings: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(WORKSHOP), *arguments], **settings}


def group_at(url: str, *, from_caller: bool = False) -> ToolGroup:
    return ToolGroup(
        identifier="mcp::test",
        provider_id="mcp",
        provider_resource_id="mcp::test",
        mcp_endpoint=url,
        from_caller=from_caller,
    )


def group_named(server: str, *, from_caller: bool = False) -> ToolGroup:
    return ToolGroup(identifier="mcp::test", provider_id="mcp", provider_resource_id=server, from_caller=from_caller)


def with_headers(url: str, owner: str = "alice", **headers: str) -> Caller:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Caller(owner=owner, provider_credentials={"mcp_headers": {url: named}})


@asynccontextmanager
async def serving(app: ASGIApp, *, lifespan: Literal["on", "off"] = "on") -> AsyncIterator[str]:
    """A server in this event loop; gives its URL without a path. Streams that are still open are cut off."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, loop="none", ws="none", access_log=False, log_config=None, lifespan=lifespan, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    server.capture_signals = _nothing  # type: ignore[method-assign]  # the test runner keeps its own
    task = asyncio.create_task(server.serve(sockets=[listener]))

    async def started() -> bool:
        return server.started

    try:
        await eventually(started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110  # the network and the processes tell nobody
            await asyncio.sleep(0.01)
