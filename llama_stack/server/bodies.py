"""Reading a request's JSON body within limits."""

from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from llama_stack.errors import InvalidRequest, PayloadTooLarge
from llama_stack.server.hang_up import ClientGone
from llama_stack.server.options import ServerOptions


async def read_json(request: Request, options: ServerOptions) -> Any:
    """The body, parsed.

    Raises PayloadTooLarge as soon as too much is announced or has come, InvalidRequest for anything but JSON.
    """
    _check_content_type(request)
    return parse_json(await _read(request, options.max_body_bytes), options)


def parse_json(body: bytes, options: ServerOptions) -> Any:
    """What came whole, parsed. Raises as `read_json` does."""
    if len(body) > options.max_body_bytes:
        raise _too_large(options.max_body_bytes)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", code="invalid_json") from None
    # Fewer brackets than the limit cannot be nested deeper than it; only others need the walk.
    if body.count(b"[") + body.count(b"{") > options.max_json_depth and _depth(parsed) > options.max_json_depth:
        raise InvalidRequest(f"the body is nested deeper than {options.max_json_depth} levels", code="invalid_json")
    return parsed


def _check_content_type(request: Request) -> None:
    """A page in a browser can send any other type to this machine without asking; JSON it must ask for first."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"not {kind!r}" if kind else "which is missing"
        raise InvalidRequest(
            f"the header Content-Type must be application/json, {said}", param="Content-Type", code="invalid_header"
        )


async def _read(request: Request, limit_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)
    pieces: list[bytes] = []
    size_bytes = 0
    try:
        async for piece in request.stream():
            size_bytes += len(piece)
            if size_bytes > limit_bytes:
                raise _too_large(limit_bytes)
            pieces.append(piece)
    except ClientDisconnect as error:
        raise ClientGone from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the body is larger than {limit_bytes} bytes; send less, or raise server.max_body_bytes in the distribution"
    )


def _depth(value: Any) -> int:
    depth = 0
    level = [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth
