"""The unmodified `langchain-openai` package: bound tools, structured output in its three ways, streams, embeddings."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import openai
import pytest
from langchain_core.exceptions import ModelNotFoundError
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import SecretStr

from llama_stack.api.inference import JsonObjectFormat
from llama_stack.api.tools import NamedToolChoice
from llama_stack.testing.scripted import calls, says
from tests.third_party.conftest import Serve
from tests.third_party.suite import ClientSuite, Contact, Exchange, get_weather, results, spoken

ADA = '{"name": "Ada", "city": "Bergen"}'
WEATHER = tool(get_weather)
NO_KEY = SecretStr("none")


@asynccontextmanager
async def chat_model(url: str, model: str = "scripted", **options: Any) -> AsyncIterator[ChatOpenAI]:
    # Of itself the package keeps one HTTP client for the life of the process, and each test has a loop of its own.
    async with openai.DefaultAsyncHttpxClient() as http:
        yield ChatOpenAI(
            model=model, base_url=f"{url}/v1", api_key=NO_KEY, max_retries=0, http_async_client=http, **options
        )


def responses_model(url: str, model: str = "scripted", **options: Any) -> AbstractAsyncContextManager[ChatOpenAI]:
    return chat_model(url, model, use_responses_api=True, **options)


class TestChatModel(ClientSuite):
    not_found = ModelNotFoundError
    refused = openai.BadRequestError
    broken: type[Exception] = openai.APIError
    opened: Callable[..., AbstractAsyncContextManager[ChatOpenAI]] = staticmethod(chat_model)

    @asynccontextmanager
    async def bound(self, url: str, model: str, with_tool: bool) -> AsyncIterator[Runnable[Any, AIMessage]]:
        async with self.opened(url, model) as reached:
            yield reached.bind_tools([WEATHER]) if with_tool else reached

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
        messages: list[BaseMessage] = []
        for asked, answered in history:
            messages += [HumanMessage(asked), AIMessage(answered)]
        picture = [{"type": "image_url", "image_url": {"url": image}}] if image else []
        messages.append(HumanMessage([{"type": "text", "text": question}, *picture]))
        async with self.bound(url, model, with_tool) as bound:
            while (message := await bound.ainvoke(messages)).tool_calls:
                messages += [message, *[await answer_to(call) for call in message.tool_calls]]
        return message.text

    async def stream(self, url: str, question: str, *, with_tool: bool = False) -> list[str]:
        messages: list[BaseMessage] = [HumanMessage(question)]
        async with self.bound(url, "scripted", with_tool) as bound:
            while True:
                chunks = [chunk async for chunk in bound.astream(messages)]
                whole = added(chunks)
                if not whole.tool_calls:
                    return [chunk.text for chunk in chunks]
                messages += [whole, *[await answer_to(call) for call in whole.tool_calls]]

    async def contact(self, url: str, question: str) -> Contact:
        async with self.opened(url) as reached:
            answer = await reached.with_structured_output(Contact).ainvoke(question)
        assert isinstance(answer, Contact)
        return answer


class TestResponsesModel(TestChatModel):
    broken = ValueError
    opened = staticmethod(responses_model)

    async def test_the_server_keeps_the_conversation(self, serve: Serve) -> None:
        script = [calls(("get_weather", '{"city": "Oslo"}')), says("Snow."), says("Oslo.")]
        messages: list[BaseMessage] = [HumanMessage("Weather in Oslo?")]
        async with serve(*script) as served, self.opened(served.url, use_previous_response_id=True) as reached:
            bound = reached.bind_tools([WEATHER])
            message = await bound.ainvoke(messages)
            messages += [message, *[await answer_to(call) for call in message.tool_calls]]
            messages += [await bound.ainvoke(messages), HumanMessage("Which city?")]
            assert (await bound.ainvoke(messages)).text == "Oslo."
        assert [text for text in spoken(served.chats[2]) if text] == ["Weather in Oslo?", "Snow.", "Which city?"]
        assert results(served.chats[2]) == [("call_0", "snow")]


def added(chunks: Sequence[AIMessage]) -> AIMessageChunk:
    return add_ai_message_chunks(*[chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)])


async def answer_to(call: Any) -> ToolMessage:
    try:
        answer = await WEATHER.ainvoke(call)
    except ValueError as error:
        return ToolMessage(str(error), tool_call_id=call["id"], status="error")
    assert isinstance(answer, ToolMessage)
    return answer


async def test_structured_output_as_a_tool(serve: Serve) -> None:
    async with serve(calls(("Contact", ADA))) as served, chat_model(served.url) as reached:
        shaped = reached.with_structured_output(Contact, method="function_calling")
        assert await shaped.ainvoke("Ada is from Bergen") == Contact(name="Ada", city="Bergen")
    assert served.chats[0].tool_choice == NamedToolChoice(names=["Contact"])


async def test_structured_output_in_json_mode(serve: Serve) -> None:
    async with serve(says(ADA)) as served, chat_model(served.url) as reached:
        shaped = reached.with_structured_output(Contact, method="json_mode")
        assert await shaped.ainvoke("Ada is from Bergen, as JSON") == Contact(name="Ada", city="Bergen")
    assert served.chats[0].response_format == JsonObjectFormat()


async def test_structured_output_with_what_it_was_read_from(serve: Serve) -> None:
    async with serve(calls(("Contact", '{"name": "Ada"}'))) as served, chat_model(served.url) as reached:
        shaped = reached.with_structured_output(Contact, method="function_calling", include_raw=True)
        answer = await shaped.ainvoke("Ada is from Bergen")
    assert isinstance(answer, dict)
    assert answer["parsed"] is None and "city" in str(answer["parsing_error"])
    assert answer["raw"].tool_calls[0]["args"] == {"name": "Ada"}


@pytest.mark.parametrize("choice", ["any", "get_weather", "none"])
async def test_the_choice_of_a_tool(serve: Serve, choice: str) -> None:
    script = says("Hello") if choice == "none" else calls(("get_weather", '{"city": "Oslo"}'))
    async with serve(script) as served, chat_model(served.url) as reached:
        await reached.bind_tools([WEATHER], tool_choice=choice).ainvoke("Hi")
    expected = {"any": "required", "get_weather": NamedToolChoice(names=["get_weather"]), "none": "none"}
    assert served.chats[0].tool_choice == expected[choice]


async def test_usage_of_a_stream(serve: Serve) -> None:
    async with serve(says("Hel", "lo")) as served, chat_model(served.url, stream_usage=True) as reached:
        whole = added([chunk async for chunk in reached.astream("Hi")])
    assert whole.usage_metadata is not None
    assert (whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]) == (3, 5)


async def test_many_at_once(serve: Serve) -> None:
    async with serve(says("Hello")) as served, chat_model(served.url) as reached:
        answers = await reached.abatch([f"question {number}" for number in range(8)])
    assert [answer.text for answer in answers] == ["Hello"] * 8


async def test_embeddings(serve: Serve) -> None:
    async with serve() as served, openai.DefaultAsyncHttpxClient() as http:
        embeddings = OpenAIEmbeddings(
            model="scripted",
            openai_api_base=f"{served.url}/v1",
            openai_api_key=NO_KEY,
            check_embedding_ctx_length=False,
            http_async_client=http,
        )
        assert await embeddings.aembed_documents(["ab", "abcd"]) == [[2.0, 0.5], [4.0, 0.5]]


@pytest.mark.engine
@pytest.mark.parametrize("opened", [chat_model, responses_model])
async def test_the_embedded_model_calls_a_tool_and_answers_from_it(starter_url: str, opened: Any) -> None:
    messages: list[BaseMessage] = [HumanMessage("What is the weather in Oslo?")]
    async with opened(starter_url, "llama-micro") as reached:
        bound = reached.bind_tools([WEATHER])
        first = await bound.ainvoke(messages)
        messages += [first, *[await answer_to(call) for call in first.tool_calls]]
        assert "snow" in (await bound.ainvoke(messages)).text
