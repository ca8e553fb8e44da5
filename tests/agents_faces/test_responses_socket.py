"""The WebSocket of /v1/responses under bad input, hang-ups and strangers: as strict as the other faces."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from llama_stack.testing.scripted import says
from llama_stack.wire.openai_responses.request import decode_response_request
from tests.agents_faces.doors import Start
from tests.agents_faces.test_hang_ups import SOON_S, provider_at, quiet
from tests.agents_faces.test_two_owners import ALICE, BOB, owners_by_header, world_of
from tests.providers.remote.upstream import HANG, running, stream_reply, text_chunk

__all__ = ["owners_by_header"]


def socket_of(url: str, headers: dict[str, str] | None = None) -> Any:
    return connect(f"{url.replace('http', 'ws', 1)}/v1/responses", additional_headers=headers, proxy=None)


async def told(socket: ClientConnection, **event: Any) -> list[Any]:
    """The events that answer one event, up to the last one."""
    await socket.send(json.dumps({"type": "response.create", "model": "scripted", **event}))
    return await answer(socket)


async def answer(socket: ClientConnection) -> list[Any]:
    events: list[Any] = []
    async with asyncio.timeout(SOON_S):
        while not events or events[-1]["type"] not in ("error", "response.completed", "response.failed"):
            events.append(json.loads(await socket.recv()))
    return events


async def test_bad_events_are_refused_one_by_one_and_the_connection_goes_on(start: Start) -> None:
    async with start(says("fine")) as server, socket_of(server.url) as socket:
        got = []
        for text in (
            "no JSON",
            "[]",
            "{}",
            '{"type": "response.cancel"}',
            '{"type": "response.create", "stream_id": [1]}',
            '{"type": "response.create", "stream_id": "a lane"}',
            '{"type": "response.create", "model": "scripted", "input": "x", "generate": 0}',
            '{"type": "response.create", "model": "nowhere", "input": "x"}',
            '{"type": "response.create", "model": "scripted", "previous_response_id": "resp_nowhere", "input": "x"}',
            '{"type": "response.create", "model": "scripted", "input": "x", "unheard_of": 1}',
            '{"type": "response.create", "model": "scripted", "input": ' + "[" * 900 + "]" * 900 + "}",
            '{"type": "response.create", "model": "scripted", "input": ' + "[" * 9000 + "]" * 9000 + "}",
        ):
            await socket.send(text)
            *_, last = await answer(socket)
            got.append((last["type"], last["status"], last["error"]["param"] or last["error"]["code"]))
        after = await told(socket, input="hello")
    assert got == [
        ("error", 400, "invalid_json"),
        ("error", 400, "type"),
        ("error", 400, "type"),
        ("error", 400, "type"),
        ("error", 400, "stream_id"),
        ("error", 400, "stream_id"),
        ("error", 400, "generate"),
        ("error", 404, "model"),
        ("error", 400, "previous_response_id"),
        ("error", 400, "unheard_of"),
        ("error", 400, "invalid_json"),
        ("error", 400, "invalid_json"),
    ]
    assert after[-1]["type"] == "response.completed"


async def test_who_leaves_the_socket_ends_the_upstreams_connection(start: Start) -> None:
    hanging = stream_reply(text_chunk("once upon"), done=False, then=HANG)
    async with running(hanging) as upstream, start(providers=provider_at(upstream)) as server:
        await server.stack.responses()
        before = asyncio.all_tasks()
        async with socket_of(server.url) as socket, asyncio.timeout(SOON_S):
            await socket.send(json.dumps({"type": "response.create", "model": "far", "input": "tell"}))
            while "once upon" not in str(await socket.recv()):
                pass
        async with asyncio.timeout(SOON_S):
            await upstream.hung_up.wait()
        assert await quiet(before) == set()
        (left,) = (await server.http.get("/v1/responses")).json()["data"]
    assert left["status"] in ("incomplete", "cancelled")


async def test_a_bug_is_an_error_event_and_not_silence(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(body: Any, *, generate: bool) -> Any:
        if body["input"] == "trip":
            raise RuntimeError("a word of the inside")
        return decode_response_request(body, generate=generate)

    monkeypatch.setattr("llama_stack.wire.openai_responses.websocket.decode_response_request", faulty)
    async with start(says("fine")) as server, socket_of(server.url) as socket:
        (error,) = await told(socket, input="trip")
        after = await told(socket, input="hello")
    assert (error["status"], error["error"]["code"]) == (500, "internal_error")
    assert "inside" not in str(error)
    assert after[-1]["type"] == "response.completed"


async def test_a_stranger_cannot_continue_what_is_another_owners(owners_by_header: None, tmp_path: Any) -> None:
    async with world_of(tmp_path) as world:
        for owner, wanted in ((BOB, "error"), (ALICE, "response.completed")):
            async with socket_of(world.running.url, owner) as socket:
                for field, name in (("previous_response_id", "response_id"), ("conversation", "conversation_id")):
                    *_, last = await told(socket, input="x", **{field: world.ids[name]})
                    assert last["type"] == wanted, last
                    missing = (400, "previous_response_not_found"), (404, "conversation_not_found")
                    assert wanted != "error" or (last["status"], last["error"]["code"]) in missing
