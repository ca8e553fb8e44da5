"""The Tools of a provider that answers queries: one tool, one argument, every failure in words for the model."""

from collections.abc import Awaitable, Callable
from typing import Any

from llama_stack.agents.json_schema import schema_faults
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import InvalidRequest, NotAuthenticated, NotFound, ProviderFailed, RateLimited, StackError

Answer = Callable[..., Awaitable[ToolResult]]
"""Answers one query: `answer(query, caller)`, with what was given of the further arguments by name.

Raises NotAuthenticated, RateLimited or ProviderFailed for a failure the model is told of.
"""


class QueryTools:
    """Fulfils the Tools protocol with one tool `name(query: string)`.

    further: JSON Schemas of arguments that the model is not shown, for whoever offers the tool to it.
    """

    def __init__(
        self, name: str, description: str, query_description: str, answer: Answer, further: JsonObject | None = None
    ) -> None:
        query = {"type": "string", "description": query_description, "minLength": 1, "pattern": r"\S"}
        self._parameters: JsonObject = {
            "type": "object",
            "properties": {"query": query},
            "required": ["query"],
            "additionalProperties": False,
        }
        self._definition = ToolDefinition(name=name, description=description, parameters=self._parameters)
        self._taken = {**self._parameters, "properties": {"query": query, **(further or {})}}
        self._answer = answer

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [self._definition.model_copy(deep=True)]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        if name != self._definition.name:
            raise NotFound(
                f"the tool group {tool_group.identifier} has no tool {name!r}; its tool is {self._definition.name!r}"
            )
        faults = schema_faults(arguments, self._taken)
        if faults:
            raise InvalidRequest(f"{name}: {'; '.join(faults)}", param="query")
        further = {key: value for key, value in arguments.items() if key != "query"}
        try:
            return await self._answer(_speakable(arguments["query"]), caller, **further)
        except (NotAuthenticated, RateLimited, ProviderFailed) as error:
            return failed(error)


def failed(error: StackError) -> ToolResult:
    """The failure as the tool's result; `metadata` tells the caller its code, its status and how long to wait."""
    told: JsonObject = {"code": error.code, "status": error.http_status}
    if error.retry_after_s is not None:
        told["retry_after_s"] = error.retry_after_s
    return ToolResult(content=f"Error: {error.message}", is_error=True, metadata=told)


def _speakable(query: str) -> str:
    """The query as UTF-8 can carry it: half of a surrogate pair, which JSON may escape, becomes a question mark."""
    return query.encode(errors="replace").decode().strip()
