"""/v1/agents in the framework's own words, for clients that ask for them in their Accept header.

The classic routes have the same paths and the same agents, sessions and turns; their shapes have no place for budgets,
approvals, shields on tools and more.
"""

from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from llama_stack.api.agents import AgentConfig, AgentEvent, AgentRecord
from llama_stack.api.stack import ServedStack
from llama_stack.errors import InvalidRequest
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRoute, PlainRouter
from llama_stack.server.streaming import EventStream
from llama_stack.wire.words import MEDIA_TYPE, ResumeBody, SessionBody, TurnBody, decode_word, event_frame

MAX_PAGE = 1000


class WordsRoute(PlainRoute):
    """A path that another dialect has, too, and describes; this one answers only who asked for the words."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if self.include_in_schema:
            return super().matches(scope)
        if scope["type"] == "http" and MEDIA_TYPE.encode() in dict(scope["headers"]).get(b"accept", b""):
            return super().matches(scope)
        return Match.NONE, {}


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("agents", WordsRoute)
    _add_agents(router, stack, options)
    _add_sessions(router, stack, options)
    _add_turns(router, stack, options)
    return router


def _add_agents(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.post("/v1/agents", include_in_schema=False)
    async def create_agent(request: Request) -> Response:
        config = decode_word(AgentConfig, await read_json(request, options))
        return _word(await (await stack.agents()).create_agent(config, caller_of(request)))

    @router.get("/v1/agents", include_in_schema=False)
    async def list_agents(request: Request) -> Response:
        return _word(await (await stack.agents()).list_agents(caller_of(request), **_window(request)))

    @router.get("/v1/agents/{agent_id}", include_in_schema=False)
    async def get_agent(request: Request, agent_id: str) -> Response:
        return _word(await (await stack.agents()).agent(agent_id, caller_of(request)))

    @router.put(
        "/v1/agents/{agent_id}",
        summary="Change what an agent is",
        **describe(body=AgentConfig, answer=AgentRecord),
    )
    async def update_agent(request: Request, agent_id: str) -> Response:
        config = decode_word(AgentConfig, await read_json(request, options))
        return _word(await (await stack.agents()).update_agent(agent_id, config, caller_of(request)))

    @router.delete("/v1/agents/{agent_id}", include_in_schema=False)
    async def delete_agent(request: Request, agent_id: str) -> Response:
        await (await stack.agents()).delete_agent(agent_id, caller_of(request))
        return Response(b"null", media_type=MEDIA_TYPE)


def _add_sessions(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.post("/v1/agents/{agent_id}/session", include_in_schema=False)
    async def create_session(request: Request, agent_id: str) -> Response:
        body = decode_word(SessionBody, await read_json(request, options))
        return _word(await (await stack.agents()).create_session(agent_id, body.name, caller_of(request)))

    @router.get("/v1/agents/{agent_id}/sessions", include_in_schema=False)
    async def list_sessions(request: Request, agent_id: str) -> Response:
        agents = await stack.agents()
        name = request.query_params.get("name")
        return _word(await agents.list_sessions(agent_id, caller_of(request), name=name, **_window(request)))

    @router.get("/v1/agents/{agent_id}/session/{session_id}", include_in_schema=False)
    async def get_session(request: Request, agent_id: str, session_id: str) -> Response:
        return _word(await (await stack.agents()).session(agent_id, session_id, caller_of(request)))

    @router.delete("/v1/agents/{agent_id}/session/{session_id}", include_in_schema=False)
    async def delete_session(request: Request, agent_id: str, session_id: str) -> Response:
        await (await stack.agents()).delete_session(agent_id, session_id, caller_of(request))
        return Response(b"null", media_type=MEDIA_TYPE)


def _add_turns(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.post("/v1/agents/{agent_id}/session/{session_id}/turn", include_in_schema=False)
    async def create_turn(request: Request, agent_id: str, session_id: str) -> Response:
        body = decode_word(TurnBody, await read_json(request, options))
        events = (await stack.agents()).create_turn(
            agent_id,
            session_id,
            body.messages,
            caller_of(request),
            settings=body.settings,
            turn_id=body.turn_id,
            documents=body.documents,
        )
        return EventStream[AgentEvent](events, event_frame)

    @router.get("/v1/agents/{agent_id}/session/{session_id}/turn/{turn_id}", include_in_schema=False)
    async def get_turn(request: Request, agent_id: str, session_id: str, turn_id: str) -> Response:
        return _word(await (await stack.agents()).turn(agent_id, session_id, turn_id, caller_of(request)))

    @router.post("/v1/agents/{agent_id}/session/{session_id}/turn/{turn_id}/resume", include_in_schema=False)
    async def resume_turn(request: Request, agent_id: str, session_id: str, turn_id: str) -> Response:
        body = decode_word(ResumeBody, await read_json(request, options))
        events = (await stack.agents()).resume_turn(
            agent_id,
            session_id,
            turn_id,
            caller_of(request),
            results=body.results,
            decisions=body.decisions,
            outcomes=body.outcomes,
        )
        return EventStream[AgentEvent](events, event_frame)


def _word(word: BaseModel) -> Response:
    return Response(word.model_dump_json(), media_type=MEDIA_TYPE)


def _window(request: Request) -> dict[str, Any]:
    """Which part of a list is asked for."""
    asked = request.query_params.get("limit", "100")
    if not asked.isdecimal() or not 1 <= int(asked) <= MAX_PAGE:
        raise InvalidRequest(f"limit: must be a number from 1 to {MAX_PAGE}, not {asked!r}", param="limit")
    return {"limit": int(asked), "after": request.query_params.get("after")}
