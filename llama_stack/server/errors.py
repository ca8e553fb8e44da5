"""Errors as responses: one body for all of them, and a hint for a path that does not exist."""

import math
from difflib import get_close_matches

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from llama_stack.api.common import JsonObject
from llama_stack.errors import InvalidRequest, NotFound, StackError
from llama_stack.server.plain import PlainRoute
from llama_stack.wire.openai_errors import encode_error


def error_response(error: StackError, *, status: int | None = None, more: JsonObject | None = None) -> Response:
    """more: members of the body beside `error`."""
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    return Response(
        orjson.dumps({**encode_error(error), **(more or {})}),
        status_code=status or error.http_status,
        headers=headers,
        media_type="application/json",
    )


_NOT_SERVED = {
    "datasets": "datasets",
    "datasetio": "datasets",
    "eval": "evaluation",
    "scoring": "scoring",
    "scoring-functions": "scoring",
    "post-training": "post-training",
    "synthetic-data-generation": "synthetic data",
    "telemetry": "telemetry",
}
"""APIs that clients of earlier servers have calls for, by the beginning of their paths."""


def add_error_handlers(app: Starlette) -> None:
    async def stack_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, StackError):
            raise error
        return error_response(error)

    async def http_error(request: Request, error: Exception) -> Response:
        """What the router says: no such path, no such method, or a client that left while its body was read."""
        if not isinstance(error, HTTPException):
            raise error
        path = request.url.path
        if error.status_code == 404:
            return error_response(NotFound(_no_such_path(app, path), code="unknown_route"))
        if error.status_code == 405:
            allowed = ", ".join(_methods_of(app, request.scope)) or "another method"
            refused = InvalidRequest(f"{path} does not take {request.method}; use {allowed}", code="method_not_allowed")
            response = error_response(refused, status=405)
            response.headers["Allow"] = allowed
            return response
        return error_response(InvalidRequest(str(error.detail)), status=error.status_code)

    app.add_exception_handler(StackError, stack_error)
    app.add_exception_handler(HTTPException, http_error)


def _methods_of(app: Starlette, scope: Scope) -> list[str]:
    """What every route of the path takes: the router tells of the first one only."""
    matching = [
        route for route in app.routes if isinstance(route, PlainRoute) and route.matches(scope)[0] != Match.NONE
    ]
    methods = {method for route in matching for method in route.methods}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _no_such_path(app: Starlette, path: str) -> str:
    paths = [route.path for route in app.routes if isinstance(route, PlainRoute)]
    prefixed = f"/v1{path}"
    family = path.removeprefix("/v1/").partition("/")[0]
    # What all paths have in common makes none of them alike.
    ends = {known.removeprefix("/v1/"): known for known in reversed(paths)}
    nearest = [prefixed] if prefixed in paths else get_close_matches(path.removeprefix("/v1/"), ends, n=1, cutoff=0.7)
    if family in _NOT_SERVED:
        hint = f"this server has no {_NOT_SERVED[family]} API"
    elif nearest:
        hint = f"did you mean {ends.get(nearest[0], nearest[0])}?"
    else:
        hint = "GET /v1/inspect/routes lists what there is"
    return f"there is no {path[:200]!r} here; {hint}"
