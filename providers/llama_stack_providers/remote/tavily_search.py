"""Web search with Tavily (docs.tavily.com, API reference, "Search").

Request: `POST /search` with JSON and the key as bearer token. The answer's `results` hold title, url and content of
each page; 432 and 433 say that the plan, or the pay-as-you-go limit, is used up.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.tools import ToolResult, Tools
from llama_stack.errors import ProviderFailed
from llama_stack.provider import InferenceFloor, ToolsProvider
from llama_stack_providers.remote._query_tool.settings import ServiceSettings
from llama_stack_providers.remote._web_search.results import Found, SearchSettings, fit_query, found, search_result
from llama_stack_providers.remote._web_search.scope import Scope

if TYPE_CHECKING:
    from llama_stack_providers.remote._query_tool.service import Service

CREDENTIAL = "tavily_search_api_key"
MAX_QUERY_CHARS = 400


class Config(ServiceSettings, SearchSettings):
    search_depth: Literal["basic", "advanced"] = Field(
        "basic", description="advanced reads more of each page and costs twice as much"
    )
    topic: Literal["general", "news", "finance"] = Field("general", description="kind of pages to search")
    include_domains: list[str] = Field([], max_length=300, description="search these domains only")
    exclude_domains: list[str] = Field([], max_length=150, description="leave these domains out")


class TavilySearch:
    def __init__(self, service: "Service", config: Config) -> None:
        self._service = service
        self._config = config

    async def search(self, query: str, scope: Scope, caller: Caller) -> ToolResult:
        key, settings = self._service.key_for(caller), scope.sized(self._config)
        asked, note = fit_query(query, MAX_QUERY_CHARS)
        within = scope.both(self._config.include_domains)
        if within is None:
            return search_result(asked, [], settings, "No allowed domain is one that may be searched here.")
        body: JsonObject = {
            "query": asked,
            "max_results": settings.max_results,
            "search_depth": self._config.search_depth,
            "topic": self._config.topic,
        }
        if within.allowed_domains:
            body["include_domains"] = list(within.allowed_domains)
        if self._config.exclude_domains:
            body["exclude_domains"] = self._config.exclude_domains
        answer = await self._service.ask_json(
            "POST", "search", key=key, headers={"authorization": f"Bearer {key}"}, body=body
        )
        return search_result(asked, filter(scope.admits, pages_of(answer)), settings, note)


def pages_of(answer: JsonObject) -> list[Found | None]:
    """The pages of an answer, best first. Raises ProviderFailed for an answer without a list of results."""
    results = answer.get("results")
    if not isinstance(results, list):
        raise ProviderFailed("Tavily sent an answer without results in it")
    return [
        found(entry.get("title"), entry.get("url"), entry.get("content"), entry.get("published_date"))
        for entry in results
        if isinstance(entry, dict)
    ]


@asynccontextmanager
async def open_tavily_search(config: Config, floor: InferenceFloor) -> AsyncIterator[Tools]:
    from llama_stack_providers.remote._query_tool.service import Vendor, open_service
    from llama_stack_providers.remote._web_search.tools import web_search

    vendor = Vendor("Tavily", "https://api.tavily.com/", "TAVILY_API_KEY", CREDENTIAL, used_up=(432, 433))
    async with open_service(vendor, config, floor.ground) as service:
        yield web_search(TavilySearch(service, config).search)


provider = ToolsProvider(
    summary="Web search with Tavily",
    config=Config,
    open=open_tavily_search,
    credentials={CREDENTIAL: "api_key"},
)
