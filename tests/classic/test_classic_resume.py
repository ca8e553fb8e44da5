"""Turns that wait for their caller, and how a classic client goes on with them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from llama_stack_client import (
    BadRequestError,
    ConflictError,
    NotFoundError,
)

from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.testing.scripted import calls, says
from tests.classic.asking import ADD, asked, begin, path, turn
from tests.classic.conftest import Arithmetic, Running, Start, frames_of


@asynccontextmanager
async def paused(start_agents: Start, *scripts: Any, **more: Any) -> AsyncIterator[tuple[Running, Any, Any]]:
    """A turn that waits for two calls of the caller's tool."""
    asking = calls(("add", '{"x": 1}'), ("add", '{"x": 2}'))
    async with start_agents(asking, *scripts, **more) as server:
        ids = await begin(server, client_tools=[ADD])
        yield server, ids, await turn(server, ids)


async def test_the_callers_step_is_begun_where_the_turn_waits_and_completed_where_it_goes_on(
    start_agents: Start,
) -> None:
    asking = calls(("add", '{"x": 1}'), ("add", '{"x": 2}'))
    async with start_agents(asking, says("Done.")) as server:
        ids = await begin(server, client_tools=[ADD])
        body = {"messages": [{"role": "user", "content": "?"}], "stream": True}
        first = frames_of((await server.http.post(path(ids), json=body)).content)
        waiting = first[-1]["event"]["payload"]["turn"]
        resume = path(ids, waiting["turn_id"], "resume")
        one = {"tool_responses": given("call_1"), "stream": True}
        second = frames_of((await server.http.post(resume, json=one)).content)
        rest = {"tool_responses": given("call_0"), "stream": True}
        third = frames_of((await server.http.post(resume, json=rest)).content)

    def told(frames: Any) -> list[Any]:
        payloads = [frame["event"]["payload"] for frame in frames]
        return [
            (one["event_type"], one["step_id"], _calls(one))
            for one in payloads
            if one.get("step_type") == "tool_execution"
        ]

    step = first[-2]["event"]["payload"]["step_id"]
    assert told(first) == [
        ("step_start", step, []),
        ("step_progress", step, ["call_0"]),
        ("step_progress", step, ["call_1"]),
    ]
    # Alone, the second result is a step of its own, and the first goes on being waited for.
    apart = second[0]["event"]["payload"]["step_id"]
    assert apart != step
    assert told(second) == [
        ("step_complete", apart, ["call_1"]),
        ("step_start", step, []),
        ("step_progress", step, ["call_0"]),
    ]
    assert told(third) == [("step_complete", step, ["call_0"])]


def _calls(payload: Any) -> list[str]:
    if payload["event_type"] == "step_progress":
        return [payload["delta"]["tool_call"]["call_id"]]
    return [call["call_id"] for call in payload.get("step_details", {}).get("tool_calls", [])]


def given(*ids: str) -> Any:
    return [{"call_id": call_id, "tool_name": "add", "content": f"r {call_id}", "metadata": {}} for call_id in ids]


async def test_results_may_come_one_by_one(start_agents: Start) -> None:
    async with paused(start_agents, says("Done.")) as (server, ids, waiting):
        where = {"agent_id": ids[0], "session_id": ids[1]}
        resume = server.client.agents.turn.resume
        read = await server.client.agents.turn.retrieve(waiting.turn_id, **where)
        half: Any = await resume(waiting.turn_id, **where, tool_responses=given("call_1"))
        body = {"tool_responses": given("call_0"), "stream": True}
        response = await server.http.post(path(ids, waiting.turn_id, "resume"), json=body)
        with pytest.raises(ConflictError, match="has ended"):
            await resume(waiting.turn_id, **where, tool_responses=given("call_0"))
        with pytest.raises(ConflictError, match="has ended"):
            await resume(waiting.turn_id, **where, tool_responses=[])
    assert waiting.output_message.stop_reason == "end_of_message"
    assert read == waiting
    assert [call.call_id for call in half.output_message.tool_calls] == ["call_0"]
    payloads = [frame["event"]["payload"] for frame in frames_of(response.content)]
    assert [(payload["event_type"], payload.get("step_type")) for payload in payloads] == [
        ("step_complete", "tool_execution"),
        ("step_start", "inference"),
        ("step_progress", "inference"),
        ("step_complete", "inference"),
        ("turn_complete", None),
    ]
    assert payloads[0]["step_details"]["tool_responses"][0]["content"] == "r call_0"
    whole = payloads[-1]["turn"]
    assert (whole["turn_id"], whole["started_at"]) == (waiting.turn_id, half.started_at.isoformat())
    assert [step["step_type"] for step in whole["steps"]] == [
        *("inference", "tool_execution", "tool_execution", "inference"),
    ]
    results = [message for message in asked(server).messages if isinstance(message, ToolMessage)]
    assert [(result.tool_call_id, result.content) for result in results] == [
        ("call_0", "r call_0"),
        ("call_1", "r call_1"),
    ]


