"""POST /v1/responses with an unmodified `openai` client on a real server."""

from typing import Any

import pytest
from openai import BadRequestError, NotFoundError

from llama_stack.api.inference import ReasoningDelta, TextDelta, TokenLogprob
from llama_stack.api.messages import AssistantMessage, ToolMessage, UserMessage
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import Start, streamed, told

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


async def test_a_text_is_answered(start: Start) -> None:
    async with start(says("Hello", " world")) as running:
        response = await running.openai.responses.create(
            model="scripted", input="Hi", instructions="Be brief.", metadata={"a": "b"}
        )
        again = await running.openai.responses.retrieve(response.id)
    assert response.output_text == "Hello world"
    assert response.status == "completed"
    assert response.metadata == {"a": "b"}
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (3, 5, 8)
    assert again.model_dump() == response.model_dump()
    assert [message.role for message in told(running)] == ["system", "user"]


async def test_a_stream_is_numbered_and_says_in_the_end_what_the_whole_answer_says(start: Start) -> None:
    async with start([ReasoningDelta(text="hm"), *says("Hello", " world")]) as running:
        events = await streamed(running.openai, input="Hi")
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    items = [event.item for event in events if event.type == "response.output_item.done"]
    assert items == events[-1].response.output


async def test_a_function_call_is_handed_over_and_its_output_continues_the_chain(start: Start) -> None:
    async with start(calls(("weather", '{"city": "Rome"}'), ("weather", '{"city": "Oslo"}')), says("Mild.")) as running:
        first = await running.openai.responses.create(model="scripted", input="Weather?", tools=[WEATHER])
        assert first.status == "completed"
        asked = [(item.type, item.call_id, item.arguments) for item in first.output]  # type: ignore[union-attr]
        assert asked == [
            ("function_call", "call_0", '{"city": "Rome"}'),
            ("function_call", "call_1", '{"city": "Oslo"}'),
        ]
        second = await running.openai.responses.create(
            model="scripted",
            previous_response_id=first.id,
            tools=[WEATHER],
            input=[
                {"type": "function_call_output", "call_id": "call_1", "output": "cold"},
                {"type": "function_call_output", "call_id": "call_0", "output": "warm"},
            ],
        )
    assert second.output_text == "Mild."
    assert second.previous_response_id == first.id
    user, answer, one, two = told(running)
    assert isinstance(user, UserMessage)
    assert isinstance(answer, AssistantMessage)
    assert [call.id for call in answer.tool_calls] == ["call_0", "call_1"]
    # In the order of the calls, whatever order they were sent in.
    assert isinstance(one, ToolMessage)
    assert (one.tool_call_id, one.content) == ("call_0", "warm")
    assert isinstance(two, ToolMessage)
    assert (two.tool_call_id, two.content) == ("call_1", "cold")


async def test_a_response_can_be_continued_twice(start: Start) -> None:
    async with start(says("A"), says("B"), says("C")) as running:
        first = await running.openai.responses.create(model="scripted", input="1")
        await running.openai.responses.create(model="scripted", input="2", previous_response_id=first.id)
        other = await running.openai.responses.create(model="scripted", input="3", previous_response_id=first.id)
    assert other.output_text == "C"
    assert [message.content for message in told(running)] == ["1", "A", "3"]


async def test_a_chain_goes_on_after_the_server_was_started_again(start: Start) -> None:
    async with start(says("A")) as running:
        first = await running.openai.responses.create(model="scripted", input="1")
    async with start(says("B")) as running:
        second = await running.openai.responses.create(model="scripted", input="2", previous_response_id=first.id)
        listed = await running.http.get("/v1/responses")
    assert second.output_text == "B"
    assert [message.content for message in told(running)] == ["1", "A", "2"]
    assert [entry["id"] for entry in listed.json()["data"]] == [second.id, first.id]


