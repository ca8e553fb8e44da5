"""What is OpenAI's, under the older prefix: for the unmodified classic client and for OpenAI's own."""

from typing import Any

import pytest
from llama_stack_client import NotFoundError
from openai import AsyncOpenAI

from llama_stack.api.inference import TextDelta
from llama_stack.errors import ProviderFailed
from llama_stack.testing.scripted import says
from tests.classic.conftest import Start, frames_of

HELLO: Any = [{"role": "user", "content": "hello"}]


async def test_a_stream_for_the_classic_client_and_for_openais(start: Start) -> None:
    async with start(says("a", "b")) as server:
        classic = await server.client.chat.completions.create(model="scripted", messages=HELLO, stream=True)
        classic_texts = [chunk.choices[0].delta.content async for chunk in classic if chunk.choices]
        async with AsyncOpenAI(base_url=f"{server.url}/v1/openai/v1", api_key="none", max_retries=0) as openai:
            stream = await openai.chat.completions.create(model="scripted", messages=HELLO, stream=True)
            texts = [chunk.choices[0].delta.content async for chunk in stream]
    assert [text for text in classic_texts if text] == [text for text in texts if text] == ["a", "b"]


@pytest.mark.parametrize("include_usage", [True, False])
async def test_only_there_a_stream_has_no_done(start: Start, include_usage: bool) -> None:
    body = {"model": "scripted", "messages": HELLO, "stream": True, "stream_options": {"include_usage": include_usage}}
    async with start(says("[DONE]", "data: [DONE]\n\n")) as server:
        older = await server.http.post("/v1/openai/v1/chat/completions", json=body)
        today = await server.http.post("/v1/chat/completions", json=body)
    assert today.content.endswith(b"data: [DONE]\n\n")
    frames = frames_of(older.content)
    assert [frame["choices"][0]["delta"].get("content") for frame in frames[1:3]] == ["[DONE]", "data: [DONE]\n\n"]
    assert (frames[-1].get("usage") is not None) is include_usage


async def test_an_error_ends_the_stream(start: Start) -> None:
    async with start([TextDelta(text="a"), ProviderFailed("broken")]) as server:
        body = {"model": "scripted", "messages": HELLO, "stream": True}
        response = await server.http.post("/v1/openai/v1/chat/completions", json=body)
    assert frames_of(response.content)[-1]["error"]["message"] == "broken"


async def test_what_is_not_streamed(start: Start) -> None:
    async with start(says("hi")) as server:
        chat: Any = await server.client.chat.completions.create(model="scripted", messages=HELLO)
        text: Any = await server.client.completions.create(model="scripted", prompt="once")
        vectors: Any = await server.client.embeddings.create(model="e", input=["ab"])
        models = await server.http.get("/v1/openai/v1/models")
        one = await server.http.get("/v1/openai/v1/models/meta-llama%2Fscripted-embedding")
        with pytest.raises(NotFoundError, match="there is no"):
            await server.client.post("/v1/openai/v1/nothing", cast_to=object)
    assert chat.choices[0].message.content == "hi"
    assert text.choices[0].text == "hi"
    assert vectors.data[0].embedding == [2.0, 0.5]
    assert [model["id"] for model in models.json()["data"]] == ["scripted", "meta-llama/scripted-embedding"]
    assert one.json()["id"] == "meta-llama/scripted-embedding"


async def test_responses_and_stored_chats(start_agents: Start) -> None:
    async with start_agents(says("hi", " there")) as server:
        whole: Any = await server.client.responses.create(model="scripted", input="hello")
        stream: Any = await server.client.responses.create(
            model="scripted", input="and?", stream=True, previous_response_id=whole.id
        )
        events: list[Any] = [event async for event in stream]
        again: Any = await server.client.responses.retrieve(whole.id)
        listed: Any = await server.client.responses.list()
        items: Any = await server.client.responses.input_items.list(whole.id)
        chat: Any = await server.client.chat.completions.create(
            model="scripted", messages=HELLO, extra_body={"store": True}
        )
        chats: Any = await server.client.chat.completions.list()
        kept: Any = await server.client.chat.completions.retrieve(chat.id)
    assert whole.output[0].content[0].text == "hi there"
    assert again.id == whole.id
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert whole.id in [response.id for response in listed.data]
    assert items.data[0].role == "user"
    assert [completion.id for completion in chats.data] == [kept.id]
    assert kept.choices[0].message.content == "hi there"
    assert kept.input_messages[0].content == "hello"
