"""Responses of one connection: what is not stored is remembered there; fulfils `api.responses.ResponseSession`.

The last response of each lane is remembered, as in OpenAI's WebSocket mode, and so is a stored one that continues
what was not stored. An error forgets nothing: the request can be mended and sent again.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import orjson

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.responses import ResponseRequest
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.responses.making import Making, Origin
from llama_stack.storage.responses import MAX_CHAIN, PREVIOUS_NOT_FOUND
from llama_stack.wire.openai_responses.stream import LAST_EVENTS

MAX_REMEMBERED_BYTES = 64 * 1024 * 1024
"""Of what all remembered responses of a session were made of, as JSON; of more, the oldest is forgotten."""


@dataclass(frozen=True)
class Remembered:
    """A response that is known to its session only. root_id: as in StoredResponse. size_bytes: of all it follows."""

    response_id: str
    root_id: str
    origin: Origin
    size_bytes: int


Begin = Callable[[ResponseRequest, Caller, Remembered | None], Awaitable[Making]]
"""Makes a response ready that continues what is remembered, or what its request says."""


class Session:
    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._last: dict[str | None, Remembered] = {}

    async def stream(
        self, request: ResponseRequest, caller: Caller, *, lane: str | None = None
    ) -> AsyncGenerator[JsonObject, None]:
        wanted = request.previous_response_id
        known = next((one for one in self._last.values() if one.response_id == wanted), None)
        try:
            making = await self._begin(request, caller, known)
        except NotFound as error:
            if error.code != PREVIOUS_NOT_FOUND:
                raise
            raise InvalidRequest(
                f"{error.message}; leave previous_response_id out and send the whole conversation as input",
                param=error.param,
                code=error.code,
            ) from None
        async with aclosing(making.foreground(raises=False)) as events:
            async for event in events:
                # Before its reader is told: another lane may continue it at once.
                if event["type"] in LAST_EVENTS and (known is not None or not request.store):
                    self._remember(making, lane, known)
                yield event

    def _remember(self, making: Making, lane: str | None, known: Remembered | None) -> None:
        origin = making.continued
        if origin is None or len(origin.turns) >= MAX_CHAIN:
            return
        record = making.record
        size_bytes = len(orjson.dumps([record.request.input, making.encoder.response["output"]]))
        size_bytes += known.size_bytes if known is not None else 0
        # Taken out first, so that the lanes stand in the order of their last responses.
        self._last.pop(lane, None)
        self._last[lane] = Remembered(record.response_id, record.root_id, origin, size_bytes)
        while sum(one.size_bytes for one in self._last.values()) > MAX_REMEMBERED_BYTES:
            self._last.pop(next(iter(self._last)))
