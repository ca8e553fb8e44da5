"""MCP servers as tool groups: over streamable HTTP or SSE by URL, or as processes that the configuration names.

A tool group is one server: its `mcp_endpoint` is a URL, or its `provider_resource_id` names one of `servers` in the
provider's config. Only the configuration can name a program to start. `_mcp/` holds the parts.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llama_stack.agents.json_schema import schema_faults
from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult, Tools
from llama_stack.errors import ConfigError, InvalidRequest, NotFound, ProviderUnavailable
from llama_stack.provider import Ground, InferenceFloor, ToolsProvider
from llama_stack_providers.remote._mcp.addresses import resolve
from llama_stack_providers.remote._mcp.endpoints import Endpoint, endpoint_of
from llama_stack_providers.remote._mcp.settings import Config

if TYPE_CHECKING:
    from llama_stack_providers.remote._mcp.sessions import Sessions

REQUIREMENT = "mcp>=2,<3"
INSTALL = f"Install it: pip install 'llama-stack[mcp]' ({REQUIREMENT})."
_PARTS = "llama_stack_providers.remote._mcp"


class McpTools:
    """Fulfils the Tools protocol. The SDK takes a second to import, so it is imported with the first use."""

    def __init__(self, config: Config, ground: Ground) -> None:
        self._config = config
        self._ground = ground
        self._importing = asyncio.Lock()
        self._sessions: Sessions | None = None

    async def check_tool_group(self, tool_group: ToolGroup, caller: Caller) -> None:
        endpoint_of(tool_group, caller, self._config)

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        endpoint = endpoint_of(tool_group, caller, self._config)
        return await self._definitions(tool_group, endpoint)

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        endpoint = endpoint_of(tool_group, caller, self._config)
        definitions = {definition.name: definition for definition in await self._definitions(tool_group, endpoint)}
        if name not in definitions:
            raise NotFound(f"{endpoint.name} has no tool {name!r}. It has: {', '.join(definitions) or 'none'}.")
        faults = schema_faults(arguments, definitions[name].parameters or {})
        if faults:
            raise InvalidRequest(f"wrong arguments for {name}: {'; '.join(faults)}", param="arguments")
        return await self._call(tool_group, endpoint, name, arguments)

    async def _definitions(self, tool_group: ToolGroup, endpoint: Endpoint) -> list[ToolDefinition]:
        sessions = await self._open_sessions()
        from llama_stack_providers.remote._mcp.content import definition_of
        from llama_stack_providers.remote._mcp.resources import ResourceTools, has_resources

        definitions = {tool.name: definition_of(tool) for tool in await sessions.tools(endpoint)}
        if self._config.offer_resources and await sessions.ask(endpoint, has_resources, "say what it has"):
            for definition in ResourceTools(tool_group.identifier).definitions:
                definitions.setdefault(definition.name, definition)
        return list(definitions.values())

    async def _call(
        self, tool_group: ToolGroup, endpoint: Endpoint, name: str, arguments: dict[str, Any]
    ) -> ToolResult:
        sessions = await self._open_sessions()
        from llama_stack_providers.remote._mcp.content import result_of
        from llama_stack_providers.remote._mcp.failures import ServerRefused, without
        from llama_stack_providers.remote._mcp.resources import ResourceTools

        is_the_servers = not self._config.offer_resources or name in {
            tool.name for tool in await sessions.tools(endpoint)
        }
        asking = None if is_the_servers else ResourceTools(tool_group.identifier).asking(name, arguments)
        try:
            if asking is not None:
                return await sessions.ask(endpoint, asking, f"answer {name}")
            result = result_of(await sessions.call(endpoint, name, arguments))
        except ServerRefused as refusal:
            return ToolResult(content=f"Error: {refusal.reason}", is_error=True)
        if result.is_error and isinstance(result.content, str):
            return result.model_copy(update={"content": without(endpoint.secrets, result.content)})
        return result

    async def _open_sessions(self) -> "Sessions":
        async with self._importing:
            if self._sessions is None:
                try:
                    parts = await asyncio.to_thread(import_module, f"{_PARTS}.sessions")
                    await asyncio.to_thread(import_module, f"{_PARTS}.content")
                except ImportError as error:
                    raise ProviderUnavailable(f"the package mcp cannot be used: {error}. {INSTALL}") from error
                self._sessions = parts.Sessions(self._config, self._ground, resolve)
        return self._sessions

    async def close(self) -> None:
        if self._sessions is not None:
            await self._sessions.close()


@asynccontextmanager
async def open_mcp(config: Config, floor: InferenceFloor) -> AsyncIterator[Tools]:
    if find_spec("mcp") is None:
        raise ConfigError("remote::mcp needs the package mcp", remedy=INSTALL)
    tools = McpTools(config, floor.ground)
    try:
        yield tools
    finally:
        await tools.close()


provider = ToolsProvider(
    summary="MCP servers by URL, or as processes that the configuration names",
    config=Config,
    open=open_mcp,
    requires=(REQUIREMENT,),
    credentials={"mcp_headers": "servers", "mcp_authorization": "servers"},
)
