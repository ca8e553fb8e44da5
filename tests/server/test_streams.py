"""How streams end: with their own status, with one error frame, or because the client left."""

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from llama_stack.api.inference import TextDelta, ToolCallDelta, ToolCallStart
from llama_stack.errors import ContextOverflow, ProviderFailed, RateLimited
from llama_stack.server import streaming
from llama_stack.server.app import create_app
from llama_stack.testing.scripted import ScriptedInference, ScriptedStack, Step, says
from tests.server.conftest import Start

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "stream": True}
COMPLETION = {"model": "scripted", "prompt": "hello", "stream": True}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ContextOverflow("9 tokens asked for, 4 fit"), 400, "context_length_exceeded"),
        (ProviderFailed("no such model", upstream_status=404), 404, "provider_failed"),
        (ProviderFailed("it broke"), 502, "provider_failed"),
    ],
)
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
async def test_a_failure_before_the_first_event_keeps_its_status(
    start: Start, path: str, body: dict[str, object], error: Exception, status: int, code: str
) -> None:
    async with start([error]) as server:
        response = await server.http.post(path, json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers["content-type"] == "application/json"


async def test_retry_after_is_passed_on(start: Start) -> None:
    async with start([RateLimited("slow down", retry_after_s=2.2)]) as server:
        response = await server.http.post("/v1/chat/completions", json=CHAT)
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param([TextDelta(text="Hel")], id="in the text"),
        pytest.param(
            [ToolCallStart(index=0, id="c", name="f"), ToolCallDelta(index=0, arguments='{"a')], id="in the arguments"
        ),
    ],
)
async def test_a_later_failure_is_the_one_last_frame(start: Start, begun: list[Step]) -> None:
    async with start([*begun, ProviderFailed("the upstream died")]) as server:
        response = await server.http.post("/v1/chat/completions", json=CHAT)
    assert response.status_code == 200
    frames = response.text.removesuffix("\n\n").split("\n\n")
    assert json.loads(frames[-1].removeprefix("data: ")) == {
        "error": {
            "message": "the upstream died",
            "type": "provider_error",
            "param": None,
            "code": "provider_failed",
            "status": 502,
        }
    }
    assert sum('"error"' in frame for frame in frames) == 1
    assert "data: [DONE]" not in frames


async def test_a_bug_of_ours_tells_nothing_but_the_request_id(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    bug = RuntimeError("secret detail")
    headers = {"X-Request-Id": "mine-1"}
    async with start([bug], [TextDelta(text="x"), bug]) as server:
        early = await server.http.post("/v1/chat/completions", json=CHAT, headers=headers)
        late = await server.http.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert early.status_code == 500
    late_error = json.loads(late.text.removesuffix("\n\n").split("data: ")[-1])
    assert late_error["error"].pop("status") == 500
    assert early.json() == late_error
    assert late_error["error"] == {
        "message": "internal error; the server's log tells more under request id mine-1",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert ["mine-1" in record.getMessage() for record in logged] == [True, True]
    assert all(record.exc_info and record.exc_info[1] is bug for record in logged)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("begun", [[], [TextDelta(text="x")]])
@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION)])
async def test_a_client_that_hangs_up_stops_the_work(
    start: Start, path: str, body: dict[str, object], begun: list[Step], stream: bool
) -> None:
    async with start([*begun, asyncio.Event(), *says()]) as server, asyncio.timeout(60):
        request = asyncio.create_task(server.http.post(path, json={**body, "stream": stream}))
        await server.inference.opened.wait()
        request.cancel()
        async with asyncio.timeout(60):
            await server.inference.closed_early.wait()


async def test_a_hang_up_in_the_middle_of_a_list_of_prompts_stops_all_of_them(start: Start) -> None:
    waiting: list[Step] = [TextDelta(text="x"), asyncio.Event()]
    async with start(waiting) as server, asyncio.timeout(60):
        body = {**COMPLETION, "prompt": ["a", "b", "c"]}
        async with server.http.stream("POST", "/v1/completions", json=body) as response:
            seen = 0
            async for line in response.aiter_lines():
                seen += line.startswith("data: ")
                if seen == 3:
                    break
        async with asyncio.timeout(60):
            await server.inference.closed_early.wait()
        assert len(server.inference.requests) == 3


