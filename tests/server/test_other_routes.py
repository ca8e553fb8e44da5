"""Completions, embeddings, reranking, models and what the server says about itself."""

import asyncio
import logging
from base64 import b64decode
from struct import unpack
from typing import Any

import pytest

from llama_stack import __version__
from llama_stack.api.inference import (
    ChatEnd,
    ChoiceEnd,
    CompletionRequest,
    EmbeddingRequest,
    TextDelta,
    TokenLogprob,
    Usage,
)
from llama_stack.testing.scripted import says
from tests.server.conftest import Start


async def test_a_completion_whole_and_streamed(start: Start) -> None:
    logprob = TokenLogprob(token="Hi", logprob=-0.5, top=[TokenLogprob(token="Ho", logprob=-1.5)])
    script = [
        TextDelta(text="Hi", logprobs=[logprob]),
        TextDelta(text=" you", logprobs=[TokenLogprob(token=" you", logprob=-0.1)]),
        ChoiceEnd(finish_reason="length", stop_sequence="END"),
        ChatEnd(usage=Usage(input_tokens=1, output_tokens=2)),
    ]
    async with start(script) as server:
        whole = await server.openai.completions.create(
            model="scripted", prompt="p", echo=True, logprobs=1, max_tokens=2
        )
        chunks = [
            chunk
            async for chunk in await server.openai.completions.create(
                model="scripted", prompt="p", stream=True, stream_options={"include_usage": True}
            )
        ]
    [choice] = whole.choices
    assert (choice.text, choice.finish_reason, whole.object) == ("Hi you", "length", "text_completion")
    assert choice.logprobs is not None
    assert choice.logprobs.model_dump() == {
        "tokens": ["Hi", " you"],
        "token_logprobs": [-0.5, -0.1],
        "top_logprobs": [{"Ho": -1.5}, {}],
        "text_offset": [0, 2],
    }
    assert whole.usage is not None and whole.usage.total_tokens == 3
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == "Hi you"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, "length"]
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert chunks[1].choices[0].logprobs is not None and chunks[1].choices[0].logprobs.text_offset == [2]
    first = server.inference.requests[0]
    assert isinstance(first, CompletionRequest)
    assert (first.prompt, first.echo, first.logprobs, first.sampling.max_tokens) == ("p", True, 1, 2)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
async def test_every_form_of_prompt(start: Start, prompt: Any, expected: Any) -> None:
    async with start() as server:
        await server.openai.completions.create(model="scripted", prompt=prompt)
    assert [
        request.prompt for request in server.inference.requests if isinstance(request, CompletionRequest)
    ] == expected


def two_choices(first: str, second: str) -> list[Any]:
    return [
        TextDelta(text=first),
        TextDelta(text=second, choice=1),
        ChoiceEnd(finish_reason="stop"),
        ChoiceEnd(finish_reason="stop", choice=1),
        ChatEnd(usage=Usage(input_tokens=1, output_tokens=1)),
    ]


async def test_several_prompts_count_their_choices_through(start: Start) -> None:
    async with start(
        two_choices("a", "b"), two_choices("c", "d"), two_choices("a", "b"), two_choices("c", "d")
    ) as server:
        whole = await server.openai.completions.create(model="scripted", prompt=["p", "q"], n=2)
        stream = await server.openai.completions.create(
            model="scripted", prompt=["p", "q"], n=2, stream=True, stream_options={"include_usage": True}
        )
        texts = dict.fromkeys(range(4), "")
        usages = []
        async for chunk in stream:
            usages.append(chunk.usage)
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    assert [(choice.index, choice.text) for choice in whole.choices] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    assert list(texts.values()) == ["a", "b", "c", "d"]
    assert whole.usage is not None and whole.usage.total_tokens == 4
    assert usages[-1] == whole.usage and set(usages[:-1]) == {None}


async def test_one_failing_prompt_fails_the_call(start: Start) -> None:
    from llama_stack.errors import ContextOverflow

    overflow = ContextOverflow("too long")
    async with start([asyncio.Event()], [overflow]) as server, asyncio.timeout(60):
        response = await server.http.post("/v1/completions", json={"model": "m", "prompt": ["a", "b"]})
        assert server.inference.closed_early.is_set()
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")