async def test_what_a_callers_tool_tells_of_its_result_is_kept(start_agents: Start) -> None:
    async with paused(start_agents, says("Done.")) as (server, ids, waiting):
        where = {"agent_id": ids[0], "session_id": ids[1]}
        first, second = given("call_0", "call_1")
        responses: Any = [{**first, "metadata": {"a": 1, "of": ["x"]}}, second]
        whole = await server.client.agents.turn.resume(waiting.turn_id, **where, tool_responses=responses)
        read = await server.client.agents.turn.retrieve(waiting.turn_id, **where)
    for seen in (whole, read):
        step: Any = seen.steps[1]
        assert [response.metadata for response in step.tool_responses] == [{"a": 1, "of": ["x"]}, {}]
    assert [message.content for message in asked(server).messages[-2:]] == ["r call_0", "r call_1"]


async def test_a_turn_that_has_ended_does_not_go_on_with_a_response_that_says_nothing(start_agents: Start) -> None:
    async with start_agents(says("Done.")) as server:
        ids = await begin(server)
        ended = await turn(server, ids)
        resume = path(ids, ended.turn_id, "resume")
        refused = await server.http.post(resume, json={"tool_responses": [{"call_id": "x"}]})
    assert (refused.status_code, len(server.inference.requests)) == (409, 1)
    assert "has ended" in refused.json()["error"]["message"]


async def test_results_for_calls_that_nobody_made_are_refused_while_the_turn_waits(start_agents: Start) -> None:
    async with paused(start_agents) as (server, ids, waiting):
        with pytest.raises(BadRequestError, match="'param': 'call_id'"):
            await server.client.agents.turn.resume(
                waiting.turn_id, agent_id=ids[0], session_id=ids[1], tool_responses=given("nope")
            )
        with pytest.raises(BadRequestError, match="no call 'nope' awaits a result"):
            await server.client.agents.turn.resume(
                waiting.turn_id, agent_id=ids[0], session_id=ids[1], tool_responses=given("nope")
            )
        with pytest.raises(NotFoundError, match="has no turn 'nope'"):
            await server.client.agents.turn.resume(
                "nope", agent_id=ids[0], session_id=ids[1], tool_responses=given("call_0")
            )


async def test_results_as_messages_of_a_new_turn_go_on_with_the_one_that_waits(start_agents: Start) -> None:
    async with paused(start_agents, says("Done.")) as (server, ids, waiting):
        results = [{"role": "tool", "call_id": call_id, "content": "3"} for call_id in ("call_0", "call_1")]
        whole = await turn(server, ids, results)
        later = await turn(server, ids, [{"role": "tool", "call_id": "call_9", "content": "late"}])
    assert (whole.turn_id, whole.output_message.content) == (waiting.turn_id, "Done.")
    assert later.turn_id != waiting.turn_id
    assert asked(server).messages[-1] == UserMessage(content="Observation from tool: late")


