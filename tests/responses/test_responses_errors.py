"""What is wrong with a request, what an upstream fails with, and what is not there: status, code and message."""

from typing import Any

import pytest
from openai import APIStatusError, NotFoundError

from llama_stack.api.inference import TextDelta
from llama_stack.errors import (
    ContextOverflow,
    ProviderFailed,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    StackError,
)
from llama_stack.testing.scripted import says
from tests.responses.conftest import Start, streamed

UPSTREAM: list[tuple[StackError, int, str]] = [
    (ContextOverflow("too long: 9000 of 4096"), 400, "context_length_exceeded"),
    (ProviderFailed("bad key", upstream_status=401), 401, "provider_failed"),
    (ProviderFailed("not yours", upstream_status=403), 403, "provider_failed"),
    (ProviderFailed("no such model", upstream_status=404), 404, "provider_failed"),
    (ProviderFailed("unprocessable", upstream_status=422), 422, "provider_failed"),
    (RateLimited("slow down", retry_after_s=7), 429, "rate_limited"),
    (ProviderFailed("it broke", upstream_status=500), 502, "provider_failed"),
    (ProviderUnavailable("refused"), 503, "provider_unavailable"),
    (ProviderTimeout("too slow"), 504, "provider_timeout"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status", "code"), UPSTREAM, ids=lambda value: str(value)[:20])
async def test_an_upstreams_failure_keeps_its_status(
    start: Start, error: StackError, status: int, code: str, stream: bool
) -> None:
    async with start([error]) as running:
        with pytest.raises(APIStatusError) as failed:
            await running.openai.responses.create(model="scripted", input="Hi", stream=stream)
        rows = await running.rows()
    assert failed.value.status_code == status
    body: Any = failed.value.body
    assert (body["code"], body["message"]) == (code, error.message)
    if status == 429:
        assert failed.value.response.headers["retry-after"] == "7"
    assert (rows["responses"], rows["turns"]) == (0, 0)


async def test_a_failure_after_the_first_word_is_the_streams_last_event(start: Start) -> None:
    async with start([TextDelta(text="Hel"), ProviderFailed("it broke")]) as running:
        events = await streamed(running.openai, input="Hi")
        kept = await running.openai.responses.retrieve(events[0].response.id)
        with pytest.raises(APIStatusError, match="it broke"):
            await running.openai.responses.create(model="scripted", input="Hi")
    assert [event.type for event in events][-2:] == ["response.output_item.done", "response.failed"]
    failed = events[-1].response
    assert (failed.status, failed.error.code, failed.error.message) == ("failed", "server_error", "it broke")
    assert kept.model_dump() == failed.model_dump()


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({}, "input", "input: is required"),
    ({"input": 3}, "input", "input: must be a text or a list of items"),
    ({"input": [{"role": "user"}]}, "input.0.content", "input.0.content: is required"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role", "input.0.role: should be"),
    ({"input": [{"type": "computer_call"}]}, "input.0", "computer use is not served"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.id", "there is no item 'msg_1' here"),
    ({"input": "x", "nonsense": 1}, "nonsense", "nonsense: is not a known field; remove it"),
    ({"input": "x", "prompt": {"id": "p"}}, "prompt", "prompt: not supported; templates"),
    ({"input": "x", "top_logprobs": 21}, "top_logprobs", "top_logprobs: should be less than or equal to 20"),
    ({"input": "x", "service_tier": "flex"}, "service_tier", "service_tier: not supported"),
    ({"input": "x", "moderation": {}}, "moderation.model", "moderation.model: is required"),
    (
        {"input": "x", "moderation": {"model": "m", "policy": {"input": {"mode": "warn"}}}},
        "moderation.policy.input.mode",
        "should be 'score' or 'block'",
    ),
    (
        {"input": "x", "stream_options": {"include_obfuscation": True}},
        "stream_options.include_obfuscation",
        "is for streams; send stream: true with it",
    ),
    ({"input": "x", "stream_options": {"include_usage": True}}, "stream_options.include_usage", "is not a known field"),
    ({"input": "x", "include": ["everything"]}, "include.0", "include.0: should be"),
    ({"input": "x", "temperature": 9}, "temperature", "temperature: should be less than"),
    ({"input": "x", "metadata": {"a" * 65: "b"}}, "metadata", "at most 64 characters"),
    ({"input": "x", "reasoning": {"summary": "concise"}}, "reasoning.summary", "reasoning is given whole"),
    ({"input": "x", "text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", "is required"),
    ({"input": "x", "tool_choice": "required"}, "tool_choice", "needs tools to choose from"),
    ({"input": "x", "tools": [{"type": "image_generation"}]}, "tools.0.type", "image generation is not served"),
    ({"input": "x", "tools": [{"type": "function"}]}, "tools.0.name", "tools.0.name: is required"),
    (
        {"input": "x", "tools": [{"type": "function", "name": "a", "parameters": {"type": "nonsense"}}]},
        "tools.0.parameters",
        "unknown type 'nonsense'",
    ),
    (
        {"input": "x", "tools": [{"type": "function", "name": "a", "parameters": {"properties": []}}]},
        "tools.0.parameters",
        "needs an object of schemas as 'properties'",
    ),
    (
        {"input": "x", "tools": [{"type": "function", "name": "a", "parameters": {"type": "array"}}]},
        "tools.0.parameters",
        "a tool's parameters are an object",
    ),
    (
        {"input": "x", "tools": [{"type": "function", "name": "a"}, {"type": "function", "name": "a"}]},
        "tools",
        "a is given twice",
    ),
    (
        {"input": "x", "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "frob"}}}},
        "text.format.schema",
        "unknown type 'frob'",
    ),
    (
        {"input": "x", "tools": [{"type": "mcp", "server_label": "a", "connector_id": "connector_gmail"}]},
        "tools.0.connector_id",
        "send server_url",
    ),
    (
        {"input": "x", "tools": [{"type": "web_search", "filters": {"allowed_domains": ["https://a.example"]}}]},
        "tools.0.filters.allowed_domains.0",
        "pattern",
    ),
    (
        {"input": "x", "tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}]},
        "tools.0.container.memory_limit",
        "not supported",
    ),
    (
        {"input": "x", "tools": [{"type": "function", "name": "a"}], "tool_choice": {"type": "function", "name": "b"}},
        "tool_choice",
        "'b' is not among the tools sent",
    ),
]


async def test_what_cannot_be_used_is_refused_by_its_name(start: Start) -> None:
    async with start(says("Hi")) as running:
        for fields, param, message in WRONG:
            answer = await running.http.post("/v1/responses", json={"model": "scripted", **fields})
            error = answer.json()["error"]
            assert answer.status_code == 400, (fields, error)
            assert error["param"] == param, (fields, error)
            assert message in error["message"], (fields, error)
        assert running.inference.requests == []


async def test_what_is_not_there_is_404(start: Start) -> None:
    async with start(says("Hi")) as running:
        responses = running.openai.responses
        with pytest.raises(NotFoundError, match="there is no response 'resp_x'"):
            await responses.retrieve("resp_x")
        with pytest.raises(NotFoundError):
            await responses.delete("resp_x")
        with pytest.raises(NotFoundError):
            await responses.cancel("resp_x")
        with pytest.raises(NotFoundError):
            await responses.input_items.list("resp_x")
        with pytest.raises(NotFoundError):
            await responses.create(model="scripted", input="?", previous_response_id="resp_x")
        with pytest.raises(NotFoundError, match="here is no model"):
            await responses.create(model="nobody", input="?")
        first = await responses.create(model="scripted", input="1")
        second = await responses.create(model="scripted", input="2", previous_response_id=first.id)
        await responses.delete(first.id)
        with pytest.raises(NotFoundError, match=f"'{first.id}', which '{second.id}' continues, was deleted"):
            await responses.create(model="scripted", input="3", previous_response_id=second.id)