async def test_a_hang_up_is_no_error_in_the_log(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with start([TextDelta(text="x"), asyncio.Event()]) as server, asyncio.timeout(60):
        async with server.http.stream("POST", "/v1/chat/completions", json=CHAT) as response:
            async for _ in response.aiter_raw():
                break
        await server.inference.closed_early.wait()
    assert [record.levelname for record in caplog.records if record.name.startswith("llama_stack")] == ["INFO"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_no_task_is_left_behind(start: Start) -> None:
    """Whatever way streams end: well, early, with an error, by a bug of ours, or because the client left."""
    ends: list[list[Step]] = [
        says("x"),
        [ProviderFailed("early")],
        [TextDelta(text="x"), ProviderFailed("late")],
        [TextDelta(text="x"), RuntimeError("bug")],
    ]
    async with start(*ends, [TextDelta(text="x"), asyncio.Event()]) as server, asyncio.timeout(60):
        await server.http.get("/v1/health")
        before = asyncio.all_tasks()
        for _ in ends:
            await server.http.post("/v1/chat/completions", json=CHAT)
        async with server.http.stream("POST", "/v1/chat/completions", json=CHAT) as response:
            async for _ in response.aiter_raw():
                break
        await server.inference.closed_early.wait()
        while asyncio.all_tasks() - before:
            await asyncio.wait(asyncio.all_tasks() - before)


async def test_a_reader_that_stops_reading_holds_the_source_back(start: Start) -> None:
    """30 MB that nobody reads: were they not held back, the script would be over before the client leaves."""
    script: list[Step] = [TextDelta(text="x" * 10_000) for _ in range(3000)]
    async with start([*script, *says()]) as server, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(server.url).port, limit=1024)
        body = json.dumps(CHAT).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        await reader.readexactly(10)
        writer.close()
        await server.inference.closed_early.wait()


async def test_what_is_ready_together_is_written_together() -> None:
    """Counted at the server's edge, because a socket may join writes by itself."""
    app = create_app(ScriptedStack(ScriptedInference(says(*["x"] * 500))))
    body = json.dumps(CHAT).encode()
    messages: list[Any] = []
    left = asyncio.Event()
    incoming: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not incoming:
            await left.wait()
        return incoming.pop()

    async def send(message: Any) -> None:
        messages.append(message)

    path = "/v1/chat/completions"
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app({**scope, "asgi": {"version": "3.0"}, "http_version": "1.1"}, receive, send)
    bodies = [message["body"] for message in messages if message["type"] == "http.response.body"]
    assert b"".join(bodies).count(b'"content":"x"') == 500
    assert len([body for body in bodies if body]) == 1


async def test_a_stream_that_has_nothing_to_tell_says_that_it_goes_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEEPALIVE_S", 0.02)
    may_go_on = asyncio.Event()
    async with (
        start([may_go_on, *says("Hello."), ProviderFailed("the upstream died")]) as server,
        server.http.stream("POST", "/v1/chat/completions", json=CHAT) as response,
    ):
        pieces = response.aiter_text()
        first = await anext(pieces)
        may_go_on.set()
        rest = "".join([piece async for piece in pieces])
    assert (response.status_code, first[:1]) == (200, ":")
    frames = [frame for frame in (first + rest).split("\n\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") for frame in frames)
    assert json.loads(frames[-1].removeprefix("data: "))["error"]["message"] == "the upstream died"


async def test_the_openai_package_passes_over_what_keeps_a_stream_alive(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEEPALIVE_S", 0.02)
    may_go_on = asyncio.Event()
    beaten = asyncio.Event()
    add = streaming._Frames.add

    def noticed(frames: streaming._Frames, frame: bytes) -> bool:
        beaten.set()
        return add(frames, frame)

    monkeypatch.setattr(streaming._Frames, "add", noticed)
    async with start([may_go_on, *says("Hello.")]) as server:
        chat = server.openai.chat.completions
        asking = asyncio.create_task(
            chat.create(model="scripted", messages=[{"role": "user", "content": "hi"}], stream=True)
        )
        await beaten.wait()
        may_go_on.set()
        chunks = [chunk async for chunk in await asking]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello."
