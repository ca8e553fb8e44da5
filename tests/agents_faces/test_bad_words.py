"""Bad input at every door of the agents: the same precise refusal everywhere, and a session that works afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from llama_stack.testing.scripted import calls, says
from tests.agents_faces.doors import DOORS, Door, Handiwork, Refused, Start

ALL_DOORS = (*DOORS, "classic-stream")
NOWHERE = "nowhere"
CLASSIC_FIELDS = {
    "tool_group_id": "agent_config.toolgroups",
    "tool_groups": "agent_config.toolgroups",
    "client_tools": "agent_config.client_tools",
    "tool_call_id": "call_id",
}


def field_of(door: str, param: str | None) -> str | None:
    """The field as a caller at this door has written it."""
    return CLASSIC_FIELDS.get(param or "", param) if door.startswith("classic") else param


@dataclass(frozen=True)
class Case:
    """A wrong request, and what is answered. names: what the message has in it."""

    ask: Callable[[Door, str, str], Awaitable[object]]
    status: int
    code: str
    param: str | None
    names: str = NOWHERE


WRONG_IDS = {
    "agent": Case(lambda door, a, s: door.see_agent(NOWHERE), 404, "not_found", "agent_id"),
    "agent of a new session": Case(lambda door, a, s: door.new_session(NOWHERE), 404, "not_found", "agent_id"),
    "agent to delete": Case(lambda door, a, s: door.delete_agent(NOWHERE), 404, "not_found", "agent_id"),
    "agent of a turn": Case(lambda door, a, s: door.ask(NOWHERE, s), 404, "not_found", "agent_id"),
    "session": Case(lambda door, a, s: door.see_session(a, NOWHERE), 404, "not_found", "session_id"),
    "session to delete": Case(lambda door, a, s: door.delete_session(a, NOWHERE), 404, "not_found", "session_id"),
    "session of a turn": Case(lambda door, a, s: door.ask(a, NOWHERE), 404, "not_found", "session_id"),
    "turn": Case(lambda door, a, s: door.see_turn(a, s, NOWHERE), 404, "not_found", "turn_id"),
    "turn to go on with": Case(lambda door, a, s: door.bring(a, s, NOWHERE, ("c", "x")), 404, "not_found", "turn_id"),
    "model": Case(lambda door, a, s: door.begin(model=NOWHERE), 404, "model_not_found", "model"),
    "tool group": Case(
        lambda door, a, s: door.begin(tool_groups=[NOWHERE]), 404, "tool_group_not_found", "tool_group_id"
    ),
    "tool of a group": Case(
        lambda door, a, s: _begin_and_ask(door, tool_groups=["builtin::kit/nowhere"]), 400, "invalid_request",
        "tool_groups",
    ),
    "shield": Case(lambda door, a, s: door.begin(input_shields=[NOWHERE]), 404, "shield_not_found", "shield_id"),
    "two tools of one name": Case(
        lambda door, a, s: _begin_and_ask(door, client_tools=["twice", "twice"]), 400, "invalid_request",
        "client_tools", "twice",
    ),
    "id of other letters": Case(
        lambda door, a, s: door.see_agent("ag\u00e9nt %2F"), 404, "not_found", "agent_id", "\u00e9"
    ),
    "id with a NUL": Case(lambda door, a, s: door.see_session(a, "s\0s"), 400, "invalid_request", "session_id", ""),
    "very long id": Case(lambda door, a, s: door.see_agent("x" * 10_000), 400, "invalid_request", "agent_id", ""),
}  # fmt: skip


async def _begin_and_ask(door: Door, **config: object) -> None:
    await door.ask(*await door.begin(**config))


@pytest.mark.parametrize("name", ALL_DOORS)
async def test_a_wrong_name_is_refused_by_name_and_the_session_goes_on(name: str, start: Start) -> None:
    async with start(says("fine"), tools={"builtin::kit": Handiwork(work=lambda: "done")}) as running:
        door = running.doors[name]
        agent_id, session_id = await door.begin()
        got = {}
        for what, case in WRONG_IDS.items():
            with pytest.raises(Refused) as caught:
                await case.ask(door, agent_id, session_id)
            got[what] = (caught.value.status, caught.value.code, caught.value.param, case.names in caught.value.message)
        assert got == {
            what: (case.status, case.code, field_of(name, case.param), True) for what, case in WRONG_IDS.items()
        }
        assert await door.ask(agent_id, session_id) == "fine"
        assert len(await door.see_session(agent_id, session_id)) == 1


@pytest.mark.parametrize("name", ALL_DOORS)
async def test_a_second_turn_waits_for_no_first_one_but_is_refused(name: str, start: Start) -> None:
    go_on = asyncio.Event()
    async with start([go_on, *says("first")], says("second")) as running:
        door = running.doors[name]
        ids = await door.begin()
        first = asyncio.create_task(door.ask(*ids))
        await running.inference.opened.wait()
        with pytest.raises(Refused, match="is being worked on; wait for it to end") as caught:
            await door.ask(*ids)
        (turn_id,) = await door.see_session(*ids)
        with pytest.raises(Refused, match=f"{turn_id} is being worked on") as resumed:
            await door.bring(*ids, turn_id, ("call_0", "x"))
        go_on.set()
        assert await first == "first"
        assert await door.ask(*ids) == "second"
    assert (caught.value.status, caught.value.code, caught.value.param) == (409, "conflict", "session_id")
    assert (resumed.value.status, resumed.value.code, resumed.value.param) == (409, "conflict", "turn_id")


@pytest.mark.parametrize("name", ALL_DOORS)
async def test_results_and_decisions_for_calls_that_nobody_made(name: str, start: Start) -> None:
    async with start(calls(("lookup", "{}")), says("it is 5"), says("more")) as running:
        door = running.doors[name]
        ids = await door.begin(client_tools=["lookup"])
        await door.ask(*ids)
        (turn_id,) = await door.see_session(*ids)
        for ask in (
            door.bring(*ids, turn_id, ("call_9", "x")),
            door.bring(*ids, turn_id, ("call_0", "x"), ("call_9", "x")),
            door.bring(*ids, turn_id, ("call_0", "x"), ("call_0", "y")),
            door.decide(*ids, turn_id, "call_9"),
            # A call of the caller's own tool wants a result, not a decision.
            door.decide(*ids, turn_id, "call_0"),
        ):
            with pytest.raises(Refused, match=r"no call 'call_.' awaits a (result|decision) in turn") as caught:
                await ask
            assert (caught.value.status, caught.value.code) == (400, "invalid_request")
            assert caught.value.param == field_of(name, "tool_call_id")
        assert await door.bring(*ids, turn_id, ("call_0", "5")) == "it is 5"
        # Ended; what it did ask for once, it does not ask for twice.
        with pytest.raises(Refused, match="has ended") as caught:
            await door.bring(*ids, turn_id, ("call_0", "5"))
        assert (caught.value.status, caught.value.code, caught.value.param) == (409, "conflict", "turn_id")
        assert await door.ask(*ids) == "more"


# --- Responses ------------------------------------------------------------------------------------------------------

ABSENT = "resp_nowhere"
MCP = {"type": "mcp", "server_label": "nowhere", "require_approval": "never"}


async def test_what_is_not_there_is_not_found(start: Start) -> None:
    absent = [
        ("GET", f"/v1/responses/{ABSENT}", "response_not_found", "response_id"),
        ("DELETE", f"/v1/responses/{ABSENT}", "response_not_found", "response_id"),
        ("POST", f"/v1/responses/{ABSENT}/cancel", "response_not_found", "response_id"),
        ("GET", f"/v1/responses/{ABSENT}/input_items", "response_not_found", "response_id"),
        ("GET", f"/v1/responses/{ABSENT}?stream=true", "response_not_found", "response_id"),
        ("GET", "/v1/conversations/conv_nowhere", "conversation_not_found", "conversation"),
        ("DELETE", "/v1/conversations/conv_nowhere", "conversation_not_found", "conversation"),
        ("GET", "/v1/conversations/conv_nowhere/items", "conversation_not_found", "conversation"),
        ("GET", "/v1/conversations/conv_nowhere/items/x", "conversation_not_found", "conversation"),
        ("GET", "/v1/chat/completions/nowhere", "completion_not_found", "completion_id"),
        ("GET", "/v1/toolgroups/nowhere", "tool_group_not_found", "tool_group_id"),
        ("DELETE", "/v1/toolgroups/nowhere", "tool_group_not_found", "tool_group_id"),
        ("GET", "/v1/tools/nowhere", "tool_not_found", "tool_name"),
        ("GET", "/v1/shields/nowhere", "shield_not_found", "shield_id"),
    ]
    async with start() as running:
        answers = [await running.http.request(method, path) for method, path, _, _ in absent]
    got = [(answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["param"]) for answer in answers]
    assert got == [(404, code, param) for _, _, code, param in absent]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_that_cannot_be_made_is_refused_before_it_begins(stream: bool, start: Start) -> None:
    no_call = {"type": "function_call_output", "call_id": "call_9", "output": "x"}
    no_request = {"type": "mcp_approval_response", "approval_request_id": "mcpr_9", "approve": True}
    wrong: list[tuple[dict[str, Any], int, str, str]] = [
        ({"previous_response_id": ABSENT}, 404, "previous_response_not_found", "previous_response_id"),
        ({"conversation": "conv_nowhere"}, 404, "conversation_not_found", "conversation"),
        ({"model": NOWHERE}, 404, "model_not_found", "model"),
        ({"input": [no_call]}, 400, "invalid_request", "input.0.call_id"),
        ({"input": [no_request]}, 400, "invalid_request", "input.0.approval_request_id"),
        ({"tools": [{"type": "telepathy"}]}, 400, "invalid_request", "tools.0.type"),
        ({"tools": [MCP]}, 404, "tool_group_not_found", "tools.0.server_label"),
        ({"max_tool_calls": -1}, 400, "invalid_request", "max_tool_calls"),
        ({"unheard_of": 1}, 400, "invalid_request", "unheard_of"),
    ]
    got = []
    async with start(says("fine")) as running:
        for body, *_ in wrong:
            with pytest.raises(Refused) as caught:
                await running.respond(**{"input": "hello", "stream": stream, **body})
            got.append((caught.value.status, caught.value.code, caught.value.param))
        listed = (await running.http.get("/v1/responses")).json()["data"]
        after = await running.respond(input="hello")
    assert got == [row[1:] for row in wrong]
    assert listed == []
    assert after["status"] == "completed"


async def test_a_second_response_of_a_conversation_is_refused_while_one_is_made(start: Start) -> None:
    go_on = asyncio.Event()
    async with start([go_on, *says("first")], says("second")) as running:
        conversation = (await running.http.post("/v1/conversations", json={})).json()["id"]
        first = asyncio.create_task(running.respond(input="one", conversation=conversation))
        await running.inference.opened.wait()
        for stream in (False, True):
            with pytest.raises(Refused, match="is being worked on") as caught:
                await running.respond(input="two", conversation=conversation, stream=stream)
            assert (caught.value.status, caught.value.code) == (409, "conflict")
        go_on.set()
        assert (await first)["status"] == "completed"
        after = await running.respond(input="three", conversation=conversation)
        listed = (await running.http.get("/v1/responses")).json()["data"]
    assert after["output"][0]["content"][0]["text"] == "second"
    assert [response["status"] for response in listed] == ["completed", "completed"]
