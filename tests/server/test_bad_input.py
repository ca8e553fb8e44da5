"""Whatever is wrong with a request: the right status, the field, and what to do; never a trace."""

import json
from typing import Any

import pytest

from llama_stack.errors import NotFound
from llama_stack.server.options import ServerOptions
from tests.server.conftest import Start

JSON = {"content-type": "application/json"}
CHAT: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "words"),
    [
        ("chat/completions", b"", 400, None, "not valid JSON"),
        ("chat/completions", b"{", 400, None, "not valid JSON"),
        ("chat/completions", b"\xff", 400, None, "not valid JSON"),
        ("chat/completions", b"[]", 400, None, "must be a JSON object"),
        ("chat/completions", b"null", 400, None, "must be a JSON object"),
        ("chat/completions", b'{"model": NaN}', 400, None, "not valid JSON"),
        ("chat/completions", b"[" * 101 + b"]" * 101, 400, None, "deeper than 100 levels"),
        ("chat/completions", b"[" * 100_000, 400, None, "not valid JSON"),
        ("chat/completions", {}, 400, "model", "is required"),
        (
            "chat/completions",
            {**CHAT, "messages": [{"role": "user", "content": 1}]},
            400,
            "messages.0.content",
            "string",
        ),
        ("chat/completions", {**CHAT, "temperature": 9e99, "n": -1}, 400, "n", "greater than or equal to 1"),
        ("chat/completions", {**CHAT, "functions": [{}]}, 400, "functions", "send tools"),
        ("chat/completions", {**CHAT, "stream": 1}, 400, "stream", "boolean"),
        (
            "chat/completions",
            {**CHAT, "tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "objec"}}}]},
            400,
            "tools.0.function.parameters",
            "unknown type 'objec'",
        ),
        (
            "chat/completions",
            {**CHAT, "tools": [{"type": "function", "function": {"name": "a", "parameters": {"properties": []}}}]},
            400,
            "tools.0.function.parameters",
            "needs an object of schemas as 'properties'",
        ),
        (
            "chat/completions",
            {
                **CHAT,
                "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "frob"}}},
            },
            400,
            "response_format.json_schema.schema",
            "unknown type 'frob'",
        ),
        ("completions", {"model": "m"}, 400, "prompt", "is required"),
        ("completions", {"model": "m", "prompt": []}, 400, "prompt", "empty"),
        ("completions", {"model": "m", "prompt": ["a", 1]}, 400, "prompt.1", "string"),
        ("completions", {"model": "m", "prompt": ["a"] * 129}, 400, "prompt", "at most 128"),
        ("completions", {"model": "m", "prompt": "a", "best_of": 3}, 400, "best_of", "equal to n"),
        ("completions", {"model": "m", "prompt": "a", "logprobs": 99}, 400, "logprobs", "less than or equal to 20"),
        ("embeddings", {"model": "m"}, 400, "input", "is required"),
        ("embeddings", {"model": "m", "input": []}, 400, "input", "empty"),
        ("embeddings", {"model": "m", "input": [[]]}, 400, "input.0", "at least one token"),
        ("embeddings", {"model": "m", "input": "x", "encoding_format": "hex"}, 400, "encoding_format", "'base64'"),
        ("embeddings", {"model": "m", "input": "x", "dimensions": 0}, 400, "dimensions", "greater than or equal to 1"),
        ("embeddings", {"model": "m", "input": "x", "truncate": True}, 400, "truncate", "'refuse'"),
        ("rerank", {"model": "m", "query": "q", "documents": []}, 400, "documents", "at least 1 item"),
        ("rerank", {"model": "m", "query": "q", "documents": ["a"], "top_n": 0}, 400, "top_n", "greater than"),
    ],
)
async def test_bad_bodies(start: Start, path: str, body: Any, status: int, param: str | None, words: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with start() as server:
        response = await server.http.post(f"/v1/{path}", content=content, headers=JSON)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert "Traceback" not in response.text
    assert server.inference.requests == []


@pytest.mark.parametrize("streamed_body", [False, True], ids=["announced", "not announced"])
async def test_an_oversized_body_is_413(start: Start, streamed_body: bool) -> None:
    body = json.dumps({**CHAT, "user": "x" * 5000}).encode()

    async def pieces() -> Any:
        for begin in range(0, len(body), 1000):
            yield body[begin : begin + 1000]

    async with start(options=ServerOptions(max_body_bytes=2048)) as server:
        content = pieces() if streamed_body else body
        response = await server.http.post("/v1/chat/completions", content=content, headers=JSON)
        again = await server.http.post("/v1/chat/completions", json=CHAT)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "payload_too_large")
    assert "2048 bytes" in response.json()["error"]["message"]
    assert again.status_code == 200


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_only_json_is_taken_for_json(start: Start, kind: str | None) -> None:
    """A web page can post the other types to this machine without the browser asking first."""
    headers = {} if kind is None else {"content-type": kind}
    async with start() as server:
        response = await server.http.post("/v1/chat/completions", content=json.dumps(CHAT), headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Content-Type")
    assert server.inference.requests == []


@pytest.mark.parametrize("value", ["{", "[]", '"x"', "sk-secret"])
async def test_malformed_provider_data_is_named_and_not_repeated(start: Start, value: str) -> None:
    async with start() as server:
        response = await server.http.post(
            "/v1/chat/completions", json=CHAT, headers={"X-LlamaStack-Provider-Data": value}
        )
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "X-LlamaStack-Provider-Data")
    assert "X-LlamaStack-Provider-Data must hold a JSON object" in error["message"]
    assert "or leave the header out" in error["message"]
    assert "sk-secret" not in response.text


