"""The unmodified `openai` package: chat with its stream and parse helpers, embeddings, errors."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from llama_stack.errors import RateLimited
from llama_stack.testing.scripted import calls, says
from tests.third_party.conftest import Serve
from tests.third_party.suite import PIXEL, ClientSuite, Contact, Exchange, get_weather, results, spoken

HELLO: Any = [{"role": "user", "content": "hello"}]
WEATHER_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
RESPONSES_TOOL: Any = {"type": "function", **WEATHER_TOOL["function"]}


@asynccontextmanager
async def client_of(url: str, max_retries: int = 0) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=max_retries) as client:
        yield client


class AnswerFailed(Exception):
    """The stream told that the response failed; the package leaves it to its user to look."""


class TestChat(ClientSuite):
    not_found = openai.NotFoundError
    refused = openai.BadRequestError
    broken = openai.APIError

    async def ask(
        self,
        url: str,
        question: str,
        *,
        model: str = "scripted",
        history: Sequence[Exchange] = (),
        with_tool: bool = False,
        image: str | None = None,
    ) -> str:
        messages: list[Any] = []
        for asked, answered in history:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        picture = [{"type": "image_url", "image_url": {"url": image}}] if image else []
        messages.append({"role": "user", "content": [{"type": "text", "text": question}, *picture]})
        tools = [WEATHER_TOOL] if with_tool else openai.omit
        async with client_of(url) as client:
            while True:
                answer = await client.chat.completions.create(model=model, messages=messages, tools=tools)
                message = answer.choices[0].message
                if answer.choices[0].finish_reason != "tool_calls":
                    return message.content or ""
                messages += [message, *answers_to(message)]

    async def stream(self, url: str, question: str, *, with_tool: bool = False) -> list[str]:
        messages: list[Any] = [{"role": "user", "content": question}]
        tools = [WEATHER_TOOL] if with_tool else openai.omit
        async with client_of(url) as client:
            while True:
                async with client.chat.completions.stream(model="scripted", messages=messages, tools=tools) as stream:
                    pieces = [event.delta async for event in stream if event.type == "content.delta"]
                    message = (await stream.get_final_completion()).choices[0].message
                if not message.tool_calls:
                    return pieces
                messages += [message, *answers_to(message)]

    async def contact(self, url: str, question: str) -> Contact:
        async with client_of(url) as client:
            answer = await client.chat.completions.parse(
                model="scripted", messages=[{"role": "user", "content": question}], response_format=Contact
            )
        assert answer.choices[0].message.parsed is not None
        return answer.choices[0].message.parsed


class TestResponses(ClientSuite):
    not_found = openai.NotFoundError
    refused = openai.BadRequestError
    broken = (openai.APIError, AnswerFailed)

    async def ask(
        self,
        url: str,
        question: str,
        *,
        model: str = "scripted",
        history: Sequence[Exchange] = (),
        with_tool: bool = False,
        image: str | None = None,
    ) -> str:
        items: list[Any] = []
        for asked, answered in history:
            items += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        picture = [{"type": "input_image", "image_url": image, "detail": "auto"}] if image else []
        items.append({"role": "user", "content": [{"type": "input_text", "text": question}, *picture]})
        tools = [RESPONSES_TOOL] if with_tool else openai.omit
        async with client_of(url) as client:
            while True:
                answer = await client.responses.create(model=model, input=items, tools=tools, store=False)
                if not (called := [item for item in answer.output if item.type == "function_call"]):
                    return answer.output_text
                items += [*answer.output, *[output_of(call) for call in called]]

    async def stream(self, url: str, question: str, *, with_tool: bool = False) -> list[str]:
        items: list[Any] = [{"role": "user", "content": question}]
        tools = [RESPONSES_TOOL] if with_tool else openai.omit
        async with client_of(url) as client:
            while True:
                pieces: list[str] = []
                async with client.responses.stream(model="scripted", input=items, tools=tools) as stream:
                    async for event in stream:
                        if event.type == "response.output_text.delta":
                            pieces.append(event.delta)
                        elif event.type == "response.failed":
                            raise AnswerFailed(event.response.error)
                    answer = await stream.get_final_response()
                if not (called := [item for item in answer.output if item.type == "function_call"]):
                    return pieces
                items += [*answer.output, *[output_of(call) for call in called]]

    async def contact(self, url: str, question: str) -> Contact:
        async with client_of(url) as client:
            answer = await client.responses.parse(model="scripted", input=question, text_format=Contact)
        assert answer.output_parsed is not None
        return answer.output_parsed

    async def test_a_chain_of_responses(self, serve: Serve) -> None:
        script = [calls(("get_weather", '{"city": "Oslo"}')), says("Snow."), says("Oslo.")]
        async with serve(*script) as served, client_of(served.url) as client:
            first = await client.responses.create(model="scripted", input="Weather in Oslo?", tools=[RESPONSES_TOOL])
            outputs: Any = [output_of(item) for item in first.output if item.type == "function_call"]
            second = await client.responses.create(model="scripted", input=outputs, previous_response_id=first.id)
            third = await client.responses.create(model="scripted", input="Which?", previous_response_id=second.id)
            read = [item.type async for item in client.responses.input_items.list(third.id, order="asc")]
        assert third.output_text == "Oslo."
        assert [text for text in spoken(served.chats[2]) if text] == ["Weather in Oslo?", "Snow.", "Which?"]
        assert results(served.chats[2]) == [("call_0", "snow")]
        assert read == ["message"]


def output_of(call: Any) -> Any:
    """Runs a call of a response; an error is told as text."""
    try:
        text = get_weather(**json.loads(call.arguments))
    except ValueError as error:
        text = f"error: {error}"
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


def answers_to(message: Any) -> list[Any]:
    """Runs the calls of an assistant's message; an error is told as text."""
    told: list[Any] = []
    for call in message.tool_calls:
        try:
            text = get_weather(**json.loads(call.function.arguments))
        except ValueError as error:
            text = f"error: {error}"
        told.append({"role": "tool", "tool_call_id": call.id, "content": text})
    return told


