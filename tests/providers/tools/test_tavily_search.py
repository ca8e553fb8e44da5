"""Tavily against a loopback server that speaks its documented format, faults included."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.tools import Tools
from llama_stack_providers.remote.tavily_search import provider
from tests.providers.remote.upstream import Reply, Upstream, json_reply, running
from tests.providers.tools.opening import GROUP, KEY, OWN_KEY, ask, opened, words


def page(number: int, **more: Any) -> dict[str, Any]:
    url = f"https://site{number}.example/"
    return {"title": f"Page {number}", "url": url, "content": f"Text {number}.", "score": 0.9, **more}


def answer(*pages: Any) -> dict[str, Any]:
    return {"query": "q", "answer": None, "images": [], "results": list(pages), "response_time": 0.4}


def refusal(status: int, error: str, **headers: str) -> Reply:
    return json_reply({"detail": {"error": error}}, status, **headers)


@asynccontextmanager
async def tavily(home: Path, *replies: Reply, **settings: Any) -> AsyncIterator[tuple[Tools, Upstream]]:
    async with (
        running(*replies) as upstream,
        opened(provider, home, **{"base_url": upstream.url, "api_key": KEY, **settings}) as tools,
    ):
        yield tools, upstream


async def test_a_search(tmp_path: Path, caller: Caller) -> None:
    body = answer(page(1), page(2, published_date="Fri, 20 Nov 2026", raw_content=None), "nonsense", {"url": 7})
    async with tavily(tmp_path, json_reply(body)) as (tools, upstream):
        result = await ask(tools, "what is new?", caller)
    assert not result.is_error
    assert words(result).endswith(
        "[1] Page 1\nhttps://site1.example/\nText 1.\n\n[2] Page 2 (Fri, 20 Nov 2026)\nhttps://site2.example/\nText 2."
    )
    assert [source["url"] for source in result.metadata["sources"]] == [
        "https://site1.example/",
        "https://site2.example/",
    ]
    [received] = upstream.received
    assert (received.method, received.path) == ("POST", "/v1/search")
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.body == {
        "query": "what is new?",
        "max_results": 5,
        "search_depth": "basic",
        "topic": "general",
    }


async def test_every_setting_reaches_the_service(tmp_path: Path, caller: Caller) -> None:
    settings = {
        "max_results": 2,
        "search_depth": "advanced",
        "topic": "news",
        "include_domains": ["a.example"],
        "exclude_domains": ["b.example", "c.example"],
    }
    async with tavily(tmp_path, json_reply(answer(page(1), page(2), page(3))), **settings) as (tools, upstream):
        result = await ask(tools, "q", caller)
    assert upstream.received[0].body == {"query": "q", **settings}
    assert len(result.metadata["sources"]) == 2


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [(["docs.a.example"], ["docs.a.example"]), (["EXAMPLE"], ["a.example"]), (["b.example"], None)],
)
async def test_a_search_within_domains_keeps_to_those_of_the_settings(
    tmp_path: Path, caller: Caller, wanted: list[str], sent: list[str] | None
) -> None:
    async with tavily(tmp_path, json_reply(answer()), include_domains=["a.example"]) as (tools, upstream):
        scope = {"allowed_domains": wanted}
        result = await tools.invoke_tool(GROUP, "web_search", {"query": "q", **scope}, caller)
    assert [received.body.get("include_domains") for received in upstream.received] == ([sent] if sent else [])
    assert ("may be searched" in words(result)) is (sent is None)


async def test_a_query_over_the_limit_is_shortened_and_says_so(tmp_path: Path, caller: Caller) -> None:
    async with tavily(tmp_path, json_reply(answer(page(1)))) as (tools, upstream):
        result = await ask(tools, "word " * 100, caller)
    assert upstream.received[0].body["query"] == ("word " * 80).strip()
    assert "longer than the engine's limit of 400 characters;" in words(result)


async def test_nothing_found_is_no_error(tmp_path: Path, caller: Caller) -> None:
    async with tavily(tmp_path, json_reply(answer())) as (tools, _):
        result = await ask(tools, "qwxyz", caller)
    assert (result.is_error, result.metadata, words(result)) == (
        False,
        {"sources": []},
        "No results for 'qwxyz'. Try other words.",
    )


@pytest.mark.parametrize("body", [{}, {"results": None}, {"results": {"a": 1}}])
async def test_an_answer_without_results_is_a_failure(tmp_path: Path, caller: Caller, body: Any) -> None:
    async with tavily(tmp_path, json_reply(body)) as (tools, _):
        result = await ask(tools, "q", caller)
    assert (result.is_error, words(result)) == (True, "Error: Tavily sent an answer without results in it")


async def test_keys(tmp_path: Path, caller: Caller) -> None:
    other = Caller(owner="bob", provider_credentials={"tavily_search_api_key": OWN_KEY})
    async with tavily(tmp_path, json_reply(answer()), api_key=None) as (tools, upstream):
        results = [await ask(tools, "q", who) for who in (caller, other, caller)]
    assert [received.headers["authorization"] for received in upstream.received] == [f"Bearer {OWN_KEY}"]
    assert [result.metadata.get("code") for result in results] == ["missing_api_key", None, "missing_api_key"]
    for name in ("TAVILY_API_KEY", "api_key", "tavily_search_api_key"):
        assert name in words(results[0])


@pytest.mark.parametrize(
    ("reply", "metadata", "told"),
    [
        (
            refusal(401, "Unauthorized: missing or invalid API key."),
            {"code": "invalid_api_key", "status": 401},
            "Unauthorized: missing or invalid API key.",
        ),
        (
            refusal(432, "This request exceeds your plan's set usage limit."),
            {"code": "quota_used_up", "status": 429},
            "exceeds your plan's set usage limit",
        ),
        (
            refusal(433, "This request exceeds the pay-as-you-go limit."),
            {"code": "quota_used_up", "status": 429},
            "what its plan allows is used up",
        ),
        (
            refusal(429, "Your request has been blocked due to excessive requests.", **{"retry-after": "60"}),
            {"code": "rate_limited", "status": 429, "retry_after_s": 60.0},
            "it can be asked again in 60 s",
        ),
        (
            refusal(400, "Query is too long."),
            {"code": "provider_failed", "status": 400},
            "Tavily answered 400: ",
        ),
        (
            refusal(500, "Internal Server Error", **{"retry-after": "0"}),
            {"code": "provider_failed", "status": 502},
            "Tavily answered 500: ",
        ),
    ],
)
async def test_a_refusal_keeps_its_meaning(
    tmp_path: Path, caller: Caller, reply: Reply, metadata: dict[str, Any], told: str
) -> None:
    async with tavily(tmp_path, reply) as (tools, upstream):
        result = await ask(tools, "q", caller)
    assert (result.is_error, result.metadata) == (True, metadata)
    assert told in words(result)
    assert len(upstream.received) == (2 if metadata["status"] == 502 else 1)
