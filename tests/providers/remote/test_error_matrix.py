"""What an upstream does wrong, seen by a client of our server: status, code, message, and never the key.

Everything is real: an OpenAI client's HTTP, our server, a stack opened from a distribution, and an upstream on
loopback that fails where it is told.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from llama_stack.compose import open_stack
from llama_stack.distribution import Distribution
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from tests.providers.remote.conftest import KEY
from tests.providers.remote.upstream import CUT, HANG, Reply, json_reply, running, stream_reply, text_chunk

HEADER_SECRET = "header-secret-0123456789"
CALLER_KEY = "sk-of-the-caller-0123456789"


@asynccontextmanager
async def client_of(upstream_url: str, timeout_s: float = 30) -> AsyncIterator[httpx.AsyncClient]:
    distribution = Distribution.model_validate(
        {
            "version": 1,
            "name": "test",
            "providers": {
                "inference": [
                    {
                        "provider_id": "up",
                        "provider_type": "remote::openai-compatible",
                        "config": {
                            "base_url": upstream_url,
                            "api_key": KEY,
                            "headers": {"x-account": HEADER_SECRET},
                            "timeout_s": timeout_s,
                            "answer_timeout_s": timeout_s,
                        },
                        "models": [{"identifier": "m"}, {"identifier": "e", "model_type": "embedding"}],
                    }
                ]
            },
        }
    )
    async with (
        open_stack(distribution) as stack,
        serving(create_app(stack)) as url,
        httpx.AsyncClient(base_url=url, timeout=30, verify=False) as http,
    ):
        yield http


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
OPERATIONS = [
    pytest.param("chat/completions", CHAT, id="chat"),
    pytest.param("chat/completions", {**CHAT, "stream": True}, id="streamed chat"),
    pytest.param("completions", {"model": "m", "prompt": "x", "stream": True}, id="streamed completion"),
    pytest.param("embeddings", {"model": "e", "input": "x"}, id="embeddings"),
]


def no_secret_in(*texts: str) -> None:
    for text in texts:
        for secret in (KEY, HEADER_SECRET, CALLER_KEY):
            assert secret not in text


def refusal(status: int, code: str | None = None, **headers: str) -> Reply:
    """A refusal that repeats what it was sent, as some servers do."""
    message = f"no: {KEY} {HEADER_SECRET}"
    return json_reply({"error": {"message": message, "type": "t", "param": "p", "code": code}}, status, **headers)


@pytest.mark.parametrize(
    ("reply", "status", "code", "words"),
    [
        pytest.param(refusal(400, "bad_field"), 400, "bad_field", "answered 400: no:", id="400"),
        pytest.param(refusal(401, "invalid_api_key"), 401, "invalid_api_key", "answered 401: no:", id="401"),
        pytest.param(refusal(403), 403, "t", "answered 403: no:", id="403"),
        pytest.param(refusal(404, "model_not_found"), 404, "model_not_found", "answered 404: no:", id="404"),
        pytest.param(refusal(422), 422, "t", "answered 422: no:", id="422"),
        pytest.param(refusal(429, "slow", **{"retry-after": "7"}), 429, "slow", "answered 429: no:", id="429"),
        pytest.param(refusal(500, "boom"), 502, "boom", "answered 500: no:", id="500"),
        pytest.param(refusal(503, "boom"), 502, "boom", "answered 503: no:", id="503"),
        pytest.param(
            json_reply({"error": {"message": "too long", "code": "context_length_exceeded"}}, 400),
            400,
            "context_length_exceeded",
            "too long",
            id="context overflow",
        ),
        pytest.param(
            Reply(502, [b"<html>Bad gateway</html>"]), 502, "provider_failed", "<html>Bad gateway</html>", id="web page"
        ),
        pytest.param(
            json_reply({"detail": [{"loc": ["body"], "msg": "wrong"}]}, 422),
            422,
            "provider_failed",
            "wrong",
            id="detail",
        ),
        pytest.param(
            Reply(200, [b"{not json"], {"content-type": "application/json"}),
            502,
            "provider_failed",
            "not JSON",
            id="bad JSON",
        ),
        pytest.param(json_reply([]), 502, "provider_failed", "", id="JSON of another shape"),
        pytest.param(
            json_reply({"error": {"message": "in the body"}}), 502, "provider_failed", "in the body", id="error 200"
        ),
        pytest.param(Reply(None, then=CUT), 502, "provider_failed", "without an answer", id="closed at byte 0"),
        pytest.param(Reply(raw_head=b"SSH-2.0-x\r\n\r\n"), 502, "provider_failed", "not valid HTTP", id="no HTTP"),
    ],
)
@pytest.mark.parametrize(("path", "body"), OPERATIONS)
async def test_refusals_and_failures_before_the_answer(
    caplog: pytest.LogCaptureFixture, path: str, body: Any, reply: Reply, status: int, code: str, words: str
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(reply) as upstream, client_of(upstream.url) as http:
        response = await http.post(f"/v1/{path}", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (status, code)
    assert words in error["message"]
    if status == 429:
        assert response.headers["retry-after"] == "7"
    no_secret_in(response.text, caplog.text)


@pytest.mark.parametrize(("path", "body"), OPERATIONS)
async def test_a_server_that_is_not_there_is_503(path: str, body: Any) -> None:
    async with running(Reply()) as gone:
        pass
    async with client_of(gone.url) as http:
        response = await http.post(f"/v1/{path}", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "provider_unavailable")
    assert gone.url in response.json()["error"]["message"]


@pytest.mark.parametrize(("path", "body"), OPERATIONS)
async def test_a_server_that_says_nothing_is_504(path: str, body: Any) -> None:
    async with running(Reply(None, then=HANG)) as upstream, client_of(upstream.url, timeout_s=0.5) as http:
        response = await http.post(f"/v1/{path}", json=body)
        async with asyncio.timeout(60):
            await upstream.hung_up.wait()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "provider_timeout")
    assert "timeout_s" in response.json()["error"]["message"]


def call_chunk(**function: str) -> Any:
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": function}]}}]}


BEGINNINGS = [
    pytest.param([text_chunk("Hel")], id="in the text"),
    pytest.param([call_chunk(name="f", arguments='{"a')], id="in the arguments"),
]


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        pytest.param({"then": CUT}, "provider_failed", "closed the connection within its answer", id="cut"),
        pytest.param({}, "provider_failed", "broke off before it was finished", id="no finish reason and no [DONE]"),
        pytest.param({"then": HANG}, "provider_timeout", "timeout_s", id="silence"),
        pytest.param({"chunk": b"data: {oops\n\n"}, "provider_failed", "not JSON", id="bad JSON"),
        pytest.param(
            {"chunk": {"error": {"message": f"overloaded {KEY}", "code": 500}}},
            "provider_failed",
            "overloaded",
            id="error",
        ),
        pytest.param(
            {"chunk": b'event: error\ndata: {"message": "overloaded"}\n\n'},
            "provider_failed",
            "overloaded",
            id="error event",
        ),
        pytest.param({"chunk": {"error": {"message": "slow", "code": 429}}}, "rate_limited", "slow", id="rate limit"),
    ],
)
@pytest.mark.parametrize("begun", BEGINNINGS)
async def test_failures_within_the_answer(
    caplog: pytest.LogCaptureFixture, begun: list[Any], end: dict[str, Any], code: str, words: str
) -> None:
    caplog.set_level(logging.DEBUG)
    chunks = [*begun, *([end["chunk"]] if "chunk" in end else [])]
    reply = stream_reply(*chunks, done=False, then=end.get("then"))
    timeout_s = 1 if end.get("then") == HANG else 60
    async with running(reply) as upstream, client_of(upstream.url, timeout_s=timeout_s) as http:
        streamed = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
        whole = await http.post("/v1/chat/completions", json=CHAT)
    frames = streamed.text.removesuffix("\n\n").split("\n\n")
    last = json.loads(frames[-1].removeprefix("data: "))
    assert streamed.status_code == 200
    assert sum('"error"' in frame for frame in frames) == 1
    assert "data: [DONE]" not in frames
    assert last["error"]["code"] == code
    assert words in last["error"]["message"]
    # A stream has its status behind it already.
    assert last["error"].pop("status") == whole.status_code
    assert whole.json() == last
    assert whole.status_code == {"provider_timeout": 504, "rate_limited": 429}.get(code, 502)
    no_secret_in(streamed.text, whole.text, caplog.text)


async def test_the_callers_key_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reply = json_reply({"error": {"message": f"Incorrect API key provided: {CALLER_KEY}"}}, 401)
    headers = {"X-LlamaStack-Provider-Data": json.dumps({"openai_compatible_api_key": CALLER_KEY})}
    async with running(reply) as upstream, client_of(upstream.url) as http:
        response = await http.post("/v1/chat/completions", json=CHAT, headers=headers)
        providers = await http.get("/v1/providers")
    assert upstream.received[-2].headers["authorization"] == f"Bearer {CALLER_KEY}"
    assert response.status_code == 401
    no_secret_in(response.text, providers.text, caplog.text)


async def test_a_client_that_hangs_up_is_felt_by_the_upstream(caplog: pytest.LogCaptureFixture) -> None:
    reply = stream_reply(text_chunk("x"), done=False, then=HANG)
    async with running(reply) as upstream, client_of(upstream.url) as http, asyncio.timeout(60):
        async with http.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
            async for _ in response.aiter_raw():
                break
        async with asyncio.timeout(60):
            await upstream.hung_up.wait()


async def test_a_good_answer_after_all_these() -> None:
    async with running(stream_reply(text_chunk("fine", "stop"))) as upstream, client_of(upstream.url) as http:
        response = await http.post("/v1/chat/completions", json=CHAT)
    assert response.json()["choices"][0]["message"]["content"] == "fine"
    assert upstream.received[-1].headers["x-account"] == HEADER_SECRET
