"""An agent and its sessions as a stack keeps them: found again by name, or made where there are none."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from llama_stack.agents.opening import Member, transfers_of
from llama_stack.agents.service import AgentService
from llama_stack.api.agents import AgentConfig, AgentRecord, Agents, Session
from llama_stack.api.common import Caller
from llama_stack.errors import NotFound
from llama_stack.sdk.conversations import Conversation, StoredConversation
from llama_stack.sdk.own_calls import ConnectedConversation

UNNAMED = "unnamed"


@dataclass(frozen=True)
class Keeper:
    """One agent in the store.

    members: the agent and those that its conversations may be handed to, as this process defines them. A service in
    this process runs their functions in its turns; one far away is told of them as the caller's own tools, and pauses
    for each. window: tokens of a model's window, by its name.
    """

    agents: Agents
    record: AgentRecord
    members: Sequence[Member]
    caller: Caller
    window: Callable[[str], Awaitable[int | None]]

    @classmethod
    async def of(
        cls,
        agents: Agents,
        me: Member,
        team: Sequence[Member],
        caller: Caller,
        window: Callable[[str], Awaitable[int | None]],
    ) -> "Keeper":
        """Raises what creating an agent raises."""
        members = team or [me]
        if isinstance(agents, AgentService):
            record = await _kept(agents, me.config, caller)
            functions = [*me.own_tools, *transfers_of(me, team)]
            return cls(agents.with_own(functions, team), record, members, caller, window)
        return cls(agents, await _kept_team(agents, members, caller), members, caller, window)

    async def conversation(self, name: str | None, session_id: str | None) -> Conversation:
        session = await self._session(name, session_id)
        stored = StoredConversation(self.agents, session, self.caller)
        if isinstance(self.agents, AgentService):
            return stored
        return ConnectedConversation(stored, self.members, self.caller, self.window)

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


async def _kept_team(agents: Agents, members: Sequence[Member], caller: Caller) -> AgentRecord:
    """The first member, kept with all the others. They know each other by ids, so those there are not come first."""
    configs = {member.name: _told_of_functions(member) for member in members}
    records: dict[str, AgentRecord] = {}
    for name, config in configs.items():
        found = await _found(agents, config, caller)
        records[name] = found or await agents.create_agent(config, caller)
    for member in reversed(members):
        handoffs = [records[name].agent_id for name in member.hands_to]
        config = configs[member.name].model_copy(update={"handoffs": handoffs})
        if records[member.name].config != config:
            records[member.name] = await agents.update_agent(records[member.name].agent_id, config, caller)
    return records[members[0].name]


def _told_of_functions(member: Member) -> AgentConfig:
    named = [*member.config.client_tools, *(tool.definition for tool in member.own_tools)]
    return member.config.model_copy(update={"client_tools": named})


async def _kept(agents: Agents, config: AgentConfig, caller: Caller) -> AgentRecord:
    """The agent of this name, brought up to this config; one without a name is known by its config alone."""
    record = await _found(agents, config, caller)
    if record is None:
        return await agents.create_agent(config, caller)
    return record if record.config == config else await agents.update_agent(record.agent_id, config, caller)


async def _found(agents: Agents, config: AgentConfig, caller: Caller) -> AgentRecord | None:
    after: str | None = None
    while True:
        page = await agents.list_agents(caller, after=after)
        for record in page.entries:
            if record.config == config or (config.name is not None and record.config.name == config.name):
                return record
        if page.next_after is None:
            return None
        after = page.next_after
