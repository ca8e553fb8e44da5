"""Clients that leave in the middle of a turn: what ran for them stops, and the session is free at once."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from llama_stack.api.agents import TurnCompleted
from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.testing.scripted import calls, says
from tests.agents_faces.doors import LOCAL, Handiwork, Start
from tests.providers.remote.upstream import HANG, Upstream, running, stream_reply, text_chunk

KIT = "builtin::kit"
SOON_S = 60.0
"""Patience with a busy machine; what must be within a second is measured."""


def provider_at(upstream: Upstream) -> dict[str, Any]:
    entry = {
        "provider_id": "up",
        "provider_type": "remote::openai-compatible",
        "config": {"base_url": upstream.url},
        "models": [{"identifier": "far"}],
    }
    return {"inference": [entry]}


@asynccontextmanager
async def reading(http: httpx.AsyncClient, path: str, body: Any, until: str) -> AsyncIterator[None]:
    """A stream, read until a frame has that text; its connection is closed when the block is left."""
    async with http.stream("POST", path, json=body) as response, asyncio.timeout(SOON_S):
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if until in line:
                break
        yield


async def quiet(tasks_before: set[asyncio.Task[Any]]) -> set[str]:
    """Names of the tasks that are there now and were not before, once nothing changes any more."""
    deadline = time.monotonic() + SOON_S
    while more := {task for task in asyncio.all_tasks() - tasks_before if not task.done()}:
        if time.monotonic() > deadline:
            return {repr(task.get_coro()) for task in more}
        await asyncio.sleep(0.01)
    return set()


@pytest.mark.parametrize("face", ["classic", "words", "responses"])
async def test_who_leaves_while_the_model_answers_ends_the_upstreams_connection(face: str, start: Start) -> None:
    hanging = stream_reply(text_chunk("once upon"), done=False, then=HANG)
    whole = stream_reply(text_chunk("the end", "stop"))
    async with running(hanging, whole) as upstream, start(providers=provider_at(upstream)) as server:
        door = server.doors["classic"]
        agent_id, session_id = await door.begin(model="far")
        path = f"/v1/agents/{agent_id}/session/{session_id}/turn"
        body: Any = {"messages": [{"role": "user", "content": "tell"}], "stream": True}
        if face == "words":
            server.http.headers["accept"] = "application/vnd.llama-stack+json"
            body = {"messages": [{"role": "user", "content": "tell"}]}
        if face == "responses":
            conversation = (await server.http.post("/v1/conversations", json={})).json()["id"]
            path, body = "/v1/responses", {
                "model": "far", "input": "tell", "stream": True, "conversation": conversation,
            }  # fmt: skip
        await server.stack.responses()
        before = asyncio.all_tasks()
        async with reading(server.http, path, body, "once upon"):
            assert not upstream.hung_up.is_set()
        async with asyncio.timeout(SOON_S):
            await upstream.hung_up.wait()
        assert await quiet(before) == set()
        del server.http.headers["accept"]
        if face == "responses":
            (left,) = (await server.http.get("/v1/responses")).json()["data"]
            again = await server.respond(model="far", input="again", conversation=conversation)
            assert left["status"] in ("incomplete", "cancelled")
            assert again["output"][0]["content"][0]["text"] == "the end"
        else:
            assert await door.ask(agent_id, session_id, "again") == "the end"
            agents = await server.stack.agents()
            reasons = [turn.end_reason for turn in (await agents.session(agent_id, session_id, LOCAL)).turns]
            assert reasons == ["interrupted", "completed"]


@pytest.mark.parametrize("face", ["classic", "responses", "whole"])
async def test_who_leaves_while_a_tool_runs_stops_the_tool(face: str, start: Start) -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def hang() -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    async with start(calls(("use", "{}")), says("next"), tools={KIT: Handiwork(use=hang)}) as server:
        door = server.doors["classic"]
        ids = await door.begin(tool_groups=[KIT])
        path = f"/v1/agents/{ids[0]}/session/{ids[1]}/turn"
        body: Any = {"messages": [{"role": "user", "content": "go"}], "stream": face == "classic"}
        if face == "responses":
            mcp = {"type": "mcp", "server_label": KIT, "require_approval": "never"}
            path, body = "/v1/responses", {"model": "scripted", "input": "go", "stream": True, "tools": [mcp]}
        await server.stack.responses()
        before = asyncio.all_tasks()
        asking = asyncio.create_task(server.http.post(path, json=body))
        async with asyncio.timeout(SOON_S):
            await began.wait()
            asking.cancel()
            await stopped.wait()
        assert await quiet(before | {asking}) == set()
        if face != "responses":
            # The turn waits for nobody; it can be taken up where its last step left it, or be left behind.
            (turn_id,) = await door.see_session(*ids)
            agents = await server.stack.agents()
            turn = await agents.turn(*ids, turn_id, LOCAL)
            assert (turn.end_reason, len(turn.steps)) == (None, 1)
        assert await door.ask(*ids, "again") == "next"


async def test_a_turn_that_was_left_is_resumed_after_its_last_step(start: Start) -> None:
    began = asyncio.Event()
    runs = 0

    async def use() -> str:
        nonlocal runs
        runs += 1
        began.set()
        if runs == 1:
            await asyncio.Event().wait()
        return "done"

    async with start(calls(("use", "{}")), says("so it is"), tools={KIT: Handiwork(use=use)}) as server:
        agents = await server.stack.agents()
        ids = await server.doors["sdk"].begin(tool_groups=[KIT])
        asking = asyncio.create_task(server.doors["connected"].ask(*ids))
        await began.wait()
        asking.cancel()
        await asyncio.wait([asking])
        (turn_id,) = await server.doors["connected"].see_session(*ids)
        async with asyncio.timeout(SOON_S):
            while True:
                # Closing a connection is told to nobody; the session is free a moment after.
                try:
                    assert await server.doors["connected"].bring(*ids, turn_id) == "so it is"
                    break
                except Exception as error:
                    assert "is being worked on" in str(error), error
        assert runs == 2
        turn = await agents.turn(*ids, turn_id, LOCAL)
        assert [step.type for step in turn.steps] == ["inference", "tool_execution", "inference"]


# --- at every write -------------------------------------------------------------------------------------------------


class SlowDisk:
    """Holds back the n-th write of a SQLite database from now on, in its thread."""

    def __init__(self, held_write: int) -> None:
        self._left = held_write
        self._loop = asyncio.get_running_loop()
        self._go_on = threading.Event()
        self.reached = asyncio.Event()

    def slowed(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def slow_write(work: Callable[[Connection], Any]) -> Any:
            def slow(connection: Connection) -> Any:
                self._left -= 1
                if self._left == 0:
                    self._loop.call_soon_threadsafe(self.reached.set)
                    self._go_on.wait(SOON_S)
                return work(connection)

            return write(slow)

        return slow_write

    def go_on(self) -> None:
        self._go_on.set()


@pytest.mark.parametrize("write", [1, 2, 3, 4])
@pytest.mark.parametrize("resumed", [False, True])
async def test_who_leaves_while_a_row_is_written_leaves_a_free_session(
    write: int, resumed: bool, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (calls(("lookup", "{}")),) if resumed else ()
    tools = {KIT: Handiwork(use=lambda: "used")}
    async with start(*script, calls(("use", "{}")), says("first"), says("next"), tools=tools) as server:
        agents = await server.stack.agents()
        ids = await server.doors["sdk"].begin(tool_groups=[KIT], client_tools=["lookup"])
        results: list[ToolMessage] = []
        events = agents.create_turn(*ids, [UserMessage(content="go")], LOCAL)
        if resumed:
            await events.aclose()
            await server.doors["sdk"].ask(*ids)
            (turn_id,) = await server.doors["sdk"].see_session(*ids)
            results = [ToolMessage(tool_call_id="call_0", content="x")]
            events = agents.resume_turn(*ids, turn_id, LOCAL, results=results)
        disk = SlowDisk(write)
        threads: Any = (await server.stack.database())._threads
        monkeypatch.setattr(threads, "write", disk.slowed(threads.write))
        asking = asyncio.create_task(_read(events))
        async with asyncio.timeout(SOON_S):
            await disk.reached.wait()
            asking.cancel()
            await asyncio.sleep(0)
            disk.go_on()
            await asyncio.wait([asking])
        assert asking.cancelled()
        completed = [event async for event in agents.create_turn(*ids, [UserMessage(content="again")], LOCAL)][-1]
        assert isinstance(completed, TurnCompleted)
        turns = (await agents.session(*ids, LOCAL)).turns
        assert [turn.end_reason for turn in turns][-1] == "completed"
        assert all(turn.end_reason in ("interrupted", "completed") for turn in turns)


async def _read(events: Any) -> None:
    try:
        async for _ in events:
            pass
    finally:
        await events.aclose()


@pytest.mark.parametrize("write", [1, 2, 3, 4, 5])
async def test_who_leaves_while_a_response_is_written_leaves_none_in_progress(
    write: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    mcp = {"type": "mcp", "server_label": KIT, "require_approval": "never"}
    tools = {KIT: Handiwork(use=lambda: "used")}
    async with start(calls(("use", "{}")), says("first"), says("next"), tools=tools) as server:
        conversation = (await server.http.post("/v1/conversations", json={})).json()["id"]
        body = {"model": "scripted", "input": "go", "conversation": conversation, "tools": [mcp]}
        await server.stack.responses()
        disk = SlowDisk(write)
        threads: Any = (await server.stack.database())._threads
        monkeypatch.setattr(threads, "write", disk.slowed(threads.write))
        before = asyncio.all_tasks()
        asking = asyncio.create_task(server.http.post("/v1/responses", json=body))
        async with asyncio.timeout(SOON_S):
            await disk.reached.wait()
            asking.cancel()
            await asyncio.wait([asking])
            await server.http.get("/v1/health")
            disk.go_on()
            assert await quiet(before | {asking}) == set()
            statuses = [one["status"] for one in (await server.http.get("/v1/responses")).json()["data"]]
            again = await server.http.post("/v1/responses", json={**body, "input": "again"})
    assert again.json()["status"] == "completed", again.text
    assert "in_progress" not in statuses


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_who_leaves_at_any_moment_leaves_a_free_session(
    kind: str, start: Start, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storage_url = f"sqlite:///{tmp_path / 'left.db'}"
    if kind == "postgresql":
        create: Callable[[], str] = request.getfixturevalue("create_postgres_database")
        storage_url = create()
    tools = {KIT: Handiwork(use=lambda: "used")}
    script = [calls(("use", "{}")), says("fine")]
    async with start(says("fine"), tools=tools, storage_url=storage_url) as server:
        agents = await server.stack.agents()
        agent_id, _ = await server.doors["sdk"].begin(tool_groups=[KIT])
        for moment in range(25):
            session_id = (await agents.create_session(agent_id, "s", LOCAL)).session_id
            server.inference._scripts[:] = script
            events = agents.create_turn(agent_id, session_id, [UserMessage(content="go")], LOCAL)
            asking = asyncio.create_task(_read(events))
            # Not a wait for something: the moment itself is what differs.
            await asyncio.sleep(moment / 1000)
            asking.cancel()
            await asyncio.wait([asking])
            server.inference._scripts[:] = [says("again")]
            again = [
                event async for event in agents.create_turn(agent_id, session_id, [UserMessage(content="again")], LOCAL)
            ]
            assert isinstance(again[-1], TurnCompleted), moment
            reasons = [turn.end_reason for turn in (await agents.session(agent_id, session_id, LOCAL)).turns]
            assert reasons in (["completed"], ["interrupted", "completed"], ["completed", "completed"]), moment
