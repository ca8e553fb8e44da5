"""What every client must be able to do on our server: inherit `ClientSuite`, write three methods, and the tests run.

The methods are what a user of that client writes; the tests hold what the client gives to its user, and what the
model behind the server was asked, to the same expectations for every client.
"""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from llama_stack.api.inference import ChatRequest, JsonSchemaFormat, TextDelta
from llama_stack.api.messages import AssistantMessage, Message, ToolMessage, text_of
from llama_stack.errors import ProviderFailed
from llama_stack.testing.scripted import calls, says
from tests.third_party.conftest import Serve

WEATHER = {"Oslo": "snow", "Cairo": "sunny"}
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def get_weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: The city name
    """
    if city not in WEATHER:
        raise ValueError(f"no weather for {city}")
    return WEATHER[city]


class Contact(BaseModel):
    name: str
    city: str


Exchange = tuple[str, str]
"""A question and the answer it got."""


class ClientSuite:
    """not_found, refused, broken: what the client raises for a model that is not there, for a request that the server
    refuses, and for an answer that fails after it has begun.
    """

    not_found: type[Exception]
    refused: type[Exception]
    broken: type[Exception] | tuple[type[Exception], ...]

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
        """The answer. with_tool: offer `get_weather` and run what is called until there is an answer; what the tool
        raises is told to the model in the client's own way. image: a URL that is part of the question.
        """
        raise NotImplementedError

    async def stream(self, url: str, question: str, *, with_tool: bool = False) -> list[str]:
        """The answer as it came, piece by piece."""
        raise NotImplementedError

    async def contact(self, url: str, question: str) -> Contact:
        """An answer in the form of a Contact, asked for by its JSON Schema."""
        raise NotImplementedError

    async def test_text(self, serve: Serve) -> None:
        async with serve(says("Hel", "lo")) as served:
            assert await self.ask(served.url, "Hi") == "Hello"
        assert spoken(served.chats[0]) == ["Hi"]

    async def test_a_stream(self, serve: Serve) -> None:
        async with serve(says("Hel", "lo")) as served:
            assert said(await self.stream(served.url, "Hi")) == ["Hel", "lo"]

    async def test_one_tool(self, serve: Serve) -> None:
        async with serve(calls(("get_weather", '{"city": "Oslo"}')), says("It snows.")) as served:
            assert await self.ask(served.url, "Weather in Oslo?", with_tool=True) == "It snows."
        first, second = served.chats
        (offered,) = first.tools
        assert offered.name == "get_weather"
        assert "Get the current weather in a city." in (offered.description or "")
        assert offered.parameters is not None and offered.parameters["required"] == ["city"]
        assert called(second) == [("call_0", "get_weather", {"city": "Oslo"})]
        assert results(second) == [("call_0", "snow")]

    async def test_two_tools_at_once(self, serve: Serve) -> None:
        both = calls(("get_weather", '{"city": "Oslo"}'), ("get_weather", '{"city": "Cairo"}'))
        async with serve(both, says("Snow and sun.")) as served:
            assert await self.ask(served.url, "Weather in both?", with_tool=True) == "Snow and sun."
        assert called(served.chats[1]) == [
            ("call_0", "get_weather", {"city": "Oslo"}),
            ("call_1", "get_weather", {"city": "Cairo"}),
        ]
        assert results(served.chats[1]) == [("call_0", "snow"), ("call_1", "sunny")]

    async def test_tools_in_a_stream(self, serve: Serve) -> None:
        both = calls(("get_weather", '{"city": "Oslo"}'), ("get_weather", '{"city": "Cairo"}'))
        async with serve(both, says("Snow ", "and sun.")) as served:
            pieces = await self.stream(served.url, "Weather in both?", with_tool=True)
        assert said(pieces) == ["Snow ", "and sun."]
        assert results(served.chats[1]) == [("call_0", "snow"), ("call_1", "sunny")]

    async def test_a_tool_that_fails_is_told_to_the_model(self, serve: Serve) -> None:
        async with serve(calls(("get_weather", '{"city": "Atlantis"}')), says("No idea.")) as served:
            assert await self.ask(served.url, "Weather in Atlantis?", with_tool=True) == "No idea."
        ((call_id, told),) = results(served.chats[1])
        assert (call_id, "no weather for Atlantis" in told) == ("call_0", True)

    async def test_structured_output(self, serve: Serve) -> None:
        async with serve(says('{"name": "Ada",', ' "city": "Bergen"}')) as served:
            assert await self.contact(served.url, "Ada is from Bergen") == Contact(name="Ada", city="Bergen")
        wanted = served.chats[0].response_format
        assert isinstance(wanted, JsonSchemaFormat)
        assert wanted.json_schema["properties"].keys() == {"name", "city"}
        assert wanted.json_schema["required"] == ["name", "city"]

    async def test_an_image(self, serve: Serve) -> None:
        async with serve(says("A dot.")) as served:
            assert await self.ask(served.url, "What is this?", image=PIXEL) == "A dot."
        (message,) = served.chats[0].messages
        assert not isinstance(message.content, str) and message.content is not None
        assert [part.type for part in message.content] == ["text", "image"]
        assert PIXEL in message.model_dump_json()

    async def test_an_image_for_a_model_without_vision_is_refused(self, serve: Serve) -> None:
        async with serve(says("A dot."), vision=False) as served:
            with pytest.raises(self.refused) as refused:
                await self.ask(served.url, "What is this?", image=PIXEL)
        assert status_of(refused.value) == 400
        assert "image" in str(refused.value)
        assert served.chats == []

    async def test_an_unknown_model_is_not_found(self, serve: Serve) -> None:
        async with serve(says("Hello")) as served:
            with pytest.raises(self.not_found) as refused:
                await self.ask(served.url, "Hi", model="script")
        assert status_of(refused.value) == 404
        assert "Did you mean 'scripted'?" in str(refused.value)

    async def test_a_stream_that_breaks_is_no_answer(self, serve: Serve) -> None:
        async with serve([TextDelta(text="Hel"), ProviderFailed("the model fell over")]) as served:
            with pytest.raises(self.broken, match="the model fell over"):
                await self.stream(served.url, "Hi")

    async def test_a_long_conversation(self, serve: Serve) -> None:
        history = [(f"question {number}", f"answer {number}") for number in range(60)]
        async with serve(says("The last one.")) as served:
            assert await self.ask(served.url, "And now?", history=history) == "The last one."
        before = [text for exchange in history for text in exchange]
        assert spoken(served.chats[0]) == [*before, "And now?"]


def said(pieces: list[str]) -> list[str]:
    """Without the empty pieces that begin and end a stream."""
    return [piece for piece in pieces if piece]


def spoken(request: ChatRequest) -> list[str]:
    """What user and assistant said, in order."""
    return [text_of(message.content or "") for message in request.messages if message.role in ("user", "assistant")]


def called(request: ChatRequest) -> list[tuple[str, str, Any]]:
    """The calls in the conversation: id, name and arguments."""
    made = [call for message in request.messages for call in _calls_of(message)]
    return [(call.id, call.name, json.loads(call.arguments)) for call in made]


def _calls_of(message: Message) -> list[Any]:
    return list(message.tool_calls) if isinstance(message, AssistantMessage) else []


def results(request: ChatRequest) -> list[tuple[str, str]]:
    """What tools gave back in the conversation: the call's id and the text."""
    found = [message for message in request.messages if isinstance(message, ToolMessage)]
    return [(message.tool_call_id, text_of(message.content)) for message in found]


def status_of(error: BaseException) -> int | None:
    """The HTTP status of a client's error, or of the one it was raised from."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status
    return status_of(error.__cause__) if error.__cause__ is not None else None
