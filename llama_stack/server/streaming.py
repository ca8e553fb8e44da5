"""A stream of events as a response: early failures keep their status, late ones become the stream's last frame."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llama_stack.errors import ProviderUnavailable, StackError
from llama_stack.server.edge import internal_error, request_id_of
from llama_stack.server.hang_up import HangUpCancels
from llama_stack.wire.openai_errors import error_frame

logger = logging.getLogger(__name__)

EventT = TypeVar("EventT")

MAX_WAITING_BYTES = 256 * 1024
"""Frames made but not yet sent; beyond it the source has to wait for a slow client."""

KEEPALIVE_S = 15.0
"""A stream that was silent for so long says that it goes on: clients and proxies give up after a minute."""
_KEEPALIVE = b": still at work\n\n"
"""A comment, which every reader of event streams passes over (WHATWG HTML, section "Server-sent events")."""

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Reverse proxies of the nginx kind hold streams back unless told not to.
    (b"x-accel-buffering", b"no"),
]


class EventStream(Response, Generic[EventT]):
    """Sends the frames of `events`.

    The head is held back until the first frame, so a failure before it is raised and gets its own status; but not for
    longer than KEEPALIVE_S. A failure after it becomes one error frame. Either that or the encoder's closing frame ends
    the stream, never both. Frames that are ready at the same time leave in one write. The events' generator is closed
    when the client hangs up.
    """

    def __init__(
        self,
        events: AsyncGenerator[EventT, None],
        encode: Callable[[EventT], bytes],
        encode_failure: Callable[[StackError], bytes] = error_frame,
    ) -> None:
        """encode_failure: the frame of an error in the dialect of the stream."""
        self.background = None
        self._encode_failure = encode_failure
        self.status_code = 200
        self._events = events
        self._encode = encode

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        frames = _Frames()
        async with HangUpCancels(receive):
            reader = asyncio.create_task(self._read(frames))
            try:
                await self._send(frames, reader, scope, send)
            finally:
                await _stop(reader)
                frames.end()  # where the reader had not begun

    async def _read(self, frames: "_Frames") -> None:
        try:
            async with aclosing(self._events) as events:
                async for event in events:
                    if frames.add(self._encode(event)):
                        await frames.drained()
        finally:
            frames.end()

    async def _send(self, frames: "_Frames", reader: asyncio.Task[None], scope: Scope, send: Send) -> None:
        body = await frames.take()
        if not body:
            await reader  # raises what the source failed with before it said anything
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        try:
            while body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                body = await frames.take()
            last = await self._failure_of(reader, scope)
        except asyncio.CancelledError:
            # The server is stopping. If it is the client who left instead, nobody reads this frame.
            last = self._encode_failure(ProviderUnavailable("the server is shutting down; ask again"))
            await send({"type": "http.response.body", "body": last, "more_body": False})
            raise
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _failure_of(self, reader: asyncio.Task[None], scope: Scope) -> bytes:
        """The error frame of a source that failed after its first frame; nothing for one that ended well."""
        try:
            await reader
        except StackError as error:
            return self._encode_failure(error)
        except Exception:
            # As at the edge: whatever is no StackError is a bug of ours.
            request_id = request_id_of(scope)
            logger.exception("request %s failed in its stream", request_id)
            return self._encode_failure(internal_error(request_id))
        return b""


async def _stop(reader: asyncio.Task[None]) -> None:
    """The source is closed when this returns, and what it failed with was either told or concerns nobody any more."""
    if not reader.done():
        reader.cancel()
        await asyncio.wait([reader])
    if not reader.cancelled():
        reader.exception()


class _Frames:
    """Frames between the reader of events and the writer of the socket."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._ended = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._is_silent = True
        self._next_look = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._keep_alive)

    def _keep_alive(self) -> None:
        if self._is_silent and not self._waiting:
            self.add(_KEEPALIVE)
        self._is_silent = True
        self._next_look = asyncio.get_running_loop().call_later(KEEPALIVE_S, self._keep_alive)

    def add(self, frame: bytes) -> bool:
        """True when there is enough waiting that the source should pause."""
        if frame:
            self._waiting.append(frame)
            self._waiting_bytes += len(frame)
            self._readable.set()
        return self._waiting_bytes > MAX_WAITING_BYTES

    def end(self) -> None:
        self._next_look.cancel()
        self._ended = True
        self._readable.set()

    async def drained(self) -> None:
        self._writable.clear()
        await self._writable.wait()

    async def take(self) -> bytes:
        """All frames that are waiting, at least one; nothing once the source has ended."""
        await self._readable.wait()
        frames = b"".join(self._waiting)
        self._is_silent = False
        self._waiting.clear()
        self._waiting_bytes = 0
        if not self._ended:
            self._readable.clear()
        self._writable.set()
        return frames
