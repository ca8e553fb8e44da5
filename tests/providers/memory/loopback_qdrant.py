"""A Qdrant server on loopback: its REST interface (api.qdrant.tech) over the engine of qdrant-client's local mode.

Requests are read by the models that Qdrant generates from its own OpenAPI document, which refuse unknown fields;
filters and searches are carried out by Qdrant's own code. `faults` are taken from the front, one a request: a status to
answer with, or "drop" to close the connection without an answer.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from llama_stack.errors import InvalidRequest, NotFound
from llama_stack_providers._qdrant.local import LocalDoor, open_local

WRITES = ("index", "points", "points/payload", "points/payload/delete", "points/delete")


@dataclass
class LoopbackQdrant:
    """url: of the REST interface. asked: method and path of every request. keys: the `api-key` headers that came."""

    url: str = ""
    api_key: str | None = None
    faults: deque[int | str] = field(default_factory=deque)
    fault_at: tuple[str, str] | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    def strikes(self, method: str, rest: str) -> int | str | None:
        if not self.faults or (self.fault_at is not None and self.fault_at != (method, rest)):
            return None
        return self.faults.popleft()


def _answer(http_status: int, **body: Any) -> web.Response:
    return web.Response(status=http_status, body=orjson.dumps({"time": 0.001, **body}), content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return _answer(status, status={"error": message})


def _application(server: LoopbackQdrant, door: LocalDoor) -> web.Application:
    async def handle(request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/")
        rest = path.removeprefix("collections").removeprefix("/").partition("/")[2]
        server.asked.append((request.method, rest))
        if server.api_key is not None and request.headers.get("api-key") != server.api_key:
            return web.Response(status=401, text="Must provide an API key or an Authorization bearer token")
        fault = server.strikes(request.method, rest)
        if fault == "drop":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(fault, int):
            return _error(fault, f"told to fail with {fault}")
        if path == "collections":
            return _answer(200, status="ok", result={"collections": []})
        if request.method in ("PUT", "POST") and rest in WRITES and request.query.get("wait") != "true":
            return _error(400, "a write that is not waited for may be missed by the next search")
        body = orjson.loads(await request.read() or b"null")
        try:
            result = await door.ask(request.method, path, body)
        except NotFound:
            return _error(404, f"Not found: Collection `{path.split('/')[1]}` doesn't exist!")
        except InvalidRequest as error:
            return _error(400, error.message)
        return _answer(200, status="ok", result=result)

    application = web.Application(client_max_size=32 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", handle)
    return application


@asynccontextmanager
async def open_loopback_qdrant(folder: Path, api_key: str | None = None) -> AsyncIterator[LoopbackQdrant]:
    server = LoopbackQdrant(api_key=api_key)
    async with open_local(folder) as door:
        runner = web.AppRunner(_application(server, door), shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield server
        finally:
            await runner.cleanup()