async def test_provider_data_reaches_the_provider_and_no_other_request(start: Start) -> None:
    async with start() as server:
        for headers in ({"x-llamastack-provider-data": '{"together_api_key": "k"}'}, {}):
            await server.http.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert [caller.provider_credentials for caller in server.inference.callers] == [{"together_api_key": "k"}, {}]


async def test_an_unknown_model_is_404_with_its_field(start: Start) -> None:
    async with start([NotFound("There is no model 'x'.", param="model", code="model_not_found")]) as server:
        response = await server.http.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 404
    assert response.json() == {
        "error": {
            "message": "There is no model 'x'.",
            "type": "not_found_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/chat/completions", 404, "did you mean /v1/chat/completions?"),
        ("GET", "/v1/model", 404, "did you mean /v1/models?"),
        ("GET", "/v1/agent", 404, "did you mean /v1/agents?"),
        ("GET", "/v1/zzzzzz", 404, "GET /v1/inspect/routes lists"),
        ("POST", "/v1/telemetry/traces", 404, "this server has no telemetry API"),
        ("GET", "/v1/datasets/d", 404, "this server has no datasets API"),
        ("GET", "/", 404, "GET /v1/inspect/routes lists"),
        ("GET", "/v1/completions", 405, "use POST"),
        ("DELETE", "/v1/models", 405, "use GET"),
        ("GET", "/v1/models/nothing-of-the-kind", 404, "there are: scripted, meta-llama/scripted-embedding"),
        ("GET", "/v1/models/meta-llama/scripted-embeding", 404, "did you mean 'meta-llama/scripted-embedding'?"),
        ("GET", "/v1/providers/scriptd", 404, "did you mean 'scripted'?"),
    ],
)
async def test_wrong_paths_and_methods(start: Start, method: str, path: str, status: int, words: str) -> None:
    async with start() as server:
        response = await server.http.request(method, path)
    assert response.status_code == status
    assert words in response.json()["error"]["message"]
    if status == 405:
        assert response.headers["allow"]


async def test_a_method_that_is_not_taken_is_told_all_that_are(start: Start) -> None:
    async with start() as server:
        agents = await server.http.request("PATCH", "/v1/agents")
        one = await server.http.request("PATCH", "/v1/agents/a")
    assert (agents.status_code, agents.headers["allow"]) == (405, "GET, HEAD, POST")
    assert "use GET, HEAD, POST" in agents.json()["error"]["message"]
    assert one.headers["allow"] == "DELETE, GET, HEAD, PUT"


@pytest.mark.parametrize("path", ["/v1/health", "/v1/models", "/v1/models/nothing-of-the-kind"])
async def test_head_is_get_without_the_content(start: Start, path: str) -> None:
    async with start() as server:
        whole, head = await server.http.get(path), await server.http.head(path)
        refused = await server.http.head("/v1/embeddings")
    assert (head.status_code, head.content) == (whole.status_code, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == whole.headers[name]
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_every_answer_has_a_request_id(start: Start) -> None:
    async with start() as server:
        good = await server.http.get("/v1/health", headers={"X-Request-Id": "abc-1"})
        forged = await server.http.get("/v1/health", headers={"X-Request-Id": "a b\tc"})
        lost = await server.http.get("/nowhere")
    assert good.headers["x-request-id"] == "abc-1"
    assert forged.headers["x-request-id"].startswith("req_")
    assert lost.headers["x-request-id"].startswith("req_")


async def test_browsers_are_kept_out_unless_their_origin_is_named(start: Start) -> None:
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    async with start() as server:
        closed = await server.http.options("/v1/chat/completions", headers=ask)
    async with start(options=ServerOptions(cors_origins=("https://app.example",))) as server:
        named = await server.http.options("/v1/chat/completions", headers=ask)
        other = await server.http.options("/v1/chat/completions", headers={**ask, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in closed.headers
    assert named.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in other.headers
