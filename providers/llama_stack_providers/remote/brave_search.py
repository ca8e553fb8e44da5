"""Web search with the Brave Search API (api-dashboard.search.brave.com/documentation, "Web search").

Request: `GET /res/v1/web/search?q=...` with the key in `X-Subscription-Token`. The answer holds lists of results by
kind (`web`, `news`, `discussions`, ...) and, in `mixed.main`, the order in which to show them.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

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

CREDENTIAL = "brave_search_api_key"
MAX_QUERY_CHARS = 400
MAX_QUERY_WORDS = 50
KINDS = ("web", "news", "discussions", "faq")
"""Kinds of results whose entries are pages with a text; the others are pictures, videos and maps."""


class Config(ServiceSettings, SearchSettings):
    country: str | None = Field(None, pattern="^[A-Z]{2}$", description="two-letter code; the engine's own default")
    safesearch: Literal["off", "moderate", "strict"] = Field("moderate", description="filter for adult content")


class BraveSearch:
    def __init__(self, service: "Service", config: Config) -> None:
        self._service = service
        self._config = config

    async def search(self, query: str, scope: Scope, caller: Caller) -> ToolResult:
        key, settings = self._service.key_for(caller), scope.sized(self._config)
        # Two words a domain: itself and OR.
        operators, words = scope.operators(MAX_QUERY_CHARS), MAX_QUERY_WORDS - 2 * len(scope.allowed_domains)
        asked, note = fit_query(query, MAX_QUERY_CHARS - len(operators), max(1, words))
        parameters = {
            "q": asked + operators,
            "count": str(settings.max_results),
            "safesearch": self._config.safesearch,
            "result_filter": ",".join(KINDS),
            "text_decorations": "false",
        }
        if self._config.country is not None:
            parameters["country"] = self._config.country
        answer = await self._service.ask_json(
            "GET", "web/search", key=key, headers={"x-subscription-token": key}, query=parameters
        )
        return search_result(asked, filter(scope.admits, pages_of(answer)), settings, note)


def pages_of(answer: JsonObject) -> list[Found | None]:
    """The pages of an answer in Brave's own order; in the order of `web.results` where it gives none.

    Raises ProviderFailed for an answer that holds no known kind of result and does not say that nothing was found.
    """
    if answer.get("type") != "search" and not any(kind in answer for kind in KINDS):
        raise ProviderFailed("Brave Search sent an answer without results in it")
    lists = {kind: _results(answer.get(kind)) for kind in KINDS}
    mixed = answer.get("mixed")
    order = mixed.get("main") if isinstance(mixed, dict) else None
    entries = list(_in_order(lists, order)) if isinstance(order, list) else []
    # What the order leaves out comes last; without an order this is all there is.
    entries += [entry for kind in KINDS for entry in lists[kind]]
    return [_page(entry) for entry in entries]


def _results(section: Any) -> list[JsonObject]:
    listed = section.get("results") if isinstance(section, dict) else None
    return [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []


def _in_order(lists: dict[str, list[JsonObject]], order: list[Any]) -> Iterator[JsonObject]:
    """mixed.main: `{"type": "web", "index": 0, "all": false}` is one result, `"all": true` the whole list."""
    for reference in order:
        if not isinstance(reference, dict):
            continue
        listed = lists.get(str(reference.get("type")), [])
        index = reference.get("index")
        if reference.get("all") is True:
            yield from listed
        elif isinstance(index, int) and 0 <= index < len(listed):
            yield listed[index]


def _page(entry: JsonObject) -> Found | None:
    if "question" in entry:
        return found(entry["question"], entry.get("url"), entry.get("answer"))
    return found(entry.get("title"), entry.get("url"), entry.get("description"), entry.get("age"))


@asynccontextmanager
async def open_brave_search(config: Config, floor: InferenceFloor) -> AsyncIterator[Tools]:
    from llama_stack_providers.remote._query_tool.service import Vendor, open_service
    from llama_stack_providers.remote._web_search.tools import web_search

    vendor = Vendor(
        "Brave Search",
        "https://api.search.brave.com/res/v1/",
        "BRAVE_SEARCH_API_KEY",
        CREDENTIAL,
        bad_key=("SUBSCRIPTION_TOKEN_INVALID",),
    )
    async with open_service(vendor, config, floor.ground) as service:
        yield web_search(BraveSearch(service, config).search)


provider = ToolsProvider(
    summary="Web search with the Brave Search API",
    config=Config,
    open=open_brave_search,
    credentials={CREDENTIAL: "api_key"},
)
