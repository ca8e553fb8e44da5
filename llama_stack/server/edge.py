"""The outermost layer: a request id in every answer, one line in the access log, our own bugs as a plain 500, and no
answer for those who address the server by a name that is not its own.
"""

import asyncio
import logging
import re
import time
from uuid import uuid4

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_stack.errors import NotPermitted, ProviderUnavailable, StackError
from llama_stack.server.hang_up import ClientGone
from llama_stack.wire.openai_errors import encode_error

access_logger = logging.getLogger("llama_stack.access")
logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = b"x-request-id"
_GOOD_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}")
_GONE_STATUS = 499


def internal_error(request_id: str) -> StackError:
    """What a caller may know of a bug of ours."""
    return StackError(f"internal error; the server's log tells more under request id {request_id}")


def request_id_of(scope: Scope) -> str:
    return str(scope.get("llama_stack.request_id", "unknown"))


class Edge:
    """Pure ASGI: a middleware that wraps the response in its own tasks would cost more than the routes."""

    def __init__(self, app: ASGIApp, allowed_hosts: frozenset[str] | None = None) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request_id = _sent_request_id(scope) or f"req_{uuid4().hex}"
        scope["llama_stack.request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, request_id.encode("ascii"))]
            await send(message)

        try:
            if self._allowed_hosts is not None and (host := _host_of(scope)) not in self._allowed_hosts:
                refused = orjson.dumps(encode_error(_foreign_host(host)))
                await _send_json(send_with_id, NotPermitted.status, refused)
                return
            await self._app(scope, receive, send_with_id)
        except ClientGone:
            status = status or _GONE_STATUS
        except asyncio.CancelledError:
            # Only a server that stops cancels a request, and this is the request's outermost frame.
            if not status:
                stopping = ProviderUnavailable("the server is shutting down; ask again")
                await _send_json(send_with_id, 503, orjson.dumps(encode_error(stopping)))
        except Exception:
            # Whatever is no StackError is a bug of ours; the caller learns nothing but where to look.
            logger.exception("request %s failed", request_id)
            if status:
                raise
            status = 500
            await _send_json(send_with_id, 500, orjson.dumps(encode_error(internal_error(request_id))))
        finally:
            if access_logger.isEnabledFor(logging.INFO):
                took_ms = (time.perf_counter() - began) * 1000
                access_logger.info(
                    "%s %s %d %.1f ms %s", scope["method"], _printable(scope["path"]), status, took_ms, request_id
                )


def _host_of(scope: Scope) -> str:
    """The name in the Host header, without its port."""
    for name, value in scope["headers"]:
        if name == b"host":
            host: str = value.decode("latin-1").lower()
            return host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return ""


def _foreign_host(host: str) -> NotPermitted:
    return NotPermitted(
        f"this server is not addressed as {host[:100]!r}; use localhost, or add the name to server.allowed_hosts in "
        "the distribution",
        param="Host",
        code="host_not_allowed",
    )


def _sent_request_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER:
            return value.decode("ascii") if _GOOD_REQUEST_ID.fullmatch(value) else None
    return None


def _printable(path: str) -> str:
    """A path cannot forge a second line in the log."""
    return path if path.isprintable() else ascii(path)


async def _send_json(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
