"""An agent and its sessions as a stack keeps them: found again by name, or made where there are none."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_stack.agents.opening import Member, transfers_of
from llama_stack.agents.service import AgentService
from llama_stack.agents.tools import Tool
from llama_stack.api.agents import AgentConfig, AgentRecord, Agents, Session
from llama_stack.api.common import Caller
from llama_stack.errors import NotFound, UnsupportedParameter
from llama_stack.sdk.conversations import Conversation, StoredConversation
from llama_stack.sdk.own_calls import ConnectedConversation

UNNAMED = "unnamed"


@dataclass(frozen=True)
class Keeper:
    """One agent in the store.

    functions: those of its tools that run in this process. A service in this process runs them in its turns; one far
    away is told of them as the caller's own tools, and pauses for each.
    """

    agents: Agents
    record: AgentRecord
    functions: Sequence[Tool]
    caller: Caller

    @classmethod
    async def of(cls, agents: Agents, me: Member, team: Sequence[Member], caller: Caller) -> "Keeper":
        """Raises what creating an agent raises, and UnsupportedParameter for hand-offs between processes."""
        functions = [*me.own_tools, *transfers_of(me, team)]
        if isinstance(agents, AgentService):
            record = await _kept(agents, me.config, caller)
            return cls(agents.with_own(functions, team), record, functions, caller)
        if team:
            raise UnsupportedParameter(
                "handoffs: the other agents live in this process and the session far away; use agent.session(), or "
                "give the others as tools: other.as_tool()",
                param="handoffs",
            )
        named = [*me.config.client_tools, *(tool.definition for tool in functions)]
        config = me.config.model_copy(update={"client_tools": named})
        return cls(agents, await _kept(agents, config, caller), functions, caller)

    async def conversation(self, name: str | None, session_id: str | None) -> Conversation:
        session = await self._session(name, session_id)
        if isinstance(self.agents, AgentService):
            return StoredConversation(self.agents, session, self.caller)
        return ConnectedConversation(StoredConversation(self.agents, session, self.caller), self.functions, self.caller)

    async def _session(self, name: str | None, session_id: str | None) -> Session:
        agent_id = self.record.agent_id
        if session_id is not None:
            try:
                return await self.agents.session(agent_id, session_id, self.caller)
            except NotFound as error:
                raise NotFound(
                    f"this agent has no session {session_id!r}; an agent is found again by its name, or without one "
                    "by exactly what it is",
                    param="session_id",
                ) from error
        if name is not None:
            found = await self.agents.list_sessions(agent_id, self.caller, limit=1, name=name)
            if found.entries:
                return await self.agents.session(agent_id, found.entries[0].session_id, self.caller)
        return await self.agents.create_session(agent_id, name or UNNAMED, self.caller)

    async def sessions(self) -> list[Session]:
        found: list[Session] = []
        after: str | None = None
        while True:
            page = await self.agents.list_sessions(self.record.agent_id, self.caller, after=after)
            found.extend(page.entries)
            if page.next_after is None:
                return found
            after = page.next_after

    async def delete_session(self, session_id: str) -> None:
        await self.agents.delete_session(self.record.agent_id, session_id, self.caller)


async def _kept(agents: Agents, config: AgentConfig, caller: Caller) -> AgentRecord:
    """The agent of this name, brought up to this config; one without a name is known by its config alone."""
    after: str | None = None
    while True:
        page = await agents.list_agents(caller, after=after)
        for record in page.entries:
            if record.config == config:
                return record
            if config.name is not None and record.config.name == config.name:
                return await agents.update_agent(record.agent_id, config, caller)
        if page.next_after is None:
            return await agents.create_agent(config, caller)
        after = page.next_after
