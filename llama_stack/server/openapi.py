"""The OpenAPI document.

Routes read their bodies themselves, so each says with `describe` what goes in and what comes out; `openapi_document`
puts the schemas of the bodies beside those FastAPI collects for the answers.
"""

import asyncio
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llama_stack import __version__
from llama_stack.api.common import JsonObject
from llama_stack.server.answers import json_response
from llama_stack.server.plain import PlainRoute
from llama_stack.server.schema import ErrorAnswer

_DESCRIPTION = "One interface for applications built on Llama models. The OpenAI routes keep OpenAI's wire shape."
_REF = "#/components/schemas/{model}"

_described: dict[str, type[BaseModel]] = {}
"""Models named by `describe` that FastAPI does not see; they belong to the code, not to one application."""


def describe(
    *,
    answer: type[BaseModel],
    body: type[BaseModel] | None = None,
    chunk: type[BaseModel] | None = None,
    failure: type[BaseModel] = ErrorAnswer,
) -> dict[str, Any]:
    """Keyword arguments for a route. chunk: one frame of the answer when it is streamed."""
    content = {"text/event-stream": {"itemSchema": _reference(chunk)}} if chunk is not None else {}
    extra: JsonObject = {}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": _reference(body)}}}
    return {
        "responses": {
            200: {"model": answer, "description": "The answer", "content": content},
            "4XX": {"model": failure, "description": "The request cannot be served as it is"},
            "5XX": {"model": failure, "description": "A provider, or the server itself, failed"},
        },
        "openapi_extra": extra,
    }


def _reference(model: type[BaseModel]) -> JsonObject:
    if _described.setdefault(model.__name__, model) is not model:
        raise TypeError(f"two described models are called {model.__name__}")
    return {"$ref": _REF.format(model=model.__name__)}


def openapi_document(app: Starlette) -> JsonObject:
    from fastapi.openapi.utils import get_openapi
    from fastapi.routing import APIRoute

    routes = [
        APIRoute(route.path, route.endpoint, methods=route.methods, tags=[route.tag], **route.settings)
        for route in app.routes
        if isinstance(route, PlainRoute) and route.include_in_schema
    ]
    document = get_openapi(title="Llama Stack", version=__version__, description=_DESCRIPTION, routes=routes)
    _, definitions = models_json_schema([(model, "validation") for model in _described.values()], ref_template=_REF)
    document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    return document


def openapi_route(app: Starlette) -> Route:
    """Answers with the document, which is made at the first request for it and kept.

    Making it takes half a second, and loading FastAPI as long again; other requests do not wait for that.
    """
    making = asyncio.Lock()
    made: list[JsonObject] = []

    async def get_document(request: Request) -> Response:
        async with making:
            if not made:
                made.append(await asyncio.to_thread(openapi_document, app))
        prefix = request.scope.get("root_path", "").rstrip("/")
        return json_response({**made[0], "servers": [{"url": prefix}]} if prefix else made[0])

    return Route("/openapi.json", get_document, include_in_schema=False)
