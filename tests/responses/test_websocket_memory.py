"""WebSocket mode: responses that are not stored continue each other on their connection, and nowhere else."""

import asyncio
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError
from openai.resources.responses.responses import AsyncResponsesConnection

from llama_stack.api.inference import TextDelta
from llama_stack.api.tools import ToolResult
from llama_stack.errors import RateLimited
from llama_stack.responses import session
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import FixedTools, Running, Start, told
from tests.responses.test_responses_websocket import until_last

WEATHER: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}


async def made(connection: AsyncResponsesConnection, said: Any, **fields: Any) -> Any:
    """The response, or the error event, that answers one request of what is not stored."""
    await connection.response.create(**{"model": "scripted", "input": said, "store": False, **fields})
    last = (await until_last(connection))[-1]
    return last if last.type == "error" else last.response


def contents(running: Running) -> list[Any]:
    return [message.content for message in told(running)]


async def test_what_is_not_stored_can_be_continued_on_its_connection(start: Start) -> None:
    scripts = (says("A"), calls(("weather", "{}")), says("Mild."), says("D"))
    async with start(*scripts) as running, running.openai.responses.connect() as connection:
        first = await made(connection, "1", instructions="Be brief.")
        second = await made(connection, "2", previous_response_id=first.id, tools=[WEATHER])
        output = {"type": "function_call_output", "call_id": "call_0", "output": "warm"}
        third = await made(connection, [output], previous_response_id=second.id, tools=[WEATHER])
        assert third.output[0].content[0].text == "Mild."
        assert third.previous_response_id == second.id
        assert contents(running) == ["1", "A", "2", None, "warm"]
        rows = await running.rows()
        with pytest.raises(NotFoundError) as elsewhere:
            await running.openai.responses.create(model="scripted", input="?", previous_response_id=third.id)
        async with running.openai.responses.connect() as another:
            lost = await made(another, "?", previous_response_id=third.id)
    assert (rows["responses"], rows["turns"], rows["sessions"]) == (0, 0, 0)
    assert elsewhere.value.code == "previous_response_not_found"
    assert (lost.status, lost.error.code, lost.error.param) == (
        400,
        "previous_response_not_found",
        "previous_response_id",
    )
    assert "send the whole conversation as input" in lost.error.message


async def test_only_the_last_response_of_a_lane_is_remembered_and_an_error_forgets_nothing(start: Start) -> None:
    scripts = (says("A"), says("B"), [RateLimited("slow down")], says("C"))
    async with start(*scripts) as running, running.openai.responses.connect() as connection:
        first = await made(connection, "1")
        second = await made(connection, "2", previous_response_id=first.id)
        older = await made(connection, "3", previous_response_id=first.id)
        assert older.error.code == "previous_response_not_found"
        failed = await made(connection, "3", previous_response_id=second.id)
        assert failed.status == 429
        third = await made(connection, "3", previous_response_id=second.id)
    assert third.status == "completed"
    assert contents(running) == ["1", "A", "2", "B", "3"]


async def test_a_lane_forks_from_another(start: Start) -> None:
    async with start(says("A"), says("B"), says("C")) as running, running.openai.responses.connect() as connection:
        first = await made(connection, "1", stream_id="a")
        fork = await made(connection, "2", stream_id="b", previous_response_id=first.id)
        assert contents(running) == ["1", "A", "2"]
        await made(connection, "3", stream_id="a", previous_response_id=first.id)
        assert contents(running) == ["1", "A", "3"]
        await made(connection, "4", stream_id="b", previous_response_id=fork.id)
        assert contents(running) == ["1", "A", "2", "B", "4"]


async def test_stored_and_unstored_responses_continue_each_other(start: Start) -> None:
    scripts = (says("A"), says("B"), says("C"), says("D"))
    async with start(*scripts) as running, running.openai.responses.connect() as connection:
        stored = await made(connection, "1", store=True)
        passing = await made(connection, "2", previous_response_id=stored.id)
        again = await made(connection, "3", previous_response_id=passing.id, store=True)
        await made(connection, "4", previous_response_id=again.id, store=True)
        assert contents(running) == ["1", "A", "2", "B", "3", "C", "4"]
        kept = await running.openai.responses.retrieve(again.id)
        assert kept.previous_response_id == passing.id
        with pytest.raises(NotFoundError, match="was deleted or never stored"):
            await running.openai.responses.create(model="scripted", input="?", previous_response_id=again.id)


