"""Anthropic's Messages over a real server, with the unmodified `anthropic` package."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam

from llama_stack.api.inference import (
    Capabilities,
    ChatEnd,
    ChatRequest,
    ChoiceEnd,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from llama_stack.api.messages import (
    AssistantMessage,
    ImagePart,
    SystemMessage,
    TextPart,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from llama_stack.api.tools import NamedToolChoice
from llama_stack.errors import ContextOverflow, ProviderFailed, ProviderUnavailable, RateLimited, StackError
from llama_stack.server import anthropic_schema
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference, calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.server.test_openapi import strictly

HELLO: list[MessageParam] = [{"role": "user", "content": "Hello"}]
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "Get the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PIXEL = "iVBORw0KGgo="


@dataclass(frozen=True)
class Served:
    url: str
    inference: ScriptedInference
    client: AsyncAnthropic
    http: httpx.AsyncClient

    @property
    def asked(self) -> ChatRequest:
        """The last request that reached the model."""
        request = self.inference.requests[-1]
        assert isinstance(request, ChatRequest)
        return request


@asynccontextmanager
async def served(
    home: Path, *scripts: Script, capabilities: Capabilities | None = None, context_length: int | None = None
) -> AsyncIterator[Served]:
    able = capabilities or Capabilities(vision=True, token_counts=True)
    inference = ScriptedInference(*scripts, capabilities=able)
    async with (
        open_scripted_stack(inference=inference, home=home, context_length=context_length) as stack,
        serving(create_app(stack)) as url,
        AsyncAnthropic(base_url=url, api_key="unused", max_retries=0) as client,
        httpx.AsyncClient(base_url=url, verify=False) as http,
    ):
        yield Served(url, inference, client, http)


def script(*events: Any, finish: Any = "stop", stop_sequence: str | None = None, usage: Usage | None = None) -> Script:
    return [*events, ChoiceEnd(finish_reason=finish, stop_sequence=stop_sequence), ChatEnd(usage=usage)]


# --- whole answers -------------------------------------------------------------------------------------------------


async def test_a_question_is_answered(tmp_path: Path) -> None:
    usage = Usage(input_tokens=10, cached_input_tokens=4, output_tokens=5, reasoning_tokens=2)
    async with served(tmp_path, says("Hel", "lo.", usage=usage)) as server:
        message = await server.client.messages.create(
            model="scripted",
            max_tokens=50,
            system=[
                {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
                {"type": "text", "text": "Be brief."},
            ],
            messages=HELLO,
            stop_sequences=["STOP"],
            metadata={"user_id": "u1"},
            extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 5},
        )
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "scripted")
    assert [block.model_dump(exclude_none=True) for block in message.content] == [{"type": "text", "text": "Hello."}]
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (6, 4, 5)
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 2
    assert message._request_id
    asked = server.asked
    assert asked.messages == [SystemMessage(content="Be kind.\n\nBe brief."), UserMessage(content="Hello")]
    assert (asked.sampling.max_tokens, asked.sampling.stop, asked.user, asked.whole) == (50, ["STOP"], "u1", True)
    assert (asked.sampling.temperature, asked.sampling.top_p, asked.sampling.top_k) == (0.5, 0.9, 5)


@pytest.mark.parametrize(
    ("events", "reason", "sequence"),
    [
        (script(TextDelta(text="x"), finish="length"), "max_tokens", None),
        (script(TextDelta(text="x"), stop_sequence="END"), "stop_sequence", "END"),
        (script(TextDelta(text="x"), finish="content_filter"), "refusal", None),
        (calls(("get_weather", "{}")), "tool_use", None),
    ],
)
async def test_why_an_answer_ended(tmp_path: Path, events: Script, reason: str, sequence: str | None) -> None:
    async with served(tmp_path, events) as server:
        message = await server.client.messages.create(model="scripted", max_tokens=5, messages=HELLO, tools=[WEATHER])
        async with server.client.messages.stream(
            model="scripted", max_tokens=5, messages=HELLO, tools=[WEATHER]
        ) as stream:
            streamed = await stream.get_final_message()
    for told in (message, streamed):
        assert (told.stop_reason, told.stop_sequence) == (reason, sequence)


async def test_a_limit_beyond_the_window_is_the_window(tmp_path: Path) -> None:
    """As with Anthropic: `max_tokens` is required, so clients send a large one."""
    overflow: Script = [ContextOverflow("4 tokens and max_tokens 9000", param="messages")]
    async with served(tmp_path, overflow, script(TextDelta(text="x"), finish="length")) as server:
        message = await server.client.messages.create(model="scripted", max_tokens=9000, messages=HELLO)
        assert message.stop_reason == "model_context_window_exceeded"
        first, second = server.inference.requests
        assert isinstance(first, ChatRequest)
        assert isinstance(second, ChatRequest)
        assert (first.sampling.max_tokens, second.sampling.max_tokens) == (9000, None)
    async with served(tmp_path / "long", overflow) as server:
        with pytest.raises(anthropic.BadRequestError, match="4 tokens"):
            await server.client.messages.create(model="scripted", max_tokens=9, messages=HELLO)


# --- tools ---------------------------------------------------------------------------------------------------------


async def test_tools_go_there_and_back(tmp_path: Path) -> None:
    async with served(tmp_path, calls(("get_weather", '{"city": "Oslo"}')), says("Clear.")) as server:
        asked: list[MessageParam] = [{"role": "user", "content": "Weather in Oslo?"}]
        first = await server.client.messages.create(model="scripted", max_tokens=50, messages=asked, tools=[WEATHER])
        (call,) = first.content
        assert call.type == "tool_use"
        assert (call.name, call.input, first.stop_reason) == ("get_weather", {"city": "Oslo"}, "tool_use")
        second = await server.client.messages.create(
            model="scripted",
            max_tokens=50,
            tools=[WEATHER],
            messages=[
                *asked,
                {"role": "assistant", "content": first.content},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": call.id,
                            "content": [
                                {"type": "text", "text": "21 degrees"},
                                {
                                    "type": "image",
                                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                                },
                            ],
                        },
                        {"type": "text", "text": "So?"},
                    ],
                },
            ],
        )
        assert second.stop_reason == "end_turn"
        assert server.asked.messages[1:] == [
            AssistantMessage(tool_calls=[ToolCall(id="call_0", name="get_weather", arguments='{"city": "Oslo"}')]),
            ToolMessage(
                tool_call_id="call_0",
                name="get_weather",
                content=[TextPart(text="21 degrees"), ImagePart(url=f"data:image/png;base64,{PIXEL}")],
            ),
            UserMessage(content="So?"),
        ]
        (tool,) = server.asked.tools
        assert (tool.name, tool.description, tool.parameters) == (
            "get_weather",
            "Get the weather",
            WEATHER["input_schema"],
        )


async def test_a_choice_of_tools_is_kept_to(tmp_path: Path) -> None:
    async with served(tmp_path, calls(("get_weather", "{}"))) as server:
        create = server.client.messages.create
        await create(
            model="scripted",
            max_tokens=9,
            messages=HELLO,
            tools=[WEATHER],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
        )
        assert (server.asked.tool_choice, server.asked.parallel_tool_calls) == ("required", False)
        await create(
            model="scripted",
            max_tokens=9,
            messages=HELLO,
            tools=[WEATHER],
            tool_choice={"type": "tool", "name": "get_weather"},
        )
        assert server.asked.tool_choice == NamedToolChoice(names=["get_weather"])
        silent = await create(
            model="scripted", max_tokens=9, messages=HELLO, tools=[WEATHER], tool_choice={"type": "none"}
        )
        assert (silent.content, silent.stop_reason) == ([], "end_turn")


# --- streams -------------------------------------------------------------------------------------------------------


async def test_a_streamed_answer_comes_in_its_blocks(tmp_path: Path) -> None:
    events = script(
        ReasoningDelta(text="hm"),
        TextDelta(text="I "),
        TextDelta(text="look."),
        ToolCallStart(index=0, id="c0", name="get_weather"),
        ToolCallDelta(index=0, arguments='{"city":'),
        ToolCallDelta(index=0, arguments='"Oslo"}'),
        ToolCallStart(index=1, id="c1", name="get_weather"),
        ToolCallDelta(index=1, arguments='{"city":"Rome"}'),
        finish="tool_calls",
        usage=Usage(input_tokens=7, output_tokens=9),
    )
    async with served(tmp_path, events) as server:
        kinds = []
        async with server.client.messages.stream(
            model="scripted",
            max_tokens=2000,
            messages=HELLO,
            tools=[WEATHER],
            thinking={"type": "enabled", "budget_tokens": 1024},
        ) as stream:
            async for event in stream:
                kinds.append(event.type)
            message = await stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in message.content if block.type == "tool_use"] == [
        {"city": "Oslo"},
        {"city": "Rome"},
    ]
    assert [block.text for block in message.content if block.type == "text"] == ["I look."]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 9)
    assert message.stop_reason == "tool_use"
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 4
    assert server.asked.reasoning_effort == "low"
    assert not server.asked.whole


async def test_a_streamed_and_a_whole_answer_are_the_same(tmp_path: Path) -> None:
    events = script(TextDelta(text="a"), ReasoningDelta(text="not asked for"), TextDelta(text="b"))
    async with served(tmp_path, events) as server:
        whole = await server.client.messages.create(model="scripted", max_tokens=9, messages=HELLO)
        async with server.client.messages.stream(model="scripted", max_tokens=9, messages=HELLO) as stream:
            text = [piece async for piece in stream.text_stream]
            streamed = await stream.get_final_message()
    assert text == ["a", "b"]
    for message in (whole, streamed):
        assert [(block.type, block.text) for block in message.content if block.type == "text"] == [("text", "ab")]
        assert len(message.content) == 1


async def test_the_frames_are_named_as_anthropic_names_them(tmp_path: Path) -> None:
    async with served(tmp_path, says("hi")) as server:
        body = {"model": "scripted", "max_tokens": 9, "messages": HELLO, "stream": True}
        answer = await server.http.post("/v1/messages", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "[DONE]" not in answer.text


async def test_leaving_a_stream_early_stops_the_model(tmp_path: Path) -> None:
    never = asyncio.Event()
    async with served(tmp_path, [TextDelta(text="x"), never]) as server:
        async with server.client.messages.stream(model="scripted", max_tokens=9, messages=HELLO) as stream:
            async for text in stream.text_stream:
                assert text == "x"
                break
        async with asyncio.timeout(60):
            await server.inference.closed_early.wait()


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "raised", "kind"),
    [
        (ContextOverflow("too long"), anthropic.BadRequestError, "invalid_request_error"),
        (RateLimited("slower", retry_after_s=3), anthropic.RateLimitError, "rate_limit_error"),
        (ProviderUnavailable("down"), anthropic.InternalServerError, "overloaded_error"),
        (ProviderFailed("bad"), anthropic.InternalServerError, "api_error"),
        (ProviderFailed("key", upstream_status=401), anthropic.AuthenticationError, "authentication_error"),
    ],
)
async def test_errors_have_anthropics_shape(
    tmp_path: Path, failure: StackError, raised: type[anthropic.APIStatusError], kind: str
) -> None:
    async with served(tmp_path, [failure]) as server:
        for stream in (False, True):
            with pytest.raises(raised, match=failure.message) as error:
                await server.client.messages.create(model="scripted", max_tokens=9, messages=HELLO, stream=stream)
            body: Any = error.value.body
            assert (body["type"], body["error"]["type"], body["error"]["message"]) == ("error", kind, failure.message)
            assert error.value.request_id == body["request_id"]
            assert error.value.response.headers.get("retry-after") == ("3" if kind == "rate_limit_error" else None)


async def test_an_error_in_the_middle_of_a_stream_is_its_last_event(tmp_path: Path) -> None:
    async with served(tmp_path, [TextDelta(text="x"), ProviderUnavailable("gone")]) as server:
        seen = []
        with pytest.raises(anthropic.APIStatusError, match="gone"):
            async with server.client.messages.stream(model="scripted", max_tokens=9, messages=HELLO) as stream:
                async for text in stream.text_stream:
                    seen.append(text)
        assert seen == ["x"]


async def test_a_bug_of_ours_is_an_api_error_without_details(tmp_path: Path) -> None:
    async with served(tmp_path, [RuntimeError("secret")]) as server:
        with pytest.raises(anthropic.InternalServerError) as error:
            await server.client.messages.create(model="scripted", max_tokens=9, messages=HELLO)
        body: Any = error.value.body
        assert body["error"]["type"] == "api_error"
        assert "secret" not in str(body)


async def test_an_unknown_model_names_those_there_are(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        with pytest.raises(anthropic.NotFoundError, match="scripted"):
            await server.client.messages.create(model="somebody-elses", max_tokens=9, messages=HELLO)


# --- counting ------------------------------------------------------------------------------------------------------


async def test_tokens_are_counted_by_the_provider(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        counted = await server.client.messages.count_tokens(
            model="scripted", system="be kind", messages=HELLO, tools=[WEATHER]
        )
        assert counted.input_tokens == 3
        assert counted.model_dump()["estimated"] is False
        chat = {"model": "scripted", "messages": [{"role": "user", "content": "two words"}]}
        plain = await server.http.post("/v1/chat/completions/input_tokens", json=chat)
        assert plain.json() == {"object": "chat.completion.input_tokens", "input_tokens": 2, "estimated": False}


async def test_an_estimate_says_that_it_is_one(tmp_path: Path) -> None:
    async with served(tmp_path, capabilities=Capabilities()) as server:
        counted = await server.client.messages.count_tokens(model="scripted", messages=HELLO)
        assert counted.input_tokens > 3
        assert counted.model_dump()["estimated"] is True
        with pytest.raises(anthropic.NotFoundError):
            await server.client.messages.count_tokens(model="none", messages=HELLO)


# --- around it -----------------------------------------------------------------------------------------------------


async def test_the_list_of_models_keeps_openais_shape(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        body = (await server.http.get("/v1/models")).json()
        assert body["object"] == "list"
        listed = await server.client.models.list()
        assert listed.data[0].id == "scripted"


async def test_answers_are_as_described(tmp_path: Path) -> None:
    events = script(
        ReasoningDelta(text="hm"), TextDelta(text="x"), ToolCallStart(index=0, id="c", name="get_weather"),
        usage=Usage(reasoning_tokens=1),
    )  # fmt: skip
    body: dict[str, Any] = {"model": "scripted", "max_tokens": 9, "messages": HELLO, "thinking": {"type": "adaptive"}}
    async with served(tmp_path, events) as server:
        strictly(anthropic_schema.AnthropicMessage, (await server.http.post("/v1/messages", json=body)).json())
        strictly(anthropic_schema.AnthropicErrorAnswer, (await server.http.post("/v1/messages", json={})).json())
        del body["max_tokens"]
        counted = await server.http.post("/v1/messages/count_tokens", json=body)
        strictly(anthropic_schema.AnthropicTokenCount, counted.json())
