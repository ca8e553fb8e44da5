"""The WebSocket mode of /v1/responses.

A client sends `response.create` events, whose fields are those of POST /v1/responses, and reads the events of the
responses. Events with the same `stream_id` are one lane: its responses are made one after the other, those of several
lanes side by side, and their events repeat the `stream_id`.
"""

import asyncio
import logging
from contextlib import aclosing

import orjson
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.responses import ResponseSession
from llama_stack.api.stack import ServedStack
from llama_stack.errors import RateLimited, StackError
from llama_stack.server.bodies import parse_json
from llama_stack.server.callers import caller_of
from llama_stack.server.options import ServerOptions
from llama_stack.server.origins import may_come_from
from llama_stack.wire.openai_responses.stream import obfuscated
from llama_stack.wire.openai_responses.websocket import Create, Steer, decode_client_event, encode_error_event

logger = logging.getLogger(__name__)

MAX_NAMED_LANES = 32
MAX_AT_ONCE = 16
MAX_WAITING_PER_LANE = 16
POLICY_VIOLATION = 1008


def route(stack: ServedStack, options: ServerOptions) -> WebSocketRoute:
    async def serve(socket: WebSocket) -> None:
        if not may_come_from(socket, options):
            await socket.close(POLICY_VIOLATION)
            return
        caller = caller_of(socket)
        await socket.accept()
        await _Connection(stack, socket, caller, options).serve()

    return WebSocketRoute("/v1/responses", serve)


class _Connection:
    """One client. Its lanes are tasks; all of them end with the connection."""

    def __init__(self, stack: ServedStack, socket: WebSocket, caller: Caller, options: ServerOptions) -> None:
        self._stack = stack
        self._socket = socket
        self._caller = caller
        self._options = options
        self._session: ResponseSession | None = None
        self._lanes: dict[str | None, asyncio.Queue[Create]] = {}
        self._free = asyncio.Semaphore(MAX_AT_ONCE)
        self._sending = asyncio.Lock()

    async def serve(self) -> None:
        lanes: list[asyncio.Task[None]] = []
        try:
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await self._take(message.get("text") or message.get("bytes") or "", lanes)
        except WebSocketDisconnect:
            return
        finally:
            for lane in lanes:
                lane.cancel()
            if lanes:
                await asyncio.wait(lanes)

    async def _take(self, text: str | bytes, lanes: list[asyncio.Task[None]]) -> None:
        lane: str | None = None
        try:
            event = decode_client_event(parse_json(text.encode() if isinstance(text, str) else text, self._options))
            if isinstance(event, Steer):
                await self._send(event.refused())
                return
            lane = event.lane
            if lane not in self._lanes:
                if lane is not None and len(self._lanes.keys() - {None}) >= MAX_NAMED_LANES:
                    raise RateLimited(
                        f"one connection has at most {MAX_NAMED_LANES} lanes; use another stream_id again",
                        code="websocket_stream_limit_reached",
                    )
                self._lanes[lane] = asyncio.Queue(MAX_WAITING_PER_LANE)
                lanes.append(asyncio.create_task(self._work(lane, self._lanes[lane])))
            try:
                self._lanes[lane].put_nowait(event)
            except asyncio.QueueFull:
                raise RateLimited(f"{MAX_WAITING_PER_LANE} responses of this lane are waiting") from None
        except StackError as error:
            await self._send(encode_error_event(error, lane))

    async def _work(self, lane: str | None, waiting: "asyncio.Queue[Create]") -> None:
        while True:
            event = await waiting.get()
            try:
                async with self._free:
                    await self._answer(event)
            except StackError as error:
                await self._send(encode_error_event(error, lane))
            except WebSocketDisconnect:
                # The client has left while an event was sent; the reader of its messages ends all of it.
                return
            except Exception:
                logger.exception("a response of a WebSocket failed")
                failure = StackError("internal error; the server's log tells more")
                await self._send(encode_error_event(failure, lane))

    async def _answer(self, create: Create) -> None:
        request = create.decoded()
        responses = await self._stack.responses()
        if self._session is None:
            self._session = responses.session()
        named = {} if create.lane is None else {"stream_id": create.lane}
        async with aclosing(self._session.stream(request, self._caller, lane=create.lane)) as events:
            async for event in events:
                await self._send({**(obfuscated(event) if request.obfuscates else event), **named})

    async def _send(self, event: JsonObject) -> None:
        text = orjson.dumps(event).decode()
        async with self._sending:
            try:
                await self._socket.send_text(text)
            except RuntimeError as error:
                # What Starlette and uvicorn raise once the connection is closed.
                raise WebSocketDisconnect from error
