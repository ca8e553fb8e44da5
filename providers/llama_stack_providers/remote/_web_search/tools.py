"""The one tool that every web search serves, so that engines can be exchanged without the model noticing."""

from collections.abc import Awaitable, Callable
from typing import Any

from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolResult
from llama_stack_providers.remote._query_tool.tools import QueryTools
from llama_stack_providers.remote._web_search.scope import ARGUMENTS, Scope

Search = Callable[[str, Scope, Caller], Awaitable[ToolResult]]


def web_search(search: Search) -> QueryTools:
    """The tool `web_search(query: string)`, answered by `search`; its scope comes from the group's `args`."""

    async def answer(query: str, caller: Caller, **scope: Any) -> ToolResult:
        return await search(query, Scope.of(**scope), caller)

    return QueryTools(
        "web_search",
        "Search the web. Gives the titles, addresses and short extracts of the pages that fit best.",
        "What to search for: a few words or a short question.",
        answer,
        ARGUMENTS,
    )
