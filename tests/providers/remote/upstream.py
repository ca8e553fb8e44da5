"""A loopback upstream that answers byte for byte as it is told, and fails where it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

HANG = "hang"
CUT = "cut"


@dataclass
class Reply:
    """One answer. then: CUT closes the connection in the middle of the body, HANG leaves the client waiting.

    status None: not even a head is sent before `then`. whole: the body's length is announced; otherwise chunked.
    """

    status: int | None = 200
    body: list[bytes] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    then: str | None = None
    raw_head: bytes | None = None


def json_reply(body: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, [orjson.dumps(body)], {"content-type": "application/json", **headers})


def stream_reply(*chunks: Any, done: bool = True, then: str | None = None) -> Reply:
    """Chunks are JSON values, or bytes sent as they are."""
    frames = [chunk if isinstance(chunk, bytes) else b"data: " + orjson.dumps(chunk) + b"\n\n" for chunk in chunks]
    if done:
        frames.append(b"data: [DONE]\n\n")
    return Reply(200, frames, {"content-type": "text/event-stream"}, then)


def text_chunk(text: str, finish_reason: str | None = None) -> Any:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]}


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Upstream:
    """Gives each request the next reply; the last one again and again."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.received: list[Received] = []
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.connections = 0
        self.url = ""
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.hung_up.set()
            writer.close()
            del self._open[task]

    async def end_connections(self) -> None:
        """Drops those that a client still holds, so that nothing of them is left to a later test."""
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(list(self._open))

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        is_json = headers.get("content-type", "").startswith("application/json")
        self.received.append(Received(method, path, headers, orjson.loads(body) if body and is_json else body or None))
        self.asked.set()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.raw_head is not None:
            writer.write(reply.raw_head)
        elif reply.status is not None:
            lines = [f"HTTP/1.1 {reply.status} x", "transfer-encoding: chunked"]
            lines += [f"{name}: {value}" for name, value in reply.headers.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            for piece in reply.body:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        if reply.then == HANG:
            # What comes now can only be the end of the connection.
            await reader.read(1)
            return False
        if reply.then == CUT or reply.raw_head is not None:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@asynccontextmanager
async def running(*replies: Reply) -> AsyncIterator[Upstream]:
    upstream = Upstream(*replies)
    server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        server.close()
        await upstream.end_connections()
