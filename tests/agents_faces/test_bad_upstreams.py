"""Upstreams and tool servers that fail before, between and in the middle: one last event, a precise error, what was
finished is kept, and the next turn works.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llama_stack.api.agents import Turn
from llama_stack.api.messages import text_of
from llama_stack.testing.scripted import calls, says
from tests.agents_faces.doors import LOCAL, Handiwork, Refused, Running, Start, frames_of
from tests.providers.mcp.workshop import workshop
from tests.providers.remote.upstream import CUT, HANG, Reply, json_reply, running, stream_reply, text_chunk

KIT = "builtin::kit"
FACES = ("connected", "classic", "classic-stream")


def call_chunk(arguments: str, *, begins: bool = True, finish_reason: str | None = None) -> Any:
    call: dict[str, Any] = {"index": 0, "function": {"arguments": arguments}}
    if begins:
        call = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "use", "arguments": arguments}}
    return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": finish_reason}]}


WHOLE = stream_reply(text_chunk("the end", "stop"))
CALL = stream_reply(call_chunk("{}", finish_reason="tool_calls"))
NOT_JSON = b'data: {"choices": [{"index": 0, "delta": {"content": "x\n\n'

FAULTS: dict[str, tuple[Reply, int, str]] = {
    "an error before": (json_reply({"error": {"message": "the cluster is on fire"}}, 500), 502, "on fire"),
    "a refusal before": (json_reply({"error": {"message": "top_k is too big"}}, 400), 400, "top_k is too big"),
    "an end before the first word": (stream_reply(done=False, then=CUT), 502, ""),
    "an end in mid-text": (stream_reply(text_chunk("once upon"), done=False, then=CUT), 502, ""),
    "an end in mid-arguments": (stream_reply(call_chunk('{"a": "b'), done=False, then=CUT), 502, ""),
    "a stream that just stops": (stream_reply(text_chunk("once upon"), done=False), 502, ""),
    "what is no JSON": (stream_reply(text_chunk("once"), NOT_JSON, done=False), 502, ""),
    "an error in the stream": (
        stream_reply(text_chunk("once"), {"error": {"message": "out of memory", "code": 500}}), 502, "out of memory",
    ),
}  # fmt: skip


@asynccontextmanager
async def stack_before(start: Start, url: str, **config: Any) -> AsyncIterator[Running]:
    far = {
        "provider_id": "up",
        "provider_type": "remote::openai-compatible",
        "config": {"base_url": url, **config},
        "models": [{"identifier": "far"}],
    }
    async with start(tools={KIT: Handiwork(use=lambda **given: "used")}, providers={"inference": [far]}) as server:
        yield server


async def stored(server: Running, ids: tuple[str, str]) -> list[Turn]:
    agents = await server.stack.agents()
    return (await agents.session(*ids, LOCAL)).turns


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_turn_whose_second_model_call_fails_keeps_what_it_had(fault: str, start: Start) -> None:
    reply, status, told = FAULTS[fault]
    # A stream has begun with 200 by then; the frame that ends it tells the rest.
    statuses = {"classic": status, "classic-stream": 200, "connected": status}
    async with running(*[CALL, reply, WHOLE] * 3) as upstream, stack_before(start, upstream.url) as server:
        for face, expected in statuses.items():
            door = server.doors[face]
            ids = await door.begin(model="far", tool_groups=[KIT])
            with pytest.raises(Refused) as caught:
                await door.ask(*ids)
            (turn,) = await stored(server, ids)
            assert [step.type for step in turn.steps] == ["inference", "tool_execution"]
            assert await door.ask(*ids, "again") == "the end"
            assert [turn.end_reason for turn in await stored(server, ids)] == ["interrupted", "completed"]
            assert (caught.value.status, caught.value.code) == (expected, "provider_failed"), face
            assert told in caught.value.message
            assert upstream.url in caught.value.message or "the upstream" in caught.value.message


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_streamed_response_has_one_last_event(fault: str, start: Start) -> None:
    reply, _, told = FAULTS[fault]
    tools = [{"type": "mcp", "server_label": KIT, "require_approval": "never"}]
    body = {"model": "far", "input": "go", "stream": True, "tools": tools}
    async with running(CALL, reply, WHOLE) as upstream, stack_before(start, upstream.url) as server:
        conversation = (await server.http.post("/v1/conversations", json={})).json()["id"]
        answer = await server.http.post("/v1/responses", json={**body, "conversation": conversation})
        events = frames_of(answer.content)
        kept = (await server.http.get(f"/v1/responses/{events[0]['response']['id']}")).json()
        after = await server.respond(model="far", input="again", conversation=conversation)
    last = [event["type"] for event in events if event["type"] in ("response.failed", "response.completed", "error")]
    assert last == ["response.failed"]
    assert events[-1]["type"] == "response.failed"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert told in events[-1]["response"]["error"]["message"]
    assert kept["status"] == "failed"
    assert "mcp_call" in [item["type"] for item in kept["output"]]
    assert after["output"][0]["content"][0]["text"] == "the end"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_whose_first_model_call_fails_leaves_nothing(stream: bool, start: Start) -> None:
    refusal, _, told = FAULTS["a refusal before"]
    async with running(refusal, WHOLE) as upstream, stack_before(start, upstream.url) as server:
        with pytest.raises(Refused, match=told) as caught:
            await server.respond(model="far", input="go", stream=stream)
        listed = (await server.http.get("/v1/responses")).json()["data"]
        after = await server.respond(model="far", input="again")
    assert caught.value.status == 400
    assert listed == []
    assert after["status"] == "completed"


# --- tool servers ---------------------------------------------------------------------------------------------------


def mcp_provider(**settings: float) -> dict[str, Any]:
    config = {"allow_private_addresses": True, **settings}
    return {"provider_id": "mcp", "provider_type": "remote::mcp", "config": config}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("fault", ["unreachable", "slow", "no MCP"])
async def test_an_mcp_server_that_cannot_be_asked_ends_the_turn_before_it_began(fault: str, start: Start) -> None:
    reply = Reply(None, then=HANG) if fault == "slow" else json_reply({"hello": "world"})
    provider = mcp_provider(connect_timeout_s=0.5 if fault == "slow" else 60)
    async with running(reply) as broken, start(says("fine"), providers={"tools": [provider]}) as server:
        url = f"http://127.0.0.1:{free_port()}/mcp" if fault == "unreachable" else broken.url
        group = {"toolgroup_id": "mcp::away", "provider_id": "mcp", "mcp_endpoint": {"uri": url}}
        (await server.http.post("/v1/toolgroups", json=group)).raise_for_status()
        for face in FACES:
            door = server.doors[face]
            ids = await door.begin(tool_groups=["mcp::away"])
            async with asyncio.timeout(60):
                with pytest.raises(Refused, match="the MCP server 'mcp::away'") as caught:
                    await door.ask(*ids)
            assert caught.value.status == {"unreachable": 503, "slow": 504, "no MCP": 502}[fault]
            assert await door.see_session(*ids) == []
        plain = await server.doors["sdk"].begin()
        assert await server.doors["sdk"].ask(*plain) == "fine"
        listed = await server.http.get("/v1/tools")
    assert listed.status_code == 200


async def test_an_mcp_tool_that_hangs_or_fails_is_a_result(start: Start) -> None:
    from tests.providers.mcp.conftest import serving

    server_side = workshop()
    script = [calls(("wait", "{}"), ("no_such_tool", "{}")), says("noted"), says("next")]
    async with (
        serving(server_side.streamable_http_app()) as url,
        start(*script, providers={"tools": [mcp_provider(call_timeout_s=1)]}) as server,
    ):
        group = {"toolgroup_id": "mcp::shop", "provider_id": "mcp", "mcp_endpoint": {"uri": f"{url}/mcp"}}
        (await server.http.post("/v1/toolgroups", json=group)).raise_for_status()
        door = server.doors["classic-stream"]
        ids = await door.begin(tool_groups=["mcp::shop"])
        async with asyncio.timeout(60):
            assert await door.ask(*ids) == "noted"
            await server_side.cancelled.wait()
        (turn,) = await stored(server, ids)
        assert await door.ask(*ids, "again") == "next"
    results = sorted(text_of(step.results[0].content) for step in turn.steps if step.type == "tool_execution")
    assert "did not answer the call of wait in time" in " ".join(results)
    assert "There is no tool named 'no_such_tool'" in " ".join(results)
