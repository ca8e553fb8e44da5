"""A tools provider as a distribution opens it, and what its tests share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llama_stack.api.common import Caller
from llama_stack.api.memory import Memory
from llama_stack.api.messages import text_of
from llama_stack.api.tools import ToolGroup, ToolResult, Tools
from llama_stack.errors import ProviderUnavailable
from llama_stack.provider import Ground, ToolsFloor, ToolsProvider
from llama_stack.testing.scripted import ScriptedInference

KEY = "key-configured-0123456789"
OWN_KEY = "key-of-the-caller-9876543210"
GROUP = ToolGroup(identifier="builtin::websearch", provider_id="p", provider_resource_id="builtin::websearch")
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


async def no_memory() -> Memory:
    raise ProviderUnavailable("these tools need no memory")


@asynccontextmanager
async def opened(provider: ToolsProvider, home: Path, **settings: Any) -> AsyncIterator[Tools]:
    config = provider.config.model_validate(settings)
    ground = Ground(home=home, state=home, now=lambda: NOW)
    async with provider.open(config, ToolsFloor(ground, ScriptedInference(), no_memory)) as tools:
        yield tools


async def ask(tools: Tools, query: str, caller: Caller, name: str = "web_search") -> ToolResult:
    return await tools.invoke_tool(GROUP, name, {"query": query}, caller)


def words(result: ToolResult) -> str:
    return text_of(result.content)