async def test_the_stream_helper_tells_calls_as_they_are_made(serve: Serve) -> None:
    both = calls(("get_weather", '{"city": "Oslo"}'), ("get_weather", '{"city": "Cairo"}'))
    async with (
        serve(both) as served,
        client_of(served.url) as client,
        client.chat.completions.stream(model="scripted", messages=HELLO, tools=[WEATHER_TOOL]) as stream,
    ):
        done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert [(event.index, event.parsed_arguments) for event in done] == [(0, {"city": "Oslo"}), (1, {"city": "Cairo"})]


async def test_parsed_tools_and_a_parsed_answer_together(serve: Serve) -> None:
    both = [calls(("get_weather", '{"city": "Oslo"}')), says('{"name": "Ada", "city": "Oslo"}')]
    async with serve(*both) as served, client_of(served.url) as client:
        answers = [
            await client.chat.completions.parse(
                model="scripted", messages=HELLO, tools=[WEATHER_TOOL], response_format=Contact
            )
            for _ in both
        ]
    first, second = (answer.choices[0].message for answer in answers)
    assert first.tool_calls is not None
    assert (first.tool_calls[0].function.parsed_arguments, first.parsed) == ({"city": "Oslo"}, None)
    assert second.parsed == Contact(name="Ada", city="Oslo")


async def test_an_answer_cut_short_is_not_parsed(serve: Serve) -> None:
    async with serve(says('{"name": "A', finish_reason="length")) as served, client_of(served.url) as client:
        with pytest.raises(openai.LengthFinishReasonError):
            await client.chat.completions.parse(model="scripted", messages=HELLO, response_format=Contact)


async def test_embeddings(serve: Serve) -> None:
    async with serve() as served, client_of(served.url) as client:
        answer = await client.embeddings.create(model="scripted", input=["ab", "abcd"])
    assert [vector.embedding for vector in answer.data] == [[2.0, 0.5], [4.0, 0.5]]


async def test_too_many_requests_are_tried_again_as_told(serve: Serve) -> None:
    busy = [RateLimited("busy", retry_after_s=0.01)]
    async with serve(busy, says("Hello")) as served, client_of(served.url, max_retries=1) as client:
        answer = await client.chat.completions.create(model="scripted", messages=HELLO)
    assert (answer.choices[0].message.content, len(served.chats)) == ("Hello", 2)


async def test_models(serve: Serve) -> None:
    async with serve() as served, client_of(served.url) as client:
        assert [model.id async for model in client.models.list()] == ["scripted"]
        assert (await client.models.retrieve("scripted")).object == "model"


@pytest.mark.engine
@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": PIXEL}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.png", "file_data": PIXEL}},
    ],
    ids=["image", "audio", "picture file"],
)
async def test_what_the_embedded_model_cannot_read_is_refused(starter_url: str, part: Any) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]
    async with client_of(starter_url) as client:
        with pytest.raises(openai.BadRequestError, match="cannot read"):
            await client.chat.completions.create(model="llama-micro", messages=messages)


@pytest.mark.engine
async def test_the_embedded_model_is_given_a_files_text_and_says_when_it_is_too_long(starter_url: str) -> None:
    def asking(text: bytes) -> tuple[Any, Any]:
        data = "data:text/plain;base64," + b64encode(text).decode()
        file = {"filename": "owls.txt", "file_data": data}
        said: Any = [
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "file", "file": file}]}
        ]
        parts: Any = [{"type": "input_text", "text": "What is it?"}, {"type": "input_file", **file}]
        return said, [{"role": "user", "content": parts}]

    short, long = asking(b"Owls fly."), asking(b"Owls fly by night. " * 20_000)
    async with client_of(starter_url) as client:
        answer = await client.chat.completions.create(model="llama-micro", messages=short[0], max_tokens=5)
        response = await client.responses.create(model="llama-micro", input=short[1], max_output_tokens=5)
        assert answer.usage is not None and response.usage is not None
        assert answer.usage.prompt_tokens == response.usage.input_tokens > 15
        with pytest.raises(openai.BadRequestError, match=r"\d+ tokens") as refused:
            await client.chat.completions.create(model="llama-micro", messages=long[0])
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "messages")
        with pytest.raises(openai.BadRequestError, match=r"\d+ tokens") as refused:
            await client.responses.create(model="llama-micro", input=long[1])
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


@pytest.mark.engine
async def test_the_embedded_model_calls_a_tool_and_answers_from_it(starter_url: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    async with client_of(starter_url) as client:
        first = await client.chat.completions.create(model="llama-micro", messages=messages, tools=[WEATHER_TOOL])
        messages += [first.choices[0].message, *answers_to(first.choices[0].message)]
        second = await client.chat.completions.create(model="llama-micro", messages=messages, tools=[WEATHER_TOOL])
    assert "snow" in (second.choices[0].message.content or "")
