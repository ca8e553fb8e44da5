"""The limit: the least a server between a caller and an upstream can do, as two apps over one aiohttp client.

    UPSTREAM_URL=http://127.0.0.1:9900 uvicorn --factory benchmarks.passthrough:bare --loop uvloop --http httptools

`bare`   Starlette, bytes in and bytes out; the body is parsed once, to see whether a stream is wanted.
`typed`  FastAPI with a Pydantic body; the upstream's JSON is parsed and written again by the framework.

Neither translates, routes, limits or reports an error: what a real server costs above them is the price of those.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_MODELS = {"object": "list", "data": [{"id": "mock", "object": "model"}]}
_JSON = {"content-type": "application/json"}


class Upstream:
    """The client of the upstream, open while the app lives."""

    session: aiohttp.ClientSession

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(os.environ["UPSTREAM_URL"], connector=connector) as self.session:
            yield

    async def whole(self, path: str, body: bytes) -> tuple[int, bytes]:
        async with self.session.post(path, data=body, headers=_JSON) as answer:
            return answer.status, await answer.read()

    async def stream(self, path: str, body: bytes) -> AsyncIterator[bytes]:
        async with self.session.post(path, data=body, headers=_JSON) as answer:
            async for part in answer.content.iter_any():
                yield part


def bare() -> Starlette:
    upstream = Upstream()

    async def forward(request: Request) -> Response:
        body = await request.body()
        if orjson.loads(body).get("stream"):
            return StreamingResponse(upstream.stream(request.url.path, body), media_type="text/event-stream")
        status, answer = await upstream.whole(request.url.path, body)
        return Response(answer, status, media_type="application/json")

    async def models(request: Request) -> Response:
        return Response(orjson.dumps(_MODELS), media_type="application/json")

    paths = ("/v1/chat/completions", "/v1/embeddings")
    routes = [Route("/v1/models", models), *(Route(path, forward, methods=["POST"]) for path in paths)]
    return Starlette(routes=routes, lifespan=upstream.lifespan)


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: str
    content: str


class _ChatBody(_Body):
    messages: list[_Message]
    stream: bool = False


class _EmbeddingsBody(_Body):
    input: str | list[str]


def typed() -> FastAPI:
    upstream = Upstream()
    app = FastAPI(lifespan=upstream.lifespan)

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: _ChatBody) -> Response | dict[str, Any]:
        forwarded = body.model_dump_json(exclude_unset=True).encode()
        if body.stream:
            parts = upstream.stream("/v1/chat/completions", forwarded)
            return StreamingResponse(parts, media_type="text/event-stream")
        _, answer = await upstream.whole("/v1/chat/completions", forwarded)
        return orjson.loads(answer)  # type: ignore[no-any-return]  # JSON enters here

    @app.post("/v1/embeddings")
    async def embeddings(body: _EmbeddingsBody) -> dict[str, Any]:
        _, answer = await upstream.whole("/v1/embeddings", body.model_dump_json(exclude_unset=True).encode())
        return orjson.loads(answer)  # type: ignore[no-any-return]  # JSON enters here

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return _MODELS

    return app
