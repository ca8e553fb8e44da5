"""The upstream speaks OpenAI's wire format, as that vendor's own client reads it."""

import math
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from benchmarks import mock_mcp
from benchmarks.mock_upstream import (
    ANSWER,
    CHAT_MODEL,
    CHUNKS,
    DIMENSIONS,
    EMBEDDING_MODEL,
    FIRST_WORD,
    PACED_MODEL,
    TOOL_MODEL,
)


@pytest_asyncio.fixture
async def client(upstream: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=upstream, api_key="none", max_retries=0, timeout=60.0) as client:
        yield client


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == [CHAT_MODEL, PACED_MODEL, TOOL_MODEL, EMBEDDING_MODEL]


async def test_a_whole_answer_has_fifty_words_and_its_usage(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=CHAT_MODEL, messages=[{"role": "user", "content": "hi"}])

    assert answer.choices[0].message.content == ANSWER
    assert len(ANSWER.split()) == 50
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (12, 50, 62)


async def test_every_answer_has_an_id_of_its_own(client: openai.AsyncOpenAI) -> None:
    ids = set()
    for _ in range(3):
        answer = await client.chat.completions.create(model=CHAT_MODEL, messages=[{"role": "user", "content": "hi"}])
        ids.add(answer.id)

    assert len(ids) == 3


@pytest.mark.parametrize("model", [CHAT_MODEL, PACED_MODEL, f"prefix/{CHAT_MODEL}"])
async def test_a_stream_has_a_role_a_hundred_words_a_reason_and_usage(client: openai.AsyncOpenAI, model: str) -> None:
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    first, *words, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    contents = [chunk.choices[0].delta.content for chunk in words]
    assert len(contents) == CHUNKS
    assert contents[0] == f"{FIRST_WORD} "
    assert FIRST_WORD not in "".join(content or "" for content in contents[1:])
    assert last.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.completion_tokens == CHUNKS
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_has_no_usage_that_was_not_asked_for(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=CHAT_MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
    )

    assert [chunk.usage async for chunk in stream] == [None] * (CHUNKS + 2)


async def test_embeddings_are_unit_vectors_and_depend_on_the_input_alone(client: openai.AsyncOpenAI) -> None:
    texts = ["a river", "a bridge", "a river"]
    as_floats = await client.embeddings.create(model=EMBEDDING_MODEL, input=texts, encoding_format="float")
    packed = await client.embeddings.create(model=EMBEDDING_MODEL, input=texts, encoding_format="base64")
    default = await client.embeddings.create(model=EMBEDDING_MODEL, input="a river")

    river, bridge, again = (row.embedding for row in as_floats.data)
    assert len(river) == DIMENSIONS
    assert math.hypot(*river) == pytest.approx(1.0, abs=1e-4)
    assert river == again != bridge
    assert default.data[0].embedding == pytest.approx(river, abs=1e-6)
    assert [row.index for row in packed.data] == [0, 1, 2]
    assert packed.usage.prompt_tokens == 24


async def test_an_unknown_model_or_route_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no chat model other"):
        await client.chat.completions.create(model="other", messages=[{"role": "user", "content": "hi"}])
    with pytest.raises(openai.NotFoundError, match="no route POST /v1/completions"):
        await client.completions.create(model=CHAT_MODEL, prompt="hi")


async def test_a_caller_that_hangs_up_ends_its_stream_and_nobody_elses(client: openai.AsyncOpenAI) -> None:
    async with await client.chat.completions.create(
        model=PACED_MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
    ) as abandoned:
        await anext(aiter(abandoned))

    answer = await client.chat.completions.create(model=CHAT_MODEL, messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == ANSWER


@pytest.mark.parametrize("stream", [False, True])
async def test_the_tool_model_calls_the_first_tool_and_then_answers(client: openai.AsyncOpenAI, stream: bool) -> None:
    tool: Any = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    messages: list[Any] = [{"role": "user", "content": "?"}]
    if stream:
        async with client.chat.completions.stream(model=TOOL_MODEL, messages=messages, tools=[tool]) as events:
            first: Any = await events.get_final_completion()
    else:
        first = await client.chat.completions.create(model=TOOL_MODEL, messages=messages, tools=[tool])
    message = first.choices[0].message
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert (call.function.name, call.function.arguments) == ("get_weather", mock_mcp.ARGUMENTS)

    messages += [message.to_dict(), {"role": "tool", "tool_call_id": call.id, "content": mock_mcp.RESULT}]
    second = await client.chat.completions.create(model=TOOL_MODEL, messages=messages, tools=[tool])
    assert second.choices[0].message.content == ANSWER


async def test_the_mcp_server_serves_an_mcp_client(upstream: str) -> None:
    mcp = pytest.importorskip("mcp")
    async with mcp.Client(upstream.replace("/v1", "/mcp")) as session:
        assert [tool.name for tool in (await session.list_tools()).tools] == ["get_weather"]
        called = await session.call_tool("get_weather", {"city": "Oslo"})
    assert called.content[0].text == mock_mcp.RESULT
