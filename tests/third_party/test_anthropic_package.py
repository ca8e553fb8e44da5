"""The unmodified `anthropic` package: one conversation with tools, whole and streamed, and its errors."""

from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from llama_stack.testing.scripted import calls, says
from tests.third_party.conftest import Serve
from tests.third_party.suite import called, get_weather, results

WEATHER_TOOL: Any = {
    "name": "get_weather",
    "description": "Get the current weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def answers_to(message: Any) -> Any:
    blocks = [block for block in message.content if block.type == "tool_use"]
    return [{"type": "tool_result", "tool_use_id": block.id, "content": get_weather(**block.input)} for block in blocks]


async def test_a_conversation_with_tools(serve: Serve) -> None:
    both = calls(("get_weather", '{"city": "Oslo"}'), ("get_weather", '{"city": "Cairo"}'))
    messages: list[Any] = [{"role": "user", "content": "Weather in both?"}]
    asked: Any = {"model": "scripted", "max_tokens": 100, "tools": [WEATHER_TOOL]}
    async with (
        serve(both, says("Snow ", "and sun.")) as served,
        AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0) as client,
    ):
        first = await client.messages.create(messages=messages, **asked)
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": answers_to(first)}]
        async with client.messages.stream(messages=messages, **asked) as stream:
            pieces = [text async for text in stream.text_stream]
            final = await stream.get_final_message()
        with pytest.raises(anthropic.NotFoundError, match="Did you mean 'scripted'"):
            await client.messages.create(model="script", max_tokens=9, messages=messages[:1])
    assert first.stop_reason == "tool_use"
    assert (pieces, final.stop_reason) == (["Snow ", "and sun."], "end_turn")
    assert [arguments for _, _, arguments in called(served.chats[1])] == [{"city": "Oslo"}, {"city": "Cairo"}]
    assert [text for _, text in results(served.chats[1])] == ["snow", "sunny"]


async def test_the_package_runs_the_tools_itself(serve: Serve) -> None:
    """Its runner asks for a conversation that the server holds, and sends all of it where the server holds none."""

    @anthropic.beta_async_tool
    async def get_weather_of(city: str) -> str:
        """Get the current weather in a city."""
        return get_weather(city)

    question: Any = {"role": "user", "content": "Weather in Oslo?"}
    async with (
        serve(calls(("get_weather_of", '{"city": "Oslo"}')), says("It snows.")) as served,
        AsyncAnthropic(base_url=served.url, api_key="none", max_retries=0) as client,
    ):
        runner = client.beta.messages.tool_runner(
            model="scripted", max_tokens=100, messages=[question], tools=[get_weather_of]
        )
        final = await runner.until_done()
    (block,) = final.content
    assert block.type == "text" and block.text == "It snows."
    assert results(served.chats[1]) == [("call_0", "snow")]


@pytest.mark.engine
async def test_the_embedded_model_calls_a_tool_and_answers_from_it(starter_url: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    asked: Any = {"model": "llama-micro", "max_tokens": 100, "tools": [WEATHER_TOOL]}
    async with AsyncAnthropic(base_url=starter_url, api_key="none", max_retries=0) as client:
        first = await client.messages.create(messages=messages, **asked)
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": answers_to(first)}]
        second = await client.messages.create(messages=messages, **asked)
    assert "snow" in "".join(block.text for block in second.content if block.type == "text")
