"""Responses that are kept: lists, input items, references, counts, compaction, and what a caller's leaving leaves."""

import asyncio
from typing import Any

import pytest
from openai import BadRequestError, InternalServerError
from openai.types.responses import ResponseCompactionItem
from pydantic import BaseModel
from pytest import MonkeyPatch
from sqlalchemy import func, select

from llama_stack.api.inference import TextDelta
from llama_stack.errors import ProviderUnavailable
from llama_stack.storage import Work
from llama_stack.storage.responses import ResponseStore
from llama_stack.storage.tables import steps, turns
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import Start, told


async def test_input_items_are_listed_by_pages(start: Start) -> None:
    async with start(says("Hi")) as running:
        words: list[Any] = [{"role": "user", "content": str(number)} for number in range(5)]
        response = await running.openai.responses.create(model="scripted", input=words)
        listed = running.openai.responses.input_items.list
        ascending: list[Any] = [item async for item in listed(response.id, limit=2, order="asc")]
        descending = [item async for item in listed(response.id)]
        first = await listed(response.id, limit=2, order="asc")
    assert [item.content[0].text for item in ascending] == ["0", "1", "2", "3", "4"]
    assert descending == ascending[::-1]
    assert (len(first.data), first.has_more) == (2, True)


async def test_responses_are_listed_with_their_input(start: Start) -> None:
    async with start(says("Hi")) as running:
        ids = [(await running.openai.responses.create(model="scripted", input=str(n))).id for n in range(3)]
        first = (await running.http.get("/v1/responses", params={"limit": 2})).json()
        rest = (await running.http.get("/v1/openai/v1/responses", params={"after": first["last_id"]})).json()
        none = (await running.http.get("/v1/responses", params={"model": "another"})).json()
    assert [entry["id"] for entry in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert first["data"][0]["input"][0]["content"][0]["text"] == "2"
    assert none["data"] == []


async def test_an_item_can_be_referred_to(start: Start) -> None:
    async with start(says("Owls."), says("Yes.")) as running:
        first = await running.openai.responses.create(model="scripted", input="?")
        again: list[Any] = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "Sure?"}]
        await running.openai.responses.create(model="scripted", input=again)
    assert [(message.role, message.content) for message in told(running)] == [
        ("assistant", "Owls."),
        ("user", "Sure?"),
    ]


async def test_what_the_model_would_read_is_counted(start: Start) -> None:
    async with start(says("Hi")) as running:
        count = running.openai.responses.input_tokens.count
        first = await running.openai.responses.create(model="scripted", input="Hello there")
        short = await count(model="scripted", input="Hello there")
        chained = await count(model="scripted", input="Hello there", previous_response_id=first.id)
        tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
        offered = await count(model="scripted", input="Hello there", tools=[tool], instructions="Be brief.")
        rows = await running.rows()
    assert short.object == "response.input_tokens"
    assert 0 < short.input_tokens < chained.input_tokens
    assert short.input_tokens < offered.input_tokens
    assert rows["responses"] == 1


async def test_a_conversation_is_compacted_and_goes_on(start: Start) -> None:
    async with start(says("Ada it is."), says("The user is called Ada."), says("Ada.")) as running:
        first = await running.openai.responses.create(model="scripted", input="I am Ada.")
        compacted = await running.openai.responses.compact(model="scripted", previous_response_id=first.id)
        assert compacted.object == "response.compaction"
        assert [item.type for item in compacted.output] == ["message", "compaction"]
        assert isinstance(compacted.output[-1], ResponseCompactionItem)
        window: list[Any] = [item.to_dict(warnings=False) for item in compacted.output]
        window.append({"role": "user", "content": "Who am I?"})
        await running.openai.responses.create(model="scripted", input=window)
    assert [message.content for message in told(running)] == [
        "I am Ada.",
        "Summary of the conversation so far:\nThe user is called Ada.",
        "Who am I?",
    ]


async def test_a_stream_whose_reader_left_is_kept_as_cancelled(start: Start) -> None:
    never = asyncio.Event()
    async with start([TextDelta(text="Hel"), never], says("Hi")) as running:
        stream = await running.openai.responses.create(model="scripted", input="Hi", stream=True)
        response_id = ""
        async for event in stream:
            if event.type == "response.created":
                response_id = event.response.id
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        async with asyncio.timeout(60):
            await running.inference.closed_early.wait()
    async with start(says("Hi")) as running:
        kept = await running.openai.responses.retrieve(response_id)
    assert (kept.status, kept.output_text) == ("cancelled", "Hel")


class Weather(BaseModel):
    city: str
    degrees: int


async def test_a_form_and_tools_together_give_one_answer_in_that_form(start: Start) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}
    scripts = (calls(("weather", "{}")), says("It is warm."), says('{"city": "Rome", "degrees": 30}'))
    async with start(*scripts) as running:
        first = await running.openai.responses.create(model="scripted", input="?", tools=[tool])
        output: Any = {"type": "function_call_output", "call_id": "call_0", "output": "30"}
        parsed = await running.openai.responses.parse(
            model="scripted", previous_response_id=first.id, input=[output], tools=[tool], text_format=Weather
        )
    assert parsed.output_parsed == Weather(city="Rome", degrees=30)
    assert [item.type for item in parsed.output] == ["message"]


