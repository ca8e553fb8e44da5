"""The agents' service of a stack at the other end of a connection."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote, urlencode

from llama_stack.api.agents import (
    AgentConfig,
    AgentEvent,
    AgentRecord,
    ApprovalDecision,
    Session,
    ToolOutcome,
    Turn,
    TurnSettings,
)
from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.memory import Document
from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.client.exchange import Exchange
from llama_stack.wire.words import MEDIA_TYPE, read_event, read_word

TOOL_TIMEOUT_S = 600.0
"""Least patience with a turn: while a tool runs, nothing comes."""


class RemoteAgents:
    """Fulfils `api.agents.Agents` over /v1/agents, in the framework's own words."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange.asking_for(MEDIA_TYPE)

    async def create_agent(self, config: AgentConfig, caller: Caller) -> AgentRecord:
        return read_word(AgentRecord, await self._exchange.post("v1/agents", _json(config), caller))

    async def agent(self, agent_id: str, caller: Caller) -> AgentRecord:
        return read_word(AgentRecord, await self._exchange.get(_path(agent_id), caller))

    async def list_agents(self, caller: Caller, *, limit: int = 100, after: str | None = None) -> Page[AgentRecord]:
        listed = await self._exchange.get(f"v1/agents?{_query(limit=limit, after=after)}", caller)
        return read_word(Page[AgentRecord], listed)

    async def update_agent(self, agent_id: str, config: AgentConfig, caller: Caller) -> AgentRecord:
        return read_word(AgentRecord, await self._exchange.put(_path(agent_id), _json(config), caller))

    async def delete_agent(self, agent_id: str, caller: Caller) -> None:
        await self._exchange.delete(_path(agent_id), caller)

    async def create_session(self, agent_id: str, name: str, caller: Caller) -> Session:
        return read_word(Session, await self._exchange.post(_path(agent_id, "session"), {"name": name}, caller))

    async def session(self, agent_id: str, session_id: str, caller: Caller) -> Session:
        return read_word(Session, await self._exchange.get(_path(agent_id, "session", session_id), caller))

    async def list_sessions(
        self, agent_id: str, caller: Caller, *, limit: int = 100, after: str | None = None, name: str | None = None
    ) -> Page[Session]:
        query = _query(limit=limit, after=after, name=name)
        return read_word(Page[Session], await self._exchange.get(f"{_path(agent_id, 'sessions')}?{query}", caller))

    async def delete_session(self, agent_id: str, session_id: str, caller: Caller) -> None:
        await self._exchange.delete(_path(agent_id, "session", session_id), caller)

    async def turn(self, agent_id: str, session_id: str, turn_id: str, caller: Caller) -> Turn:
        return read_word(
            Turn, await self._exchange.get(_path(agent_id, "session", session_id, "turn", turn_id), caller)
        )

    def create_turn(
        self,
        agent_id: str,
        session_id: str,
        messages: list[UserMessage | ToolMessage],
        caller: Caller,
        *,
        settings: TurnSettings | None = None,
        turn_id: str | None = None,
        documents: list[Document] | None = None,
    ) -> AsyncGenerator[AgentEvent, None]:
        body: JsonObject = {"messages": [_json(message) for message in messages]}
        if documents:
            body["documents"] = [_json(document) for document in documents]
        if settings is not None:
            body["settings"] = _json(settings)
        if turn_id is not None:
            body["turn_id"] = turn_id
        return self._events(_path(agent_id, "session", session_id, "turn"), body, caller)

    def resume_turn(
        self,
        agent_id: str,
        session_id: str,
        turn_id: str,
        caller: Caller,
        *,
        results: list[ToolMessage] | None = None,
        decisions: list[ApprovalDecision] | None = None,
        outcomes: list[ToolOutcome] | None = None,
    ) -> AsyncGenerator[AgentEvent, None]:
        body: JsonObject = {
            "results": [_json(result) for result in results or ()],
            "decisions": [_json(decision) for decision in decisions or ()],
            "outcomes": [_json(outcome) for outcome in outcomes or ()],
        }
        return self._events(_path(agent_id, "session", session_id, "turn", turn_id, "resume"), body, caller)

    async def _events(self, path: str, body: JsonObject, caller: Caller) -> AsyncGenerator[AgentEvent, None]:
        async with aclosing(self._exchange.stream(path, body, caller, patience_s=TOOL_TIMEOUT_S)) as frames:
            async for frame in frames:
                yield read_event(frame)


def _json(word: Any) -> JsonObject:
    value: JsonObject = word.model_dump(mode="json")
    return value


def _path(*parts: str) -> str:
    return "/".join(("v1/agents", *(quote(part, safe="") for part in parts)))


def _query(**parameters: str | int | None) -> str:
    return urlencode({name: value for name, value in parameters.items() if value is not None})
