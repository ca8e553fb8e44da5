"""A stack that is served on loopback, with tools to weigh things by."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp_types import CallToolResult, TextContent

from llama_stack.api.common import Caller
from llama_stack.api.inference import Inference
from llama_stack.api.messages import ImagePart, TextPart
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult, Tools
from llama_stack.compose import LocalStack
from llama_stack.errors import ProviderFailed
from llama_stack.server.app import create_app
from llama_stack.server.options import ServerOptions
from llama_stack.server.serve import serving
from llama_stack.testing.scripted_stack import open_scripted_stack

LOCAL = Caller(owner="local")
WEIGH = {
    "type": "object",
    "$defs": {"Thing": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    "properties": {"things": {"type": "array", "items": {"$ref": "#/$defs/Thing"}}, "unit": {"type": "string"}},
    "required": ["things"],
}


class Scales:
    """Tools of a test: one that answers, one that fails, one that waits."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [
            ToolDefinition(name="weigh", description="Weigh things.", parameters=WEIGH),
            ToolDefinition(name="break_down", description="Fails."),
            ToolDefinition(name="explode", description="Fails with a bug."),
            ToolDefinition(name="wait", description="Waits."),
        ]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        self.callers.append(caller)
        match name:
            case "weigh":
                picture = ImagePart(url="data:image/png;base64,AAAA")
                kilograms = len(arguments["things"])
                return ToolResult(
                    content=[TextPart(text=f"{kilograms} kg"), picture],
                    metadata={"structured_content": {"kg": kilograms}, "sources": ["the scales"]},
                )
            case "break_down":
                raise ProviderFailed("the scales are broken; oil them")
            case "wait":
                self.begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled.set()
        raise RuntimeError("a secret place in the code")


@asynccontextmanager
async def served(
    home: Path,
    *scripts: Any,
    options: ServerOptions | None = None,
    tools: Mapping[str, Tools] | None = None,
    inference: Inference | None = None,
) -> AsyncIterator[tuple[LocalStack, str]]:
    async with (
        open_scripted_stack(*scripts, inference=inference, tools=tools, home=home) as stack,
        serving(create_app(stack, options)) as url,
    ):
        yield stack, f"{url}/mcp"


def text(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))