@pytest.mark.parametrize("tools", [[], [{"type": "function", "name": "f", "parameters": {}, "strict": False}]])
async def test_an_answer_off_its_form_is_no_part_of_what_the_package_reads(start: Start, tools: Any) -> None:
    wrong, right = '{"city": "Rome", "degrees": "warm"}', '{"city": "Rome", "degrees": 30}'
    scripts = [says(wrong)] * (2 if tools else 1) + [says(right[:9], right[9:])]
    asked: Any = {"model": "scripted", "input": "?", "tools": tools}
    async with start(*scripts, *scripts) as running:
        whole = await running.openai.responses.parse(**asked, text_format=Weather)
        async with running.openai.responses.stream(**asked, text_format=Weather) as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            streamed = await stream.get_final_response()
        kept = await running.openai.responses.retrieve(whole.id)
    assert deltas == [right[:9], right[9:]]
    for response in (whole, streamed):
        assert (response.output_text, response.output_parsed) == (right, Weather(city="Rome", degrees=30))
        assert [item.type for item in response.output] == ["message"]
    assert kept.output_text == right


async def test_a_draft_that_no_answer_can_follow_is_the_answer(start: Start) -> None:
    tool: Any = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    form: Any = {"type": "json_schema", "name": "weather", "schema": Weather.model_json_schema()}
    async with start(says("It is warm.")) as running:
        response = await running.openai.responses.create(
            model="scripted", input="?", tools=[tool], text={"format": form}, extra_body={"max_infer_iters": 1}
        )
    assert (response.output_text, response.status) == ("It is warm.", "incomplete")


async def test_a_single_inference_offers_its_tools_and_its_plain_answer_is_complete(start: Start) -> None:
    tool: Any = {"type": "function", "name": "f", "parameters": {}, "strict": False}
    once: Any = {"model": "scripted", "input": "?", "tools": [tool], "extra_body": {"max_infer_iters": 1}}
    async with start(says("Hello."), calls(("f", "{}"))) as running:
        plain = await running.openai.responses.create(**once)
        calling = await running.openai.responses.create(**once)
    assert (plain.output_text, plain.status) == ("Hello.", "completed")
    assert ([item.type for item in calling.output], calling.status) == (["function_call"], "completed")


async def test_the_stream_helper_of_the_package_reads_a_form_as_it_comes(start: Start) -> None:
    async with (
        start(says('{"city": "Rome",', ' "degrees": 30}')) as running,
        running.openai.responses.stream(model="scripted", input="?", text_format=Weather) as stream,
    ):
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert deltas == ['{"city": "Rome",', ' "degrees": 30}']
    assert final.output_parsed == Weather(city="Rome", degrees=30)


@pytest.mark.parametrize("truncation", ["auto", "disabled"])
async def test_what_is_too_long_by_itself_is_400_with_the_numbers(start: Start, truncation: Any) -> None:
    async with start(context_length=300) as running:
        with pytest.raises(
            BadRequestError, match="about 2863 tokens, and the window of the model 'scripted' has 300"
        ) as no:
            await running.openai.responses.create(model="scripted", input="word " * 2000, truncation=truncation)
    assert no.value.code == "context_length_exceeded"
    assert running.inference.requests == []


async def test_a_conversation_over_the_window_is_shortened_only_where_that_was_asked_for(start: Start) -> None:
    async with start(says("A"), says("B"), context_length=400) as running:
        first = await running.openai.responses.create(model="scripted", input="word " * 200)
        second = await running.openai.responses.create(
            model="scripted",
            input="And now?",
            previous_response_id=first.id,
            truncation="auto",
            instructions="Be kind.",
        )
    assert [message.content for message in told(running)] == ["Be kind.", "And now?"]
    assert second.output_text == "B"
    assert second.to_dict()["messages_left_out"] == 2


async def test_a_response_and_its_turn_end_together_or_not_at_all(start: Start, monkeypatch: MonkeyPatch) -> None:
    """Were they stored one after the other, a crash between them would leave an answer that nobody can read."""

    def full(*_: object) -> Work:
        def fail(_: object) -> None:
            raise ProviderUnavailable("the disk is full")

        return fail

    async with start(says("Owls."), says("Owls.")) as running:
        with monkeypatch.context() as patch:
            patch.setattr(ResponseStore, "finishing", full)
            with pytest.raises(InternalServerError, match="the disk is full"):
                await running.openai.responses.create(model="scripted", input="?")
        database = await running.stack.database()
        kept = select(turns.c.end_reason, func.count(steps.c.step_id)).outerjoin(steps).group_by(turns.c.turn_id)
        left = await database.reading(lambda connection: [tuple(row) for row in connection.execute(kept)])
        await running.openai.responses.create(model="scripted", input="?")
        whole = await database.reading(lambda connection: [tuple(row) for row in connection.execute(kept)])
    assert left == [(None, 0)]
    assert sorted(whole, key=str) == [("completed", 1), (None, 0)]