async def test_what_is_not_stored_leaves_no_rows(start: Start) -> None:
    async with start(says("A"), says("B")) as running:
        await running.openai.responses.create(model="scripted", input="0")
        before = await running.rows()
        response = await running.openai.responses.create(model="scripted", input="1", store=False)
        assert await running.rows() == before
        events = await streamed(running.openai, input="2", store=False)
        assert await running.rows() == before
        assert events[-1].type == "response.completed"
        with pytest.raises(NotFoundError):
            await running.openai.responses.retrieve(response.id)


async def test_a_conversation_without_store_is_sent_whole(start: Start) -> None:
    async with start(calls(("weather", "{}")), says("Mild.")) as running:
        asked: list[Any] = [{"role": "user", "content": "Weather?"}]
        first = await running.openai.responses.create(model="scripted", input=asked, tools=[WEATHER], store=False)
        asked += [item.model_dump() for item in first.output]
        asked.append({"type": "function_call_output", "call_id": "call_0", "output": "warm"})
        second = await running.openai.responses.create(model="scripted", input=asked, tools=[WEATHER], store=False)
    assert second.output_text == "Mild."
    assert [message.role for message in told(running)] == ["user", "assistant", "tool"]


async def test_a_call_without_its_output_is_refused(start: Start) -> None:
    async with start(calls(("weather", "{}"))) as running:
        first = await running.openai.responses.create(model="scripted", input="Weather?", tools=[WEATHER])
        with pytest.raises(BadRequestError, match="the call 'call_0' of weather has no output yet"):
            await running.openai.responses.create(model="scripted", input="And?", previous_response_id=first.id)
        with pytest.raises(BadRequestError, match="no call 'call_9' waits for an output here"):
            await running.openai.responses.create(
                model="scripted",
                previous_response_id=first.id,
                input=[{"type": "function_call_output", "call_id": "call_9", "output": "x"}],
            )


async def test_log_probabilities_come_with_the_text_they_belong_to(start: Start) -> None:
    tokens = [
        TokenLogprob(token=text, logprob=-0.1, bytes=list(text.encode()), top=[TokenLogprob(token="No", logprob=-2.5)])
        for text in ("Yes", ".")
    ]
    script = [*(TextDelta(text=token.token, logprobs=[token]) for token in tokens), *says()]
    wanted: dict[str, Any] = {"input": "?", "top_logprobs": 1, "include": ["message.output_text.logprobs"]}
    async with start(script) as running:
        events = await streamed(running.openai, **wanted)
        kept = await running.openai.responses.retrieve(events[-1].response.id)
        plain = await running.openai.responses.create(model="scripted", input="?")
        requests: Any = running.inference.requests
    deltas = [event.logprobs for event in events if event.type == "response.output_text.delta"]
    assert [[(one.token, one.top_logprobs[0].token) for one in logprobs] for logprobs in deltas] == [
        [("Yes", "No")],
        [(".", "No")],
    ]
    message: Any = kept.output[0]
    given = message.content[0].logprobs
    assert [(one.token, one.logprob, one.bytes) for one in given] == [("Yes", -0.1, [89, 101, 115]), (".", -0.1, [46])]
    assert (kept.top_logprobs, plain.top_logprobs) == (1, 0)
    assert [(one.logprobs, one.top_logprobs) for one in requests] == [(True, 1), (False, None)]


async def test_log_probabilities_come_with_text_that_is_held_until_it_is_known_to_be_the_answer(start: Start) -> None:
    """A draft before a tool's answer in a form is not told, and neither are its tokens."""
    pieces = ('{"degrees":', " 21}")
    form: Any = {"type": "json_schema", "name": "weather", "schema": {"type": "object"}}
    scripts = [
        [*(TextDelta(text=text, logprobs=[TokenLogprob(token=text, logprob=-0.1)]) for text in texts), *says()]
        for texts in (("A draft",), pieces)
    ]
    async with start(*scripts) as running:
        events = await streamed(
            running.openai,
            input="?",
            tools=[WEATHER],
            text={"format": form},
            include=["message.output_text.logprobs"],
        )
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == "".join(pieces)
    assert [one.token for event in deltas for one in event.logprobs] == list(pieces)
    (message,) = events[-1].response.output
    assert [one.token for one in message.content[0].logprobs] == list(pieces)
