"""The WebSocket mode of /v1/responses (OpenAI API reference, "Responses", WebSocket events).

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
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest, RateLimited, StackError, UnsupportedParameter
from llama_stack.server.bodies import parse_json
from llama_stack.server.callers import caller_of
from llama_stack.server.options import ServerOptions
from llama_stack.server.origins import may_come_from
from llama_stack.wire.openai_errors import encode_error
from llama_stack.wire.openai_responses.request import decode_response_request

logger = logging.getLogger(__name__)

MAX_LANES = 16
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
        self._lanes: dict[str | None, asyncio.Queue[JsonObject]] = {}
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
        stream_id: str | None = None
        try:
            event = _parsed(text, self._options)
            if event["type"] == "response.steer":
                await self._send(_not_steered(event))
                return
            stream_id = event.pop("stream_id", None)
            if stream_id is not None and not isinstance(stream_id, str):
                raise InvalidRequest("stream_id: must be a text", param="stream_id")
            if stream_id not in self._lanes:
                if len(self._lanes) >= MAX_LANES:
                    raise RateLimited(f"one connection has at most {MAX_LANES} lanes; use another stream_id again")
                self._lanes[stream_id] = asyncio.Queue(MAX_WAITING_PER_LANE)
                lanes.append(asyncio.create_task(self._work(stream_id, self._lanes[stream_id])))
            try:
                self._lanes[stream_id].put_nowait(event)
            except asyncio.QueueFull:
                raise RateLimited(f"{MAX_WAITING_PER_LANE} responses of this lane are waiting") from None
        except StackError as error:
            await self._send(_error(error, stream_id))

    async def _work(self, stream_id: str | None, waiting: "asyncio.Queue[JsonObject]") -> None:
        lane = {} if stream_id is None else {"stream_id": stream_id}
        while True:
            body = await waiting.get()
            try:
                request, _ = decode_response_request(_as_body(body))
                responses = await self._stack.responses()
                async with aclosing(responses.stream(request, self._caller)) as events:
                    async for event in events:
                        await self._send({**event, **lane})
            except StackError as error:
                await self._send(_error(error, stream_id))
            except WebSocketDisconnect:
                # The client has left while an event was sent; the reader of its messages ends all of it.
                return
            except Exception:
                logger.exception("a response of a WebSocket failed")
                await self._send(_error(StackError("internal error; the server's log tells more"), stream_id))

    async def _send(self, event: JsonObject) -> None:
        text = orjson.dumps(event).decode()
        async with self._sending:
            try:
                await self._socket.send_text(text)
            except RuntimeError as error:
                # What Starlette and uvicorn raise once the connection is closed.
                raise WebSocketDisconnect from error


def _parsed(text: str | bytes, options: ServerOptions) -> JsonObject:
    event = parse_json(text.encode() if isinstance(text, str) else text, options)
    if not isinstance(event, dict) or event.get("type") not in ("response.create", "response.steer"):
        raise InvalidRequest("type: must be response.create or response.steer", param="type")
    return event


def _as_body(event: JsonObject) -> JsonObject:
    """The fields of POST /v1/responses."""
    if event.get("background"):
        raise UnsupportedParameter("background: not supported over a WebSocket; use POST", param="background")
    if event.get("generate") is False:
        raise UnsupportedParameter("generate: responses without output are not made; leave it out", param="generate")
    return {name: value for name, value in event.items() if name not in ("type", "stream", "generate")}


def _error(error: StackError, stream_id: str | None) -> JsonObject:
    told = {"type": "error", "status": error.http_status, **encode_error(error)}
    return told if stream_id is None else {**told, "stream_id": stream_id}


def _not_steered(event: JsonObject) -> JsonObject:
    """A turn of the loop takes no input once it has begun."""
    return {
        "type": "response.steer.failed",
        "sequence_number": 0,
        "error": {
            "type": "invalid_request_error",
            "code": "steering_not_supported",
            "message": "responses cannot be steered here; send the input with the next response",
        },
        "steer": {"input": event.get("input"), "previous_response_id": event.get("previous_response_id")},
    }
