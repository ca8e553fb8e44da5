"""Web search without a key, through the PyPI package `ddgs`, which reads the result pages of search engines.

There is no agreement with those engines behind it: their terms may forbid it, and they refuse callers they take for
robots. So it runs only where a person has written `allow_scraping: true`. The package has a client of its own and
blocks, so each search runs in one of a few processes (`_ddgs/`), and goes past the stack's own HTTP door.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from pydantic import Field, field_validator

from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolResult, Tools
from llama_stack.errors import ConfigError, ProviderFailed, ProviderTimeout, RateLimited
from llama_stack.provider import InferenceFloor, ToolsProvider
from llama_stack_providers.remote._ddgs.processes import SearchProcesses
from llama_stack_providers.remote._query_tool.text import clean, cut
from llama_stack_providers.remote._web_search.results import SearchSettings, fit_query, found, search_result
from llama_stack_providers.remote._web_search.scope import Scope

MAX_SEARCHES = 4
MAX_QUERY_CHARS = 400
MAX_MESSAGE_BYTES = 500
NOTHING_FOUND = "No results found."


class Config(SearchSettings):
    allow_scraping: bool = Field(
        False, validate_default=True, description="must be true: says that you may read search engines' result pages"
    )
    engines: list[str] = Field(["duckduckgo"], min_length=1, description="engines to ask, or `auto` for all it knows")
    region: str = Field("us-en", pattern="^[a-z]{2}-[a-z]{2}$", description="country and language of the results")
    safesearch: Literal["off", "moderate", "on"] = Field("moderate", description="filter for adult content")

    @field_validator("allow_scraping")
    @classmethod
    def _allowed(cls, allowed: bool) -> bool:
        if not allowed:
            raise ValueError(
                "must be true, because this provider reads search engines' result pages, which their terms may forbid;"
                " otherwise leave the provider out (the starter does when DDGS_ALLOW_SCRAPING is unset)"
            )
        return allowed


class DdgsSearch:
    def __init__(self, processes: SearchProcesses, config: Config) -> None:
        self._processes = processes
        self._config = config

    async def search(self, query: str, scope: Scope, caller: Caller) -> ToolResult:
        """Cancelling it ends the search, and the process that does it."""
        operators = scope.operators(MAX_QUERY_CHARS)
        asked, note = fit_query(query, MAX_QUERY_CHARS - len(operators))
        try:
            async with asyncio.timeout(self._config.timeout_s):
                said = await self._processes.answer(asked + operators)
        except TimeoutError as error:
            raise self._too_late() from error
        match said.get("failure"):
            case "rate_limited":
                raise RateLimited("the search engines want fewer questions for a while")
            case "timeout":
                raise self._too_late()
            case "failed" if said["message"] == NOTHING_FOUND:
                note = "The engines may also have refused to answer: they do not always say so."
            case "failed":
                told = cut(clean(said["message"]), MAX_MESSAGE_BYTES)
                raise ProviderFailed(f"the search engines did not answer: {told}")
        pages = [found(row.get("title"), row.get("href"), row.get("body")) for row in said.get("rows", [])]
        return search_result(asked, filter(scope.admits, pages), scope.sized(self._config), note)

    def _too_late(self) -> ProviderTimeout:
        return ProviderTimeout(f"the search engines did not answer within {self._config.timeout_s:g} s")


def _check_engines(config: Config) -> None:
    """Raises ConfigError for an engine that the package does not know, or when it is not installed."""
    try:
        from ddgs.engines import ENGINES
    except ImportError as error:
        raise ConfigError("remote::ddgs needs the package ddgs", remedy="pip install 'llama-stack[ddgs]'") from error
    known = [*ENGINES["text"], "auto"]
    for engine in config.engines:
        # The package itself would ask all the others instead.
        if engine not in known:
            raise ConfigError(f"engines: ddgs knows no {engine!r}; it knows {', '.join(known)}")


def _settings(config: Config) -> dict[str, Any]:
    """For the worker: the arguments of the package's search."""
    search = {
        "region": config.region,
        "safesearch": config.safesearch,
        "max_results": config.max_results,
        "backend": ",".join(config.engines),
    }
    return {"timeout_s": max(1, round(config.timeout_s)), "search": search}


@asynccontextmanager
async def open_ddgs(config: Config, floor: InferenceFloor) -> AsyncIterator[Tools]:
    from llama_stack_providers.remote._web_search.tools import web_search

    _check_engines(config)
    processes = SearchProcesses(_settings(config), MAX_SEARCHES)
    try:
        yield web_search(DdgsSearch(processes, config).search)
    finally:
        await processes.close()


provider = ToolsProvider(
    summary="Web search without a key, by reading search engines' pages (opt-in)",
    config=Config,
    open=open_ddgs,
    requires=("ddgs>=9",),
)
