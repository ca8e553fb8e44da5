"""Turns of the classic agents: begun, gone on with, and read."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.agents import AgentEvent
from llama_stack.api.stack import ServedStack
from llama_stack.errors import NotFound
from llama_stack.server.answers import json_response, stops_with_its_client
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute, OnceRoute
from llama_stack.server.classic_agent_schema import ClassicStepAnswer, ClassicTurn, ClassicTurnFrame
from llama_stack.server.classic_conversation import Conversation, Run
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.server.streaming import EventStream
from llama_stack.wire.classic.body import parse_body
from llama_stack.wire.classic.turns import ClassicResumeBody, ClassicTurnBody

_SESSION = "/v1/agents/{agent_id}/session/{session_id}"


def run_routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    """What runs a turn; a client that repeats such a request would run it twice."""
    router = PlainRouter("classic agents", OnceRoute)

    @router.post(
        f"{_SESSION}/turn",
        summary="Begin a turn",
        **describe(body=ClassicTurnBody, answer=ClassicTurn, chunk=ClassicTurnFrame),
    )
    async def create_turn(request: Request, agent_id: str, session_id: str) -> Response:
        body = parse_body(ClassicTurnBody, await read_json(request, options))
        conversation = await Conversation.found(stack, agent_id, session_id, caller_of(request))
        return await _told(await conversation.begun(body), request, stream=bool(body.stream))

    @router.post(
        f"{_SESSION}/turn/{{turn_id}}/resume",
        summary="Go on with a turn that waits for its caller",
        **describe(body=ClassicResumeBody, answer=ClassicTurn, chunk=ClassicTurnFrame),
    )
    async def resume_turn(request: Request, agent_id: str, session_id: str, turn_id: str) -> Response:
        body = parse_body(ClassicResumeBody, await read_json(request, options))
        conversation = await Conversation.found(stack, agent_id, session_id, caller_of(request))
        return await _told(await conversation.resumed(turn_id, body), request, stream=bool(body.stream))

    return router


async def _told(run: Run, request: Request, *, stream: bool) -> Response:
    if stream:
        return EventStream[AgentEvent](run.events, run.encoder.encode)
    async with stops_with_its_client(request):
        return json_response(await run.whole())


def routes(stack: ServedStack) -> PlainRouter:
    router = PlainRouter("classic agents", ClassicRoute)

    @router.get(f"{_SESSION}/turn/{{turn_id}}", summary="One turn", **describe(answer=ClassicTurn))
    async def get_turn(request: Request, agent_id: str, session_id: str, turn_id: str) -> Response:
        conversation = await Conversation.found(stack, agent_id, session_id, caller_of(request))
        return json_response(await conversation.shown_turn(turn_id))

    @router.get(
        f"{_SESSION}/turn/{{turn_id}}/step/{{step_id}}", summary="One step", **describe(answer=ClassicStepAnswer)
    )
    async def get_step(request: Request, agent_id: str, session_id: str, turn_id: str, step_id: str) -> Response:
        conversation = await Conversation.found(stack, agent_id, session_id, caller_of(request))
        turn = await conversation.shown_turn(turn_id)
        for step in turn["steps"]:
            if step["step_id"] == step_id:
                return json_response({"step": step})
        raise NotFound(f"turn {turn_id!r} has no step {step_id!r}", param="step_id")

    return router
