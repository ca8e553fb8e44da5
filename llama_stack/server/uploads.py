"""Bodies that hold a file: read in pieces, within a limit of their own, apart from that of other bodies."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import ClientDisconnect, Request

from llama_stack.errors import InvalidRequest, PayloadTooLarge
from llama_stack.server.hang_up import ClientGone
from llama_stack.wire.upload_forms import MAX_FORM_BYTES

STALL_S = 120.0
"""Longest wait for more of an upload; whoever sends nothing holds a place that others may want."""


async def upload_body(request: Request, max_file_bytes: int, too_large: PayloadTooLarge) -> AsyncGenerator[bytes, None]:
    """The body in pieces. Raises `too_large` as soon as more is announced, or has come, than such a form can have."""
    limit_bytes = max_file_bytes + MAX_FORM_BYTES
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise too_large
    size_bytes = 0
    try:
        async with aclosing(request.stream()) as chunks:
            while True:
                async with asyncio.timeout(STALL_S):
                    chunk = await anext(chunks, b"")
                if not chunk:
                    return
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise too_large
                yield chunk
    except ClientDisconnect as error:
        raise ClientGone from error
    except TimeoutError as error:
        raise InvalidRequest(
            f"nothing more of the upload came for {STALL_S:g} s; send it again", code="upload_stalled"
        ) from error


def untrusted(mime_type: str) -> dict[str, str]:
    """Headers of an answer with an owner's bytes, which are shown by nobody as a page of this server, whatever type
    they say they have.
    """
    return {"content-type": mime_type, "x-content-type-options": "nosniff"}
