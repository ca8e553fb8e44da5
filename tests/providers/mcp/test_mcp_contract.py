"""The provider keeps the contract of all tools providers, with a server of the SDK behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from llama_stack.api.common import Caller
from llama_stack.api.inference import Inference
from llama_stack.api.tools import ToolGroup
from llama_stack.provider import Ground, ToolsFloor
from llama_stack.testing.tools_contract import Backend, OpenTools, ToolsContract
from llama_stack_providers.remote._mcp.settings import Config
from llama_stack_providers.remote.mcp import provider
from tests.providers.mcp.conftest import serving
from tests.providers.tools.opening import no_memory

KEY = "key-of-the-operator"


class TestMcpTools(ToolsContract):
    tool: ClassVar[str] = "weigh"
    arguments: ClassVar[dict[str, Any]] = {"things": ["clay", "glaze"]}
    wrong_arguments: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"things": "clay"}, {"things": [{"name": "clay"}]})
    secrets: ClassVar[tuple[str, ...]] = (KEY, "key-of-alice")
    group: ClassVar[ToolGroup] = ToolGroup(identifier="group", provider_id="provider", provider_resource_id="scales")
    caller: ClassVar[Caller] = Caller(
        owner="alice", provider_credentials={"mcp_headers": {"group": {"Authorization": "Bearer key-of-alice"}}}
    )

    @asynccontextmanager
    async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
        asked, left = asyncio.Event(), asyncio.Event()
        server: MCPServer[Any] = MCPServer("scales", log_level="CRITICAL")

        @server.tool()
        async def weigh(things: list[str]) -> str:
            """Weigh things."""
            asked.set()
            if backend == "fails":
                raise ToolError(f"Bearer key-of-alice and {KEY} are no good")
            try:
                await asyncio.Event().wait() if backend == "hangs" else None
            finally:
                left.set()
            return f"{len(things)} kg"

        async with serving(server.streamable_http_app()) as url:
            scales = {"url": f"{url}/mcp", "headers": {"X-Key": KEY}}
            floor = ToolsFloor(Ground(home=home, state=home), cast(Inference, None), no_memory)
            async with provider.open(Config.model_validate({"servers": {"scales": scales}}), floor) as tools:
                yield OpenTools(tools, asked, left)