async def test_a_person_decides_on_calls(start_agents: Start) -> None:
    tools = Arithmetic()
    script = calls(("add", '{"x": 1, "y": 2}'), ("divide", '{"x": 4, "y": 2}'), ("shout", "{}"))
    group = {"name": "builtin::math", "approval": ["add", "divide"]}
    async with start_agents(script, says("Done."), tools={"builtin::math": tools}) as server:
        ids = await begin(server, toolgroups=[group], client_tools=[{"name": "shout"}])
        chunks = [chunk async for chunk in await turn(server, ids, stream=True)]
        payload: Any = chunks[-1].event.payload
        where = {"agent_id": ids[0], "session_id": ids[1]}
        resume = server.client.agents.turn.resume
        read: Any = await server.client.agents.turn.retrieve(payload.turn.turn_id, **where)
        shouted: Any = await resume(payload.turn.turn_id, **where, tool_responses=given("call_2"))
        decisions = [
            {"call_id": "call_0", "approve": True},
            {"call_id": "call_1", "approve": False, "reason": "not now"},
        ]
        whole: Any = await resume(payload.turn.turn_id, **where, tool_responses=[], extra_body={"approvals": decisions})
        with pytest.raises(ConflictError):
            await resume(payload.turn.turn_id, **where, tool_responses=[], extra_body={"approvals": decisions})
    assert payload.event_type == "turn_awaiting_input"
    assert [call.tool_name for call in payload.turn.output_message.tool_calls] == ["shout"]
    assert [call["call_id"] for call in payload.turn.approvals] == ["call_0", "call_1"]
    assert read.approvals == payload.turn.approvals
    assert shouted.output_message.tool_calls == [], "the client must not run what a person has to decide on"
    assert [call["tool_name"] for call in shouted.approvals] == ["add", "divide"]
    assert whole.output_message.content == "Done."
    assert tools.seen == [{"x": 1, "y": 2}]
    assert [step.step_type for step in whole.steps] == [
        *("inference", "tool_execution", "approval", "tool_execution", "tool_execution", "inference"),
    ]
    contents = [message.content for message in asked(server).messages if isinstance(message, ToolMessage)]
    assert contents == ["3", "Error: the call was denied by a person and was not made. Reason: not now", "r call_2"]


async def test_a_turn_whose_client_left_is_gone_on_with(start_agents: Start) -> None:
    never = asyncio.Event()
    asking = calls(("add", '{"x": 1, "y": 2}'))
    tools = Arithmetic()
    async with start_agents(asking, [never], says("It is 3."), tools={"builtin::math": tools}) as server:
        ids = await begin(server, toolgroups=["builtin::math"])
        stream = await turn(server, ids, stream=True)
        async for chunk in stream:
            if chunk.event.payload.event_type == "step_complete" and chunk.event.payload.step_type == "tool_execution":
                break
        await stream.close()
        async with asyncio.timeout(60):
            await server.inference.closed_early.wait()
        (left,) = (await server.client.agents.session.retrieve(ids[1], agent_id=ids[0])).turns
        done: Any = await _resumed_once_let_go(server, ids, left.turn_id)
    assert left.output_message.stop_reason == "end_of_message"
    assert [step.step_type for step in left.steps] == ["inference", "tool_execution"]
    assert (done.turn_id, done.output_message.content) == (left.turn_id, "It is 3.")
    assert tools.seen == [{"x": 1, "y": 2}], "a call that has its result is not made again"


async def _resumed_once_let_go(server: Running, ids: tuple[str, str], turn_id: str) -> Any:
    """The model is stopped a moment before the turn is let go."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await server.client.agents.turn.resume(
                    turn_id, agent_id=ids[0], session_id=ids[1], tool_responses=[]
                )
            except ConflictError:
                await asyncio.sleep(0.01)


async def test_a_turn_that_waits_outlives_its_server(start_agents: Start) -> None:
    async with paused(start_agents) as (server, ids, waiting):
        pass
    assert waiting.output_message.tool_calls
    async with start_agents(says("Done.")) as server:
        where = {"agent_id": ids[0], "session_id": ids[1]}
        again = await server.client.agents.turn.retrieve(waiting.turn_id, **where)
        done: Any = await server.client.agents.turn.resume(
            waiting.turn_id, **where, tool_responses=given("call_0", "call_1")
        )
    assert again == waiting
    assert done.output_message.content == "Done."
