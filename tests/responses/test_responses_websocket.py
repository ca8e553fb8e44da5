"""The WebSocket mode of /v1/responses with the `openai` client's own connection."""

import asyncio
from typing import Any

import pytest
from openai.resources.responses.responses import AsyncResponsesConnection
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from llama_stack.api.inference import TextDelta
from llama_stack.errors import RateLimited
from llama_stack.testing.scripted import says
from tests.responses.conftest import Start, told

LAST = ("response.completed", "response.failed", "response.incomplete", "error")


async def until_last(connection: AsyncResponsesConnection) -> list[Any]:
    """The events of one response, or of its failure."""
    events: list[Any] = []
    async with asyncio.timeout(60):
        while not events or events[-1].type not in LAST:
            events.append(await connection.recv())
    return events


async def test_responses_are_made_one_after_the_other(start: Start) -> None:
    async with start(says("Hel", "lo"), says("Yes.")) as running, running.openai.responses.connect() as connection:
        await connection.response.create(model="scripted", input="Hi")
        first = await until_last(connection)
        response_id = first[-1].response.id
        await connection.response.create(model="scripted", input="Sure?", previous_response_id=response_id)
        second = await until_last(connection)
        kept = await running.openai.responses.retrieve(response_id)
    assert first[0].type == "response.created"
    assert [event.sequence_number for event in first] == list(range(len(first)))
    assert kept.output_text == "Hello"
    assert second[-1].response.output[0].content[0].text == "Yes."
    assert [message.content for message in told(running)] == ["Hi", "Hello", "Sure?"]


async def test_lanes_go_on_side_by_side(start: Start) -> None:
    may_go_on = asyncio.Event()
    scripts = ([TextDelta(text="slow"), may_go_on, *says("ly")], says("fast"))
    async with start(*scripts) as running, running.openai.responses.connect() as connection:
        await connection.response.create(model="scripted", input="1", stream_id="a")
        while (await connection.recv()).type != "response.output_text.delta":
            pass
        await connection.response.create(model="scripted", input="2", stream_id="b")
        fast = await until_last(connection)
        assert {event.stream_id for event in fast} == {"b"}
        may_go_on.set()
        slow = await until_last(connection)
    assert {event.stream_id for event in slow} == {"a"}
    assert slow[-1].response.output[0].content[0].text == "slowly"


async def test_what_fails_is_an_event_and_the_connection_stays(start: Start) -> None:
    scripts = ([RateLimited("slow down")], says("Hi"))
    async with start(*scripts) as running, running.openai.responses.connect() as connection:
        await connection.response.create(model="scripted", input="1", temperature=9)
        (wrong,) = await until_last(connection)
        assert (wrong.status, wrong.error.param) == (400, "temperature")
        await connection.response.create(model="scripted", input="1", background=True)
        (wrong,) = await until_last(connection)
        assert (wrong.status, wrong.error.param) == (400, "background")
        await connection.send_raw("{")
        (wrong,) = await until_last(connection)
        assert wrong.error.code == "invalid_json"
        await connection.response.create(model="scripted", input="1")
        (failed,) = await until_last(connection)
        assert (failed.status, failed.error.message) == (429, "slow down")
        await connection.response.steer(input="Faster", previous_response_id="resp_1")
        steered: Any = await connection.recv()
        assert (steered.type, steered.error.code) == ("response.steer.failed", "steering_not_supported")
        await connection.response.create(model="scripted", input="1")
        assert (await until_last(connection))[-1].type == "response.completed"


async def test_a_client_that_leaves_stops_the_work(start: Start) -> None:
    never = asyncio.Event()
    async with start([TextDelta(text="a"), never]) as running:
        async with running.openai.responses.connect() as connection:
            await connection.response.create(model="scripted", input="1")
            while (await connection.recv()).type != "response.output_text.delta":
                pass
        async with asyncio.timeout(60):
            await running.inference.closed_early.wait()


async def test_a_page_from_elsewhere_is_not_let_in(start: Start) -> None:
    async with start(says("Hi")) as running:
        address = running.url.replace("http", "ws") + "/v1/responses"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(address, origin="https://evil.example"):  # type: ignore[arg-type]
                pass
        assert refused.value.response.status_code == 403
        async with connect(address, origin=running.url):  # type: ignore[arg-type]
            pass
