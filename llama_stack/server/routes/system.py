"""What the server says about itself: health, version, providers, routes."""

from difflib import get_close_matches

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from llama_stack import __version__
from llama_stack.api.common import JsonObject
from llama_stack.api.stack import ProviderState, Stack
from llama_stack.errors import NotFound
from llama_stack.server.answers import json_response
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import is_classic_client
from llama_stack.server.openapi import describe
from llama_stack.server.plain import PlainRoute, PlainRouter
from llama_stack.server.schema import HealthAnswer, Provider, ProviderList, RouteList, VersionAnswer


def routes(stack: Stack, app: Starlette) -> PlainRouter:
    router = PlainRouter("system")

    @router.get("/v1/health", summary="Whether the server answers", **describe(answer=HealthAnswer))
    async def health(request: Request) -> Response:
        """The process serves; how each backend does is told by /v1/providers."""
        return json_response({"status": "OK"})

    @router.get("/v1/version", summary="The server's version", **describe(answer=VersionAnswer))
    async def version(request: Request) -> Response:
        return json_response({"version": __version__})

    @router.get("/v1/providers", summary="The providers and how they do", **describe(answer=ProviderList))
    async def list_providers(request: Request) -> Response:
        states = await stack.providers(caller_of(request))
        return json_response({"data": [_encode(state, request) for state in states]})

    @router.get("/v1/providers/{provider_id}", summary="One provider", **describe(answer=Provider))
    async def get_provider(request: Request, provider_id: str) -> Response:
        states = await stack.providers(caller_of(request))
        for state in states:
            if state.provider_id == provider_id:
                return json_response(_encode(state, request))
        names = [state.provider_id for state in states]
        nearest = get_close_matches(provider_id, names, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(names)}"
        raise NotFound(f"there is no provider {provider_id!r}; {hint}", code="provider_not_found")

    @router.get("/v1/inspect/routes", summary="Every path and method", **describe(answer=RouteList))
    async def list_routes(request: Request) -> Response:
        states = await stack.providers(caller_of(request))
        found = [
            {"route": route.path, "method": method, "provider_types": _types_behind(route, states)}
            for route in app.routes
            if isinstance(route, PlainRoute) and route.include_in_schema
            for method in sorted(route.methods)
        ]
        return json_response({"data": found})

    return router


_API_BEHIND = {
    "chat": "inference",
    "completions": "inference",
    "embeddings": "inference",
    "models": "inference",
    "classic inference": "inference",
    "anthropic": "inference",
    "safety": "safety",
    "classic memory": "memory",
    "memory": "memory",
    "classic tools": "tools",
}
"""Tag of a route -> the providers that answer it, where they are of one API."""


def _types_behind(route: PlainRoute, states: list[ProviderState]) -> list[str]:
    api = _API_BEHIND.get(route.tag)
    return sorted({state.provider_type for state in states if state.api == api})


_CLASSIC_API = {"memory": "vector_io", "tools": "tool_runtime"}
"""Programs of the classic client look for a provider of vector databases by this name."""


def _encode(state: ProviderState, request: Request) -> JsonObject:
    names = _CLASSIC_API if is_classic_client(request) else {}
    return {
        "api": names.get(state.api, state.api),
        "provider_id": state.provider_id,
        "provider_type": state.provider_type,
        "config": state.config,
        "health": state.health.model_dump(mode="json", exclude_none=True),
    }
