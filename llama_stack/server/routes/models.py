"""GET /v1/models and GET /v1/models/{id}."""

from fastapi import APIRouter, Request, Response

from llama_stack.api.stack import Stack
from llama_stack.server.answers import json_response
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.plain import PlainRoute
from llama_stack.server.schema import Model, ModelList
from llama_stack.wire.openai_models import encode_model, encode_models


def routes(stack: Stack) -> APIRouter:
    router = APIRouter(tags=["models"], route_class=PlainRoute)

    @router.get("/v1/models", summary="List the models", **describe(answer=ModelList))
    async def list_models(request: Request) -> Response:
        return json_response(encode_models(await stack.list_models(caller_of(request))))

    # Identifiers hold slashes, and clients send them unescaped: the rest of the path is the identifier.
    @router.get("/v1/models/{identifier:path}", summary="One model", **describe(answer=Model))
    async def get_model(request: Request, identifier: str) -> Response:
        return json_response(encode_model(await stack.model(identifier, caller_of(request))))

    return router
