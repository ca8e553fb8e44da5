"""The starter's tool groups: which are there with which keys, and a call of one through the composed stack."""

from pathlib import Path

import pytest

from llama_stack.api.agents import ToolGroupUse
from llama_stack.api.common import Caller
from llama_stack.compose import open_stack, resolve_providers
from llama_stack.distribution import Distribution, load_distribution
from llama_stack.errors import ConfigError, NotFound
from tests.providers.remote.upstream import json_reply, running

BRAVE = {"BRAVE_SEARCH_API_KEY": "brave-key"}
TAVILY = {"TAVILY_API_KEY": "tavily-key"}
DDGS = {"DDGS_ALLOW_SCRAPING": "true"}
WOLFRAM = {"WOLFRAM_ALPHA_API_KEY": "wolfram-key"}
SEARCHES = ("remote::brave-search", "remote::tavily-search", "remote::ddgs", "remote::wolfram-alpha")


def searches(distribution: Distribution) -> dict[str, str]:
    """Tool group -> provider that serves it, of the providers this folder tests."""
    return {
        group.identifier: entry.provider_id
        for entry in distribution.providers.tools
        if entry.provider_id is not None and entry.provider_type in SEARCHES
        for group in entry.tool_groups
    }


@pytest.mark.parametrize(
    ("env", "groups"),
    [
        ({}, {}),
        ({"BRAVE_SEARCH_API_KEY": ""}, {}),
        (BRAVE, {"builtin::websearch": "brave-search"}),
        (TAVILY, {"builtin::websearch": "tavily-search"}),
        (DDGS, {"builtin::websearch": "ddgs"}),
        (WOLFRAM, {"builtin::wolfram_alpha": "wolfram-alpha"}),
        (BRAVE | TAVILY, {"builtin::websearch": "brave-search", "builtin::websearch-tavily": "tavily-search"}),
        (BRAVE | DDGS, {"builtin::websearch": "brave-search", "builtin::websearch-ddgs": "ddgs"}),
        (TAVILY | DDGS, {"builtin::websearch": "tavily-search", "builtin::websearch-ddgs": "ddgs"}),
        (
            BRAVE | TAVILY | DDGS | WOLFRAM,
            {
                "builtin::websearch": "brave-search",
                "builtin::websearch-tavily": "tavily-search",
                "builtin::websearch-ddgs-ddgs": "ddgs",
                "builtin::wolfram_alpha": "wolfram-alpha",
            },
        ),
    ],
)
def test_a_tool_group_is_there_once_its_key_is(env: dict[str, str], groups: dict[str, str]) -> None:
    distribution = load_distribution("starter", env=env)
    assert searches(distribution) == groups
    keys = [provider.masked_config.get("api_key") for provider in resolve_providers(distribution)]
    assert not {"brave-key", "tavily-key", "wolfram-key"}.intersection(map(str, keys))


def test_scraping_that_is_switched_off_is_refused_with_the_remedy() -> None:
    distribution = load_distribution("starter", env={"DDGS_ALLOW_SCRAPING": "false"})
    with pytest.raises(ConfigError, match=r"allow_scraping: .*leave the provider out"):
        resolve_providers(distribution)


async def test_a_call_through_the_stack(tmp_path: Path, caller: Caller) -> None:
    answer = json_reply({"type": "search", "web": {"results": [{"title": "Llamas", "url": "https://l.example/"}]}})
    async with running(answer) as upstream:
        overrides = {"providers.tools.brave-search.config.base_url": upstream.url}
        distribution = load_distribution("starter", env=BRAVE, overrides=overrides)
        distribution.providers.inference.clear()  # The engine is not what is tested here.
        async with open_stack(distribution, home=tmp_path) as stack:
            group = await stack.tools.group(ToolGroupUse(identifier="builtin::websearch"), caller)
            [tool] = await stack.tools.list_tools(group, caller)
            result = await stack.tools.invoke_tool(group, tool.name, {"query": "llamas"}, caller)
            with pytest.raises(NotFound):
                await stack.tools.group(ToolGroupUse(identifier="builtin::wolfram_alpha"), caller)
    assert tool.name == "web_search"
    assert result.metadata["sources"] == [{"title": "Llamas", "url": "https://l.example/"}]
    assert upstream.received[0].headers["x-subscription-token"] == "brave-key"
