"""Events of the WebSocket mode (API reference, "Responses", WebSocket events; guide "WebSocket mode")."""

import re
from dataclasses import dataclass

from llama_stack.api.common import JsonObject
from llama_stack.api.responses import ResponseRequest
from llama_stack.errors import InvalidRequest, StackError, UnsupportedParameter
from llama_stack.wire.openai_errors import encode_error
from llama_stack.wire.openai_responses.request import decode_response_request

_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_OF_THE_EVENT = frozenset({"type", "stream", "stream_id", "generate"})
"""Fields that POST /v1/responses has not, or that mean nothing here."""


@dataclass(frozen=True)
class Create:
    """A `response.create`. body: its fields, still to be read. lane: its `stream_id`."""

    body: JsonObject
    lane: str | None = None

    def decoded(self) -> ResponseRequest:
        """Raises as `decode_response_request`."""
        if self.body.get("background"):
            raise UnsupportedParameter("background: not supported over a WebSocket; use POST", param="background")
        generate = self.body.get("generate")
        if generate is not None and not isinstance(generate, bool):
            raise InvalidRequest("generate: must be true or false", param="generate")
        fields = {name: value for name, value in self.body.items() if name not in _OF_THE_EVENT}
        return decode_response_request({**fields, "stream": True}, generate=generate is not False)[0]


@dataclass(frozen=True)
class Steer:
    """A `response.steer`; a turn of the loop takes no input once it has begun."""

    body: JsonObject

    def refused(self) -> JsonObject:
        steer = {name: self.body.get(name) for name in ("input", "previous_response_id")}
        return {
            "type": "response.steer.failed",
            "sequence_number": 0,
            "error": {
                "type": "invalid_request_error",
                "code": "steering_not_supported",
                "message": "responses cannot be steered here; send the input with the next response",
            },
            "steer": steer,
        }


def decode_client_event(event: object) -> Create | Steer:
    """Raises InvalidRequest for an event of another kind and for a lane that has no proper name."""
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(event, dict) or kind not in ("response.create", "response.steer"):
        raise InvalidRequest("type: must be response.create or response.steer", param="type")
    if kind == "response.steer":
        return Steer(event)
    lane = event.get("stream_id")
    if lane is not None and (not isinstance(lane, str) or _STREAM_ID.fullmatch(lane) is None):
        raise InvalidRequest(
            "stream_id: must be 1 to 256 ASCII letters, digits, underscores, hyphens or periods",
            param="stream_id",
            code="invalid_stream_id",
        )
    return Create(event, lane)


def encode_error_event(error: StackError, lane: str | None) -> JsonObject:
    """status: that an answer to POST /v1/responses would have."""
    told = {"type": "error", "status": error.http_status, **encode_error(error)}
    return told if lane is None else {**told, "stream_id": lane}