async def test_embeddings_as_floats_and_as_base64(start: Start) -> None:
    async with start() as server:
        floats = await server.http.post("/v1/embeddings", json={"model": "e", "input": ["a", "bcd"]})
        packed = await server.http.post(
            "/v1/embeddings", json={"model": "e", "input": "bcd", "encoding_format": "base64"}
        )
        # The client asks for base64 by itself and unpacks it.
        by_client = await server.openai.embeddings.create(
            model="e", input=["bcd"], dimensions=2, extra_body={"truncate": "end", "task": "query", "own": 1}
        )
    assert floats.json() == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 0.5]},
            {"object": "embedding", "index": 1, "embedding": [3.0, 0.5]},
        ],
        "model": "e",
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }
    assert unpack("<2f", b64decode(packed.json()["data"][0]["embedding"])) == (3.0, 0.5)
    assert by_client.data[0].embedding == [3.0, 0.5]
    assert server.inference.requests[-1] == EmbeddingRequest(
        model="e", inputs=["bcd"], dimensions=2, truncate="end", task="query", extra={"own": 1}
    )


async def test_reranking(start: Start) -> None:
    body = {"model": "r", "query": "q", "documents": ["a", "ccc", "bb"], "top_n": 2}
    async with start() as server:
        plain = await server.http.post("/v1/rerank", json=body)
        with_documents = await server.http.post("/v1/rerank", json={**body, "return_documents": True})
    assert plain.json() == {
        "model": "r",
        "results": [{"index": 1, "relevance_score": 3.0}, {"index": 2, "relevance_score": 2.0}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert [result["document"] for result in with_documents.json()["results"]] == [{"text": "ccc"}, {"text": "bb"}]


async def test_models_carry_openais_and_the_classic_fields(start: Start) -> None:
    async with start() as server:
        listed = [model.id async for model in server.openai.models.list()]
        one = await server.http.get("/v1/models/meta-llama/scripted-embedding")
        escaped = await server.openai.models.retrieve("meta-llama/scripted-embedding")
    assert listed == ["scripted", "meta-llama/scripted-embedding"]
    assert escaped.id == "meta-llama/scripted-embedding"
    assert one.json() == {
        "id": "meta-llama/scripted-embedding",
        "object": "model",
        "created": 1700000000,
        "owned_by": "scripted",
        "type": "model",
        "identifier": "meta-llama/scripted-embedding",
        "provider_id": "scripted",
        "provider_resource_id": "embed-1",
        "model_type": "embedding",
        "metadata": {"embedding_dimension": 2},
    }


async def test_what_the_server_says_about_itself(start: Start) -> None:
    async with start() as server:
        health, version, providers, one, routes = [
            (await server.http.get(f"/v1/{path}")).json()
            for path in ("health", "version", "providers", "providers/scripted", "inspect/routes")
        ]
    assert health == {"status": "OK"}
    assert version == {"version": __version__}
    assert providers == {"data": [one]}
    assert one == {
        "api": "inference",
        "provider_id": "scripted",
        "provider_type": "inline::scripted",
        "config": {"api_key": "**********"},
        "health": {"status": "ok"},
    }
    assert {"route": "/v1/chat/completions", "method": "POST", "provider_types": ["inline::scripted"]} in routes["data"]
    assert {"route": "/v1/health", "method": "GET", "provider_types": []} in routes["data"]


async def test_one_line_in_the_access_log_for_each_request(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "llama_stack.access")
    async with start(says("x")) as server:
        await server.http.get("/v1/health", headers={"X-Request-Id": "r1"})
        await server.http.get("/v1/no%0Aforged", headers={"X-Request-Id": "r2"})
    lines = [record.getMessage() for record in caplog.records if record.name == "llama_stack.access"]
    assert [line.split() for line in lines] == [
        ["GET", "/v1/health", "200", lines[0].split()[3], "ms", "r1"],
        ["GET", "'/v1/no\\nforged'", "404", lines[1].split()[3], "ms", "r2"],
    ]
