"""Wolfram|Alpha, both APIs, against a loopback server that speaks their documented formats, faults included."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolResult, Tools
from llama_stack_providers.remote.wolfram_alpha import provider
from tests.providers.remote.upstream import Reply, Upstream, json_reply, running
from tests.providers.tools.opening import KEY, OWN_KEY, ask, opened, words

LLM_TEXT = (
    'Query:\n"10 densest metals"\n\n\n\nResult:\n1 | hassium | 41 g/cm^3 | \n2 | a<b & c\x07\n\n'
    'Wolfram|Alpha website result for "10 densest metals":\nhttps://www.wolframalpha.com/input?i=10+densest+metals\n'
)


@asynccontextmanager
async def wolfram(home: Path, *replies: Reply, **settings: Any) -> AsyncIterator[tuple[Tools, Upstream]]:
    async with (
        running(*replies) as upstream,
        opened(provider, home, **{"base_url": upstream.url, "api_key": KEY, **settings}) as tools,
    ):
        yield tools, upstream


def text_reply(text: str, status: int = 200, **headers: str) -> Reply:
    body = [text.encode()] if text else []
    return Reply(status, body, {"content-type": "text/plain;charset=utf-8", **headers})


def full_reply(status: int = 200, **fields: Any) -> Reply:
    return json_reply({"queryresult": {"success": True, "error": False, "numpods": 1, **fields}}, status)


def pod(title: str, *texts: str) -> dict[str, Any]:
    return {"title": title, "subpods": [{"title": "", "plaintext": text} for text in texts]}


def asked(upstream: Upstream) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(upstream.received[0].path).query).items()}


async def compute(tools: Tools, query: str, caller: Caller) -> ToolResult:
    return await ask(tools, query, caller, name="wolfram_alpha")


# --- the LLM API ---------------------------------------------------------------------------------------------------


async def test_an_answer_of_the_llm_api(tmp_path: Path, caller: Caller) -> None:
    async with wolfram(tmp_path, text_reply(LLM_TEXT), units="metric") as (tools, upstream):
        result = await compute(tools, "10 densest metals?", caller)
    assert not result.is_error
    assert words(result) == (
        'Query:\n"10 densest metals"\n\nResult:\n1 | hassium | 41 g/cm^3 |\n2 | a<b & c\n\n'
        'Wolfram|Alpha website result for "10 densest metals":\nhttps://www.wolframalpha.com/input?i=10+densest+metals'
    )
    assert result.metadata == {
        "sources": [
            {
                "title": "Wolfram|Alpha: 10 densest metals?",
                "url": "https://www.wolframalpha.com/input?i=10%20densest%20metals%3F",
            }
        ]
    }
    [received] = upstream.received
    assert received.path.startswith("/v1/api/v1/llm-api?")
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert asked(upstream) == {"input": "10 densest metals?", "units": "metric", "maxchars": "8192"}


async def test_a_query_that_is_not_understood_comes_back_with_suggestions(tmp_path: Path, caller: Caller) -> None:
    reply = text_reply("Wolfram|Alpha did not understand your input\n\nThings to try instead:\nfrance population", 501)
    async with wolfram(tmp_path, reply) as (tools, upstream):
        result = await compute(tools, "frence popultion", caller)
    assert (result.is_error, result.metadata["code"]) == (True, "not_understood")
    assert "Things to try instead:\nfrance population" in words(result)
    assert len(upstream.received) == 1


async def test_a_long_answer_is_cut(tmp_path: Path, caller: Caller) -> None:
    async with wolfram(tmp_path, text_reply("é" * 9000), max_result_bytes=1000) as (tools, upstream):
        result = await compute(tools, "q", caller)
    assert 990 < len(words(result).encode()) <= 1000
    assert words(result).endswith("é [...]")
    assert asked(upstream)["maxchars"] == "1000"


@pytest.mark.parametrize(
    ("reply", "code", "told"),
    [
        (text_reply("Error 1: Invalid appid", 403), "invalid_api_key", "answered 403: Error 1: Invalid appid"),
        (text_reply("Error 1: Missing input", 400), "provider_failed", "answered 400: Error 1: Missing input"),
        (text_reply("", 200), "provider_failed", "without text in it"),
        (text_reply("busy", 503, **{"retry-after": "0"}), "provider_failed", "answered 503: busy"),
        (text_reply("x" * 300_000), "provider_failed", "more than 256 kB"),
    ],
)
async def test_faults_of_the_llm_api(tmp_path: Path, caller: Caller, reply: Reply, code: str, told: str) -> None:
    async with wolfram(tmp_path, reply) as (tools, _):
        result = await compute(tools, "q", caller)
    assert (result.is_error, result.metadata["code"]) == (True, code)
    assert told in words(result)


# --- the Full Results API ------------------------------------------------------------------------------------------


async def test_an_answer_of_the_full_results_api(tmp_path: Path, caller: Caller) -> None:
    reply = full_reply(
        pods=[
            pod("Input interpretation", "integrate x^2 dx"),
            pod("Result", "x^3/3 + constant"),
            pod("Plot", ""),
            pod("Forms", "one\ntwo", "", "three"),
            {"title": "odd", "subpods": None},
            {"subpods": [{"plaintext": "untitled"}, {"plaintext": 7}, "text"]},
            "nonsense",
        ]
    )
    async with wolfram(tmp_path, reply, api="full_results", units="nonmetric") as (tools, upstream):
        result = await compute(tools, "integrate x^2 + 1", caller)
    assert words(result) == (
        "Input interpretation:\nintegrate x^2 dx\n\nResult:\nx^3/3 + constant\n\nForms:\none\ntwo\nthree"
        "\n\nAnswer:\nuntitled"
    )
    assert result.metadata["sources"][0]["url"] == "https://www.wolframalpha.com/input?i=integrate%20x%5E2%20%2B%201"
    assert upstream.received[0].path.startswith("/v1/v2/query?")
    assert asked(upstream) == {
        "input": "integrate x^2 + 1",
        "units": "nonmetric",
        "appid": KEY,
        "output": "json",
        "format": "plaintext",
    }


@pytest.mark.parametrize(
    ("didyoumeans", "told"),
    [
        ([{"score": "0.3", "level": "low", "val": "france"}, {"val": "frame"}], "Did you mean: france; frame"),
        ({"score": "0.3", "level": "low", "val": "france"}, "Did you mean: france"),
        (None, "or as a formula."),
        ([7, {"val": None}], "or as a formula."),
    ],
)
async def test_a_query_the_full_results_api_does_not_understand(
    tmp_path: Path, caller: Caller, didyoumeans: object, told: str
) -> None:
    reply = full_reply(success=False, numpods=0, didyoumeans=didyoumeans)
    async with wolfram(tmp_path, reply, api="full_results") as (tools, _):
        result = await compute(tools, "frence", caller)
    assert (result.is_error, result.metadata["code"]) == (True, "not_understood")
    assert words(result).endswith(told)


@pytest.mark.parametrize(
    ("reply", "code", "told"),
    [
        (full_reply(success=False, error={"code": "1", "msg": "Invalid appid"}), "invalid_api_key", "(Invalid appid)"),
        (
            full_reply(403, success=False, error={"code": 1, "msg": "Invalid appid"}),
            "invalid_api_key",
            "WOLFRAM_ALPHA_API_KEY",
        ),
        (
            full_reply(success=False, error={"code": "1000", "msg": f"Error near {KEY}"}),
            "provider_failed",
            "failed: Error near **********",
        ),
        (full_reply(success=False, error=True), "provider_failed", "it did not say why"),
        (full_reply(pods=[]), "provider_failed", "without text in it"),
        (full_reply(pods=None), "provider_failed", "without text in it"),
        (json_reply({"result": 1}), "provider_failed", "without a query result"),
        (Reply(200, [b"<?xml version='1.0'?>"]), "provider_failed", "not JSON"),
    ],
)
async def test_faults_of_the_full_results_api(
    tmp_path: Path, caller: Caller, reply: Reply, code: str, told: str
) -> None:
    async with wolfram(tmp_path, reply, api="full_results") as (tools, _):
        result = await compute(tools, "q", caller)
    assert (result.is_error, result.metadata["code"]) == (True, code)
    assert told in words(result)
    assert KEY not in result.model_dump_json()


@pytest.mark.parametrize("api", ["llm", "full_results"])
async def test_keys(tmp_path: Path, caller: Caller, api: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    other = Caller(owner="bob", provider_credentials={"wolfram_alpha_api_key": OWN_KEY})
    reply = text_reply("4") if api == "llm" else full_reply(pods=[pod("Result", "4")])
    async with wolfram(tmp_path, reply, api=api, api_key=None) as (tools, upstream):
        results = [await compute(tools, "2+2", who) for who in (caller, other, caller)]
    assert [result.metadata.get("code") for result in results] == ["missing_api_key", None, "missing_api_key"]
    assert "4" in words(results[1])
    [received] = upstream.received
    assert OWN_KEY in f"{received.path} {received.headers}"
    # The Full Results API wants its key in the URL, which HTTP libraries like to log.
    assert OWN_KEY not in caplog.text
    for name in ("WOLFRAM_ALPHA_API_KEY", "api_key", "wolfram_alpha_api_key"):
        assert name in words(results[0])
