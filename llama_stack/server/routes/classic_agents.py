"""Agents and their sessions in the classic shape: /v1/agents/... Turns are in `classic_turns`."""

from starlette.requests import Request
from starlette.responses import Response

from llama_stack.api.agents import AgentConfig, AgentRecord, Session
from llama_stack.api.common import Caller, Page
from llama_stack.api.stack import ServedStack
from llama_stack.api.tools import ToolDefinition
from llama_stack.server.answers import json_response
from llama_stack.server.bodies import read_json
from llama_stack.server.callers import caller_of
from llama_stack.server.classic import ClassicRoute
from llama_stack.server.classic_agent_schema import (
    ClassicAgent,
    ClassicAgentCreated,
    ClassicAgentList,
    ClassicSession,
    ClassicSessionCreated,
    ClassicSessionList,
)
from llama_stack.server.classic_queries import asked_turn_ids, asked_window, config_of_team, whole_session_id, window_of
from llama_stack.server.classic_schema import Removed
from llama_stack.server.openapi import describe
from llama_stack.server.options import ServerOptions
from llama_stack.server.plain import PlainRouter
from llama_stack.wire.classic.agents import ClassicAgentBody, decode_agent_config, encode_agent
from llama_stack.wire.classic.body import parse_body
from llama_stack.wire.classic.steps import encode_session, encode_session_head
from llama_stack.wire.classic.tools import fills_definitions_in, with_function_definitions
from llama_stack.wire.classic.turns import ClassicSessionBody
from llama_stack.wire.validation import naming

_CLASSIC_FIELDS = {
    "tool_groups": "agent_config.toolgroups",
    "tool_group_id": "agent_config.toolgroups",
    "memory_bank_id": "agent_config.memory_banks",
    "client_tools": "agent_config.client_tools",
    "tool_choice": "agent_config.tool_config.tool_choice",
}


def routes(stack: ServedStack, options: ServerOptions) -> PlainRouter:
    router = PlainRouter("classic agents", ClassicRoute)
    _add_agents(router, stack, options)
    _add_sessions(router, stack, options)
    return router


def _add_agents(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.post(
        "/v1/agents",
        summary="Create an agent",
        **describe(body=ClassicAgentBody, answer=ClassicAgentCreated),
    )
    async def create_agent(request: Request) -> Response:
        config = decode_agent_config(await read_json(request, options))
        caller = caller_of(request)
        agents = await stack.agents()
        with naming(**_CLASSIC_FIELDS):
            if fills_definitions_in(config.instructions):
                config.instructions = await _filled(stack, config, caller)
            record = await agents.create_agent(config, caller)
        return json_response({"agent_id": record.agent_id})

    @router.get("/v1/agents", summary="List the agents", **describe(answer=ClassicAgentList))
    async def list_agents(request: Request) -> Response:
        caller = caller_of(request)
        agents = await stack.agents()

        async def page(limit: int, after: str | None) -> Page[AgentRecord]:
            return await agents.list_agents(caller, limit=limit, after=after)

        records, has_more = await window_of(page, *asked_window(request))
        return json_response({"data": [encode_agent(record) for record in records], "has_more": has_more, "url": None})

    @router.get("/v1/agents/{agent_id}", summary="One agent", **describe(answer=ClassicAgent))
    async def get_agent(request: Request, agent_id: str) -> Response:
        agents = await stack.agents()
        return json_response(encode_agent(await agents.agent(agent_id, caller_of(request))))

    @router.delete("/v1/agents/{agent_id}", summary="Delete an agent and its sessions", **describe(answer=Removed))
    async def delete_agent(request: Request, agent_id: str) -> Response:
        agents = await stack.agents()
        await agents.delete_agent(agent_id, caller_of(request))
        return json_response({"identifier": agent_id, "deleted": True})


async def _filled(stack: ServedStack, config: AgentConfig, caller: Caller) -> str:
    """The instructions with the definitions of every tool that the agent has now."""
    listed: list[ToolDefinition] = []
    for use in config.tool_groups:
        offered = await stack.tools.list_tools(await stack.tools.group(use, caller), caller)
        listed.extend(tool for tool in offered if use.tools is None or tool.name in use.tools)
    return with_function_definitions(config.instructions, [*listed, *config.client_tools])


def _add_sessions(router: PlainRouter, stack: ServedStack, options: ServerOptions) -> None:
    @router.post(
        "/v1/agents/{agent_id}/session",
        summary="Begin a conversation with an agent",
        **describe(body=ClassicSessionBody, answer=ClassicSessionCreated),
    )
    async def create_session(request: Request, agent_id: str) -> Response:
        wanted = parse_body(ClassicSessionBody, await read_json(request, options))
        agents = await stack.agents()
        with naming(name="session_name"):
            session = await agents.create_session(agent_id, wanted.session_name, caller_of(request))
        return json_response({"session_id": session.session_id})

    @router.get("/v1/agents/{agent_id}/sessions", summary="List sessions", **describe(answer=ClassicSessionList))
    async def list_sessions(request: Request, agent_id: str) -> Response:
        caller = caller_of(request)
        agents = await stack.agents()

        async def page(limit: int, after: str | None) -> Page[Session]:
            return await agents.list_sessions(agent_id, caller, limit=limit, after=after)

        sessions, has_more = await window_of(page, *asked_window(request))
        heads = [{**encode_session_head(session), "turns": []} for session in sessions]
        return json_response({"data": heads, "has_more": has_more, "url": None})

    @router.get(
        "/v1/agents/{agent_id}/session/{session_id}",
        summary="One session with its turns",
        **describe(answer=ClassicSession),
    )
    async def get_session(request: Request, agent_id: str, session_id: str) -> Response:
        caller = caller_of(request)
        agents = await stack.agents()
        session_id = await whole_session_id(agents, agent_id, session_id, caller)
        config = await config_of_team(agents, agent_id, caller)
        session = await agents.session(agent_id, session_id, caller)
        return json_response(encode_session(session, config, asked_turn_ids(request)))

    @router.delete("/v1/agents/{agent_id}/session/{session_id}", summary="Delete a session", **describe(answer=Removed))
    async def delete_session(request: Request, agent_id: str, session_id: str) -> Response:
        # Not by its last character: what is deleted should be named.
        agents = await stack.agents()
        await agents.delete_session(agent_id, session_id, caller_of(request))
        return json_response({"identifier": session_id, "deleted": True})
