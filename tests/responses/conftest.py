"""A real server over a real stack whose model follows a script, and an unmodified `openai` client."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from llama_stack.api.common import Caller
from llama_stack.api.safety import Safety
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult, Tools
from llama_stack.compose import LocalStack
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack


class FixedTools:
    """Tools that answer with what a function of their name gives, and remember what they were called with."""

    def __init__(self, **tools: Callable[..., ToolResult]) -> None:
        self._tools = tools
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.callers: list[Caller] = []

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [
            ToolDefinition(name=name, description=f"Does {name}.", parameters={"type": "object"})
            for name in self._tools
        ]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        self.calls.append((name, arguments))
        self.callers.append(caller)
        return self._tools[name](**arguments)


@dataclass(frozen=True)
class Running:
    """A server, the stack under it, its script, and two clients."""

    url: str
    stack: LocalStack
    inference: ScriptedInference
    openai: AsyncOpenAI
    http: httpx.AsyncClient

    async def rows(self) -> dict[str, int]:
        """How many rows each table of the database has."""
        from sqlalchemy import func, select

        from llama_stack.storage.tables import metadata

        database = await self.stack.database()
        async with database.read() as connection:
            return {
                table.name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                for table in metadata.sorted_tables
            }


async def streamed(openai: AsyncOpenAI, **request: Any) -> list[Any]:
    """Every event of a streamed response."""
    stream = await openai.responses.create(**{"model": "scripted", "stream": True, **request})
    return [event async for event in stream]


def told(running: Running, number: int = -1) -> list[Any]:
    """The messages the model was given."""
    return running.inference.requests[number].messages  # type: ignore[union-attr]


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a server; started again in the same test, it finds what the first one kept."""

    @asynccontextmanager
    async def started(
        *scripts: Script,
        inference: ScriptedInference | None = None,
        tools: Mapping[str, Tools] | None = None,
        shields: Mapping[str, Safety] | None = None,
        context_length: int | None = None,
        **settings: Any,
    ) -> AsyncIterator[Running]:
        model = inference or ScriptedInference(*scripts)
        async with (
            open_scripted_stack(
                inference=model,
                tools=tools,
                shields=shields,
                context_length=context_length,
                home=tmp_path,
                **settings,
            ) as stack,
            serving(create_app(stack)) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
            httpx.AsyncClient(base_url=url, verify=False) as http,
        ):
            yield Running(url, stack, model, openai, http)

    return started
