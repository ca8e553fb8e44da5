"""The unmodified `pydantic-ai` package: tools, streams, and structured output in each of its three ways."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI
from pydantic_ai import (
    Agent,
    BinaryContent,
    ModelHTTPError,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelRetry,
    NativeOutput,
    PromptedOutput,
    TextPart,
    ToolOutput,
    UserPromptPart,
)
from pydantic_ai.exceptions import ModelAPIError, ModelNotFoundError
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.openai import OpenAIProvider

from llama_stack.api.inference import JsonObjectFormat, JsonSchemaFormat
from llama_stack.testing.scripted import calls, says
from tests.third_party.conftest import Serve
from tests.third_party.suite import ClientSuite, Contact, Exchange, results, spoken
from tests.third_party.suite import get_weather as weather_of

ADA = '{"name": "Ada", "city": "Bergen"}'


def get_weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: The city name
    """
    try:
        return weather_of(city)
    except ValueError as error:
        raise ModelRetry(str(error)) from error


@asynccontextmanager
async def chat_model(url: str, model: str = "scripted") -> AsyncIterator[Model[Any]]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client))


@asynccontextmanager
async def responses_model(url: str, model: str = "scripted") -> AsyncIterator[Model[Any]]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield OpenAIResponsesModel(model, provider=OpenAIProvider(openai_client=client))


class TestChatModel(ClientSuite):
    not_found = ModelNotFoundError
    refused = ModelHTTPError
    broken = ModelAPIError
    opened = staticmethod(chat_model)

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
        messages: list[ModelMessage] = []
        for asked, answered in history:
            messages.append(ModelRequest(parts=[UserPromptPart(content=asked)]))
            messages.append(ModelResponse(parts=[TextPart(content=answered)]))
        picture = [BinaryContent(base64.b64decode(image.partition(",")[2]), media_type="image/png")] if image else []
        async with self.opened(url, model) as reached:
            agent = Agent(reached, tools=[get_weather] if with_tool else [])
            answer = await agent.run([question, *picture], message_history=messages)
        return answer.output

    async def stream(self, url: str, question: str, *, with_tool: bool = False) -> list[str]:
        async with self.opened(url) as reached:
            agent = Agent(reached, tools=[get_weather] if with_tool else [])
            async with agent.run_stream(question) as answer:
                return [piece async for piece in answer.stream_text(delta=True, debounce_by=None)]

    async def contact(self, url: str, question: str) -> Contact:
        async with self.opened(url) as reached:
            answer = await Agent(reached, output_type=NativeOutput(Contact)).run(question)
        return answer.output


class TestResponsesModel(TestChatModel):
    opened = staticmethod(responses_model)

    async def test_the_server_keeps_the_conversation(self, serve: Serve) -> None:
        script = [calls(("get_weather", '{"city": "Oslo"}')), says("Snow."), says("Oslo.")]
        chained = OpenAIResponsesModelSettings(openai_previous_response_id="auto")
        async with serve(*script) as served, self.opened(served.url) as reached:
            agent = Agent(reached, tools=[get_weather], model_settings=chained)
            first = await agent.run("Weather in Oslo?")
            answer = await agent.run("Which city?", message_history=first.all_messages())
        assert answer.output == "Oslo."
        assert [text for text in spoken(served.chats[2]) if text] == ["Weather in Oslo?", "Snow.", "Which city?"]
        assert results(served.chats[2]) == [("call_0", "snow")]


async def test_structured_output_as_a_tool_after_other_tools(serve: Serve) -> None:
    script = [calls(("get_weather", '{"city": "Oslo"}')), calls(("final_result", ADA))]
    async with serve(*script) as served, chat_model(served.url) as reached:
        agent = Agent(reached, tools=[get_weather], output_type=ToolOutput(Contact))
        answer = await agent.run("Where is Ada from?")
    assert answer.output == Contact(name="Ada", city="Bergen")
    assert [chat.tool_choice for chat in served.chats] == ["required", "required"]
    assert {tool.name for tool in served.chats[0].tools} == {"get_weather", "final_result"}
    assert results(served.chats[1]) == [("call_0", "snow")]


async def test_structured_output_by_schema_after_tools(serve: Serve) -> None:
    async with (
        serve(calls(("get_weather", '{"city": "Oslo"}')), says(ADA)) as served,
        chat_model(served.url) as reached,
    ):
        agent = Agent(reached, tools=[get_weather], output_type=NativeOutput(Contact))
        answer = await agent.run("Where is Ada from?")
    assert answer.output == Contact(name="Ada", city="Bergen")
    assert all(isinstance(chat.response_format, JsonSchemaFormat) for chat in served.chats)


async def test_structured_output_by_prompt(serve: Serve) -> None:
    async with serve(says(ADA)) as served, chat_model(served.url) as reached:
        answer = await Agent(reached, output_type=PromptedOutput(Contact)).run("Where is Ada from?")
    assert answer.output == Contact(name="Ada", city="Bergen")
    assert isinstance(served.chats[0].response_format, JsonObjectFormat)


async def test_an_answer_of_the_wrong_form_is_asked_for_again(serve: Serve) -> None:
    async with serve(says('{"name": "Ada"}'), says(ADA)) as served, chat_model(served.url) as reached:
        answer = await Agent(reached, output_type=NativeOutput(Contact)).run("Where is Ada from?")
    assert answer.output == Contact(name="Ada", city="Bergen")
    assert "city" in served.chats[1].messages[-1].model_dump_json()


async def test_structured_output_streamed(serve: Serve) -> None:
    async with serve(says(*ADA)) as served, chat_model(served.url) as reached:
        agent = Agent(reached, output_type=NativeOutput(Contact))
        async with agent.run_stream("Where is Ada from?") as answer:
            assert await answer.get_output() == Contact(name="Ada", city="Bergen")


@pytest.mark.engine
@pytest.mark.parametrize("opened", [chat_model, responses_model])
async def test_the_embedded_model_calls_a_tool_and_answers_from_it(starter_url: str, opened: Any) -> None:
    async with opened(starter_url, "llama-micro") as reached:
        answer = await Agent(reached, tools=[get_weather]).run("What is the weather in Oslo?")
    assert "snow" in answer.output
