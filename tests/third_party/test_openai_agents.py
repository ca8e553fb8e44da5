"""The unmodified `openai-agents` package: tools, hand-offs, streams, structured output, sessions."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import agents
import openai
import pytest
from agents import (
    Agent,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    RunContextWrapper,
    Runner,
    SQLiteSession,
    function_tool,
    set_trace_processors,
)
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent

from llama_stack.api.messages import SystemMessage, text_of
from llama_stack.testing.scripted import calls, says
from tests.third_party.conftest import Serve
from tests.third_party.suite import ClientSuite, Contact, Exchange, get_weather, results, spoken

QUIET = RunConfig(tracing_disabled=True)


@pytest.fixture(autouse=True)
def nobody_sends_traces() -> None:
    """By default the package sends its traces to OpenAI: without a processor there is nobody who could."""
    set_trace_processors([])


@asynccontextmanager
async def chat_model(url: str, model: str = "scripted") -> AsyncIterator[Model]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield OpenAIChatCompletionsModel(model, client)


def told(context: RunContextWrapper[Any], error: Exception) -> str:
    """The package's default tells the model that a tool failed, and not why."""
    return f"error: {error}"


WEATHER = function_tool(get_weather, failure_error_function=told)


@asynccontextmanager
async def responses_model(url: str, model: str = "scripted") -> AsyncIterator[Model]:
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield OpenAIResponsesModel(model, client)


class TestChatModel(ClientSuite):
    not_found = openai.NotFoundError
    refused = openai.BadRequestError
    broken: type[Exception] = openai.APIError
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
        messages: list[Any] = []
        for asked, answered in history:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        picture = [{"type": "input_image", "image_url": image, "detail": "auto"}] if image else []
        messages.append({"role": "user", "content": [{"type": "input_text", "text": question}, *picture]})
        async with self.opened(url, model) as reached:
            agent = Agent(name="weather", model=reached, tools=[WEATHER] if with_tool else [])
            answer = await Runner.run(agent, messages, run_config=QUIET)
        return str(answer.final_output)

    async def stream(self, url: str, question: str, *, with_tool: bool = False) -> list[str]:
        pieces: list[str] = []
        async with self.opened(url) as reached:
            agent = Agent(name="weather", model=reached, tools=[WEATHER] if with_tool else [])
            async for event in Runner.run_streamed(agent, question, run_config=QUIET).stream_events():
                if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent):
                    pieces.append(event.data.delta)
        return pieces

    async def contact(self, url: str, question: str) -> Contact:
        async with self.opened(url) as reached:
            agent = Agent(name="reader", model=reached, output_type=Contact)
            answer = await Runner.run(agent, question, run_config=QUIET)
        return answer.final_output_as(Contact, raise_if_incorrect_type=True)

    async def test_a_hand_off(self, serve: Serve) -> None:
        async with serve(calls(("transfer_to_billing", "{}")), says("Paid.")) as served, self.opened(served.url) as at:
            billing = Agent(name="billing", model=at, instructions="You know the bills.")
            desk = Agent(name="desk", model=at, instructions="You greet.", handoffs=[billing])
            answer = await Runner.run(desk, "Is my bill paid?", run_config=QUIET)
        assert (answer.final_output, answer.last_agent.name) == ("Paid.", "billing")
        told = [message for chat in served.chats for message in chat.messages if isinstance(message, SystemMessage)]
        assert [text_of(message.content) for message in told] == ["You greet.", "You know the bills."]
        assert [call_id for call_id, _ in results(served.chats[1])] == ["call_0"]

    async def test_a_session_of_the_client_is_sent_again_as_a_conversation(self, serve: Serve) -> None:
        session = SQLiteSession("one")
        script = [calls(("get_weather", '{"city": "Oslo"}')), says("Snow."), says("Oslo.")]
        async with serve(*script) as served, self.opened(served.url) as at:
            agent = Agent(name="weather", model=at, tools=[WEATHER])
            await Runner.run(agent, "Weather in Oslo?", session=session, run_config=QUIET)
            answer = await Runner.run(agent, "Which city was it?", session=session, run_config=QUIET)
        session.close()
        assert answer.final_output == "Oslo."
        assert [text for text in spoken(served.chats[2]) if text] == ["Weather in Oslo?", "Snow.", "Which city was it?"]
        assert results(served.chats[2]) == [("call_0", "snow")]

    async def test_usage_is_counted_over_the_run(self, serve: Serve) -> None:
        script = [calls(("get_weather", '{"city": "Oslo"}')), says("Snow.")]
        async with serve(*script) as served, self.opened(served.url) as at:
            agent = Agent(name="weather", model=at, tools=[WEATHER])
            answer = await Runner.run(agent, "Weather in Oslo?", run_config=QUIET)
        usage = answer.context_wrapper.usage
        assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 6, 10)

    async def test_a_run_that_never_ends_is_ended_by_the_client(self, serve: Serve) -> None:
        async with serve(calls(("get_weather", '{"city": "Oslo"}'))) as served, self.opened(served.url) as at:
            agent = Agent(name="weather", model=at, tools=[WEATHER])
            with pytest.raises(agents.MaxTurnsExceeded):
                await Runner.run(agent, "Weather in Oslo?", max_turns=3, run_config=QUIET)
        assert len(served.chats) == 3


class TestResponsesModel(TestChatModel):
    broken = agents.ModelBehaviorError
    opened = staticmethod(responses_model)

    async def test_the_server_keeps_the_conversation(self, serve: Serve) -> None:
        script = [calls(("get_weather", '{"city": "Oslo"}')), says("Snow."), says("Oslo.")]
        async with serve(*script) as served, self.opened(served.url) as at:
            agent = Agent(name="weather", model=at, tools=[WEATHER])
            first = await Runner.run(agent, "Weather in Oslo?", run_config=QUIET)
            last = first.last_response_id
            answer = await Runner.run(agent, "Which city?", previous_response_id=last, run_config=QUIET)
        assert answer.final_output == "Oslo."
        assert [text for text in spoken(served.chats[2]) if text] == ["Weather in Oslo?", "Snow.", "Which city?"]
        assert results(served.chats[2]) == [("call_0", "snow")]


@pytest.mark.engine
@pytest.mark.parametrize("opened", [chat_model, responses_model])
async def test_the_embedded_model_calls_a_tool_and_answers_from_it(starter_url: str, opened: Any) -> None:
    async with opened(starter_url, "llama-micro") as reached:
        agent = Agent(name="weather", model=reached, tools=[WEATHER])
        answer = await Runner.run(agent, "What is the weather in Oslo?", run_config=QUIET)
    assert "snow" in answer.final_output
