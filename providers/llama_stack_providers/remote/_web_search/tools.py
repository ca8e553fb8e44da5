"""The one tool that every web search serves, so that engines can be exchanged without the model noticing."""

from llama_stack_providers.remote._query_tool.tools import Answer, QueryTools


def web_search(search: Answer) -> QueryTools:
    """The tool `web_search(query: string)`, answered by `search`."""
    return QueryTools(
        "web_search",
        "Search the web. Gives the titles, addresses and short extracts of the pages that fit best.",
        "What to search for: a few words or a short question.",
        search,
    )
