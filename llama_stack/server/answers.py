"""JSON answers, written once from plain values; no model is built only to be dumped again."""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.common import JsonObject
from llama_stack.server.hang_up import HangUpCancels


def json_response(body: JsonObject) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def stops_with_its_client(request: Request) -> HangUpCancels:
    """An `async with` around work that is worth nothing once its client has left."""
    return HangUpCancels(request.receive)
