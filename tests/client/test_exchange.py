"""What a connection does when the other end is no stack, is away, or breaks off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llama_stack import LlamaStack, errors
from llama_stack.api.common import HealthStatus
from llama_stack.client import stack as client

LIMIT_S = 60.0


@asynccontextmanager
async def peer(answer: bytes, *, then_hang: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers everything with these bytes; gives its URL and the heads of the requests it got."""
    heads: list[bytes] = []
    hanging = asyncio.Event()
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            if then_hang:
                await hanging.wait()
        except OSError:
            pass  # the client has left
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
        finally:
            hanging.set()
            await asyncio.gather(*(task for task in serving if task is not None), return_exceptions=True)


def response(body: bytes, *, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{extra}\r\n"
    )
    return head.encode() + body


EMPTY_LIST = response(b'{"object": "list", "data": []}')


async def test_a_stack_that_is_away_is_unavailable_and_the_message_says_what_to_do(unused_tcp_port: int) -> None:
    async with LlamaStack.connect(f"http://127.0.0.1:{unused_tcp_port}") as stack:
        with pytest.raises(errors.ProviderUnavailable, match="start one with `llama stack run starter`"):
            await stack.list_models()
        health = await stack.inference.health()
        assert health.status == HealthStatus.DEGRADED
        assert "cannot reach a stack" in str(health.message)


@pytest.fixture
def unused_tcp_port() -> int:
    """A port nobody listens on: one that was free a moment ago, and stays reserved by a socket that does not listen."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_as_openai_clients_want_it(ending: str) -> None:
    async with (
        peer(EMPTY_LIST) as (url, heads),
        LlamaStack.connect(url + ending, api_key="k-1", provider_data={"together_api_key": "ü"}) as stack,
    ):
        assert await stack.list_models() == []
    assert heads[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"authorization: bearer k-1" in heads[0].lower()
    assert b'{"together_api_key": "\\u00fc"}' in heads[0]


@pytest.mark.parametrize("url", ["localhost:8321", "ftp://localhost", ""])
async def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="give one like http://localhost:8321"):
        async with LlamaStack.connect(url):
            pass


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (response(b"<html>", kind="text/html"), errors.ProviderFailed, "what is not JSON"),
        (response(b"Not Found", status="404 Not Found"), errors.NotFound, "answered 404"),
        (response(b"<h1>Bad Gateway</h1>", status="502 Bad Gateway"), errors.StackError, "answered 502"),
        (
            response(b"", status="307 Moved", extra="location: http://elsewhere/v1/models\r\n"),
            errors.NotPermitted,
            "redirects to http://elsewhere",
        ),
        (b"", errors.ProviderFailed, "the connection to the stack"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", errors.ProviderFailed, "the connection to the stack"),
    ],
    ids=["page", "not-found", "proxy", "redirect", "hang-up", "cut-off"],
)
async def test_an_answer_that_is_none_of_a_stack_is_an_error_that_says_so(
    answer: bytes, kind: type[errors.StackError], message: str
) -> None:
    async with peer(answer) as (url, _), LlamaStack.connect(url) as stack:
        with pytest.raises(kind, match=message):
            await stack.list_models()


async def test_a_stack_that_says_nothing_is_a_timeout() -> None:
    async with peer(b"", then_hang=True) as (url, _), LlamaStack.connect(url, timeout_s=0.2) as stack:
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(errors.ProviderTimeout, match="raise timeout_s"):
                await stack.list_models()


CHUNK = b'data: {"choices": [{"index": 0, "delta": {"content": "Once"}}]}\n\n'


async def test_a_stream_that_ends_without_its_end_is_an_error() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + CHUNK
    async with peer(answer) as (url, _), LlamaStack.connect(url) as stack:
        seen = []
        with pytest.raises(errors.ProviderFailed, match="broke off"):
            async for event in stack.stream_chat("Tell.", model="m"):
                seen.append(event)
    assert len(seen) == 1


async def test_a_stream_that_falls_silent_is_a_timeout() -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n" + CHUNK
    async with peer(answer, then_hang=True) as (url, _), LlamaStack.connect(url, timeout_s=1) as stack:
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(errors.ProviderTimeout, match="sent nothing in time"):
                async for _ in stack.stream_chat("Tell.", model="m"):
                    pass


async def test_an_answer_in_one_piece_is_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WHOLE_ANSWER_TIMEOUT_S", 1.0)
    async with peer(b"", then_hang=True) as (url, _), LlamaStack.connect(url, timeout_s=0.3) as stack:
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(LIMIT_S):
            with pytest.raises(errors.ProviderTimeout):
                await stack.chat("Tell.", model="m")
        assert asyncio.get_running_loop().time() - started >= 0.9


async def test_a_stack_without_models_says_that_none_can_be_chosen() -> None:
    async with peer(EMPTY_LIST) as (url, _), LlamaStack.connect(url) as stack:
        with pytest.raises(errors.NotFound, match="this stack has no model of type llm"):
            await stack.chat("Hi")