async def test_a_compacted_chain_goes_on(start: Start) -> None:
    compaction: Any = [{"type": "compaction", "compact_threshold": 1000}]
    scripts = (says("word " * 1100), says("Words."), says("B"), says("C"))
    async with start(*scripts) as running, running.openai.responses.connect() as connection:
        first = await made(connection, "1")
        second = await made(connection, "2", previous_response_id=first.id, context_management=compaction)
        await made(connection, "3", previous_response_id=second.id)
    assert contents(running) == ["Summary of the conversation so far:\nWords.", "2", "B", "3"]


@pytest.mark.parametrize("store", [False, True])
async def test_a_request_that_generates_nothing_prepares_the_next(start: Start, store: bool) -> None:
    async with start(says("A"), says("B")) as running, running.openai.responses.connect() as connection:
        words: Any = [{"role": "developer", "content": "Be kind."}]
        nothing: Any = []
        for said in (words, nothing):
            prepared = await made(connection, said, generate=False, store=store)
            assert (prepared.status, prepared.output, prepared.usage.total_tokens) == ("completed", [], 0)
            assert running.inference.requests == []
        first = await made(connection, words, generate=False, store=store)
        second = await made(connection, "Hi", previous_response_id=first.id, store=store)
        await made(connection, "More", previous_response_id=second.id, store=store)
        kept = await running.http.get(f"/v1/responses/{first.id}")
    assert contents(running) == ["Be kind.", "Hi", "A", "More"]
    assert kept.status_code == (200 if store else 404)


async def test_what_is_remembered_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_REMEMBERED_BYTES", 2000)
    async with start(says("A")) as running, running.openai.responses.connect() as connection:
        long = await made(connection, "x" * 1000, stream_id="a")
        await made(connection, "x" * 1000, stream_id="b")
        lost = await made(connection, "?", previous_response_id=long.id, stream_id="a")
        monkeypatch.undo()
        monkeypatch.setattr(session, "MAX_CHAIN", 3)
        one = await made(connection, "1", stream_id="c")
        two = await made(connection, "2", previous_response_id=one.id, stream_id="c")
        three = await made(connection, "3", previous_response_id=two.id, stream_id="c")
        ended = await made(connection, "4", previous_response_id=three.id, stream_id="c")
    assert (lost.error.code, lost.stream_id) == ("previous_response_not_found", "a")
    assert three.status == "completed"
    assert ended.error.code == "previous_response_not_found"


async def test_lanes_are_bounded(start: Start) -> None:
    async with start(says("A")) as running, running.openai.responses.connect() as connection:
        for number in range(32):
            assert (await made(connection, "1", stream_id=f"lane-{number}")).status == "completed"
        assert (await made(connection, "1")).status == "completed"
        refused = await made(connection, "1", stream_id="one.more")
        assert (await made(connection, "1", stream_id="lane-0")).status == "completed"
    assert (refused.error.code, refused.stream_id) == ("websocket_stream_limit_reached", "one.more")


async def test_a_continuation_on_another_lane_may_come_with_the_last_event(start: Start) -> None:
    may_go_on = asyncio.Event()
    scripts = ([TextDelta(text="A"), may_go_on, *says()], says("B"))
    async with start(*scripts) as running, running.openai.responses.connect() as connection:
        await connection.response.create(model="scripted", input="1", store=False, stream_id="a")
        may_go_on.set()
        (*_, last) = await until_last(connection)
        forked = await made(connection, "2", previous_response_id=last.response.id, stream_id="b")
    assert forked.output[0].content[0].text == "B"


async def test_a_decision_cannot_wait_for_the_next_response(start: Start) -> None:
    tools = {"crm": FixedTools(find=lambda: ToolResult(content="Here."))}
    crm: Any = {"type": "mcp", "server_label": "crm"}
    async with (
        start(calls(("find", "{}")), says("Done."), tools=tools) as running,
        running.openai.responses.connect() as connection,
    ):
        first = await made(connection, "Find it.", tools=[crm])
        decided: Any = {"type": "mcp_approval_response", "approval_request_id": first.output[-1].id, "approve": True}
        fields: Any = {"previous_response_id": first.id, "tools": [crm]}
        refused = await made(connection, [decided], generate=False, **fields)
        second = await made(connection, [decided], **fields)
        with pytest.raises(BadRequestError, match="generate: is not a known field"):
            await running.openai.responses.create(model="scripted", input="x", extra_body={"generate": False})
    assert (refused.status, refused.error.param) == (400, "generate")
    assert second.output[-1].content[0].text == "Done."
