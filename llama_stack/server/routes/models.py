"""/v1/models: list, read, register, remove."""

import time

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api import resources
from llama_stack.api.stack import ServedStack
from llama_stack.server.answers import json_response
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.schema import Model, ModelList, ModelRemoved
from llama_stack.wire.classic.resources import RegisterModelBody, decode_model
from llama_stack.wire.openai_models import encode_model, encode_models


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("models", ClassicRoute)

    @router.get("/v1/models", summary="List the models", **describe(answer=ModelList))
    async def list_models(request: Request) -> Response:
        return json_response(encode_models(await stack.list_models(caller_of(request))))

    @router.post("/v1/models", summary="Register a model", **describe(body=RegisterModelBody, answer=Model))
    async def register_model(request: Request) -> Response:
        model = decode_model(await read_json(request, options), created=int(time.time()))
        return json_response(encode_model(await stack.registry.register(model, caller_of(request))))

    # Identifiers hold slashes, and clients send them unescaped: the rest of the path is the identifier.
    @router.get("/v1/models/{identifier:path}", summary="One model", **describe(answer=Model))
    async def get_model(request: Request, identifier: str) -> Response:
        return json_response(encode_model(await stack.model(identifier, caller_of(request))))

    @router.delete("/v1/models/{identifier:path}", summary="Remove a model", **describe(answer=ModelRemoved))
    async def unregister_model(request: Request, identifier: str) -> Response:
        await stack.registry.unregister(resources.Model, identifier, caller_of(request))
        return json_response({"id": identifier, "object": "model", "deleted": True, "identifier": identifier})

    return router
