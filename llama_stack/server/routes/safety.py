"""Shields: /v1/shields, /v1/safety/run-shield and /v1/moderations."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.common import Caller
from llama_stack.api.resources import Shield
from llama_stack.api.stack import ServedStack
from llama_stack.errors import NotFound
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.safety_schema import Moderation, ShieldAnswer, ShieldList, ShieldRemoved, ShieldRun
from llama_stack.server.side_by_side import gather_results
from llama_stack.wire.classic.safety import (
    RegisterShieldBody,
    RunShieldBody,
    decode_run_shield,
    decode_shield,
    encode_shield,
    encode_verdict,
)
from llama_stack.wire.openai_moderations import ModerationBody, decode_moderation, encode_moderation
from llama_stack.wire.validation import naming


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("safety", ClassicRoute)
    _add_shields(router, stack, options)

    @router.post("/v1/safety/run-shield", summary="Judge messages", **describe(body=RunShieldBody, answer=ShieldRun))
    async def run_shield(request: Request) -> Response:
        shield_id, messages, params = decode_run_shield(await read_json(request, options))
        async with stops_with_its_client(request):
            verdict = await stack.safety.run_shield(shield_id, messages, caller_of(request), params)
        return json_response(encode_verdict(verdict))

    return router


def moderation_routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("safety")

    @router.post(
        "/v1/moderations",
        summary="Judge texts and images (OpenAI)",
        **describe(body=ModerationBody, answer=Moderation),
    )
    async def create_moderation(request: Request) -> Response:
        judged, named = decode_moderation(await read_json(request, options))
        caller = caller_of(request)
        shield_id = await _moderating_shield(stack, named, caller)
        async with stops_with_its_client(request):
            verdicts = await gather_results(
                [stack.safety.run_shield(shield_id, [message], caller) for message in judged]
            )
        return json_response(encode_moderation(verdicts, judged, shield_id))

    return router


async def _moderating_shield(stack: ServedStack, named: str | None, caller: Caller) -> str:
    """The shield that the request calls its model, or the first one there is."""
    if named is not None:
        try:
            return (await stack.registry.resource(Shield, named, caller)).identifier
        except NotFound as error:
            raise NotFound(error.message, param="model", code=error.code) from None
    shields = await stack.registry.resources(Shield, caller)
    if not shields:
        raise NotFound(
            "this stack has no shield that could judge; list one under providers.safety", code="shield_not_found"
        )
    return shields[0].identifier


def _add_shields(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.get("/v1/shields", summary="List the shields", **describe(answer=ShieldList))
    async def list_shields(request: Request) -> Response:
        shields = await stack.registry.resources(Shield, caller_of(request))
        return json_response({"data": [encode_shield(shield) for shield in shields]})

    @router.post("/v1/shields", summary="Register a shield", **describe(body=RegisterShieldBody, answer=ShieldAnswer))
    async def register_shield(request: Request) -> Response:
        shield = decode_shield(await read_json(request, options))
        with naming(provider_resource_id="provider_shield_id", identifier="shield_id"):
            registered = await stack.registry.register(shield, caller_of(request))
        return json_response(encode_shield(registered))

    # Identifiers hold slashes, and clients send them unescaped: the rest of the path is the identifier.
    @router.get("/v1/shields/{identifier:path}", summary="One shield", **describe(answer=ShieldAnswer))
    async def get_shield(request: Request, identifier: str) -> Response:
        return json_response(encode_shield(await stack.registry.resource(Shield, identifier, caller_of(request))))

    @router.delete("/v1/shields/{identifier:path}", summary="Remove a shield", **describe(answer=ShieldRemoved))
    async def unregister_shield(request: Request, identifier: str) -> Response:
        await stack.registry.unregister(Shield, identifier, caller_of(request))
        return json_response({"identifier": identifier, "deleted": True})
