"""The team of an agent that is kept: the agents that its conversations may come to be answered by."""

from collections.abc import Sequence

from llama_stack.agents.handoff import check_names
from llama_stack.agents.opening import Member
from llama_stack.agents.tools import Tool
from llama_stack.api.agents import AgentConfig, AgentRecord
from llama_stack.api.common import Caller
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.storage import AgentStore

MAX_MEMBERS = 50


async def kept_team(
    store: AgentStore, record: AgentRecord, caller: Caller, own_tools: Sequence[Tool] = ()
) -> list[Member]:
    """The agent and all those that can be reached from it by hand-offs; nothing where it hands over to nobody.

    An agent that was deleted since is left out. own_tools: functions of this process, which each of them may call.
    Raises InvalidRequest for agents that cannot be told apart, and for more than MAX_MEMBERS of them.
    """
    if not record.config.handoffs:
        return []
    found = {record.agent_id: record}
    reached = [record]
    for one in reached:
        for agent_id in one.config.handoffs:
            if agent_id not in found and (other := await _there(store, agent_id, caller)) is not None:
                found[agent_id] = other
                reached.append(other)
        if len(reached) > MAX_MEMBERS:
            raise InvalidRequest(f"handoffs: lead to more than {MAX_MEMBERS} agents; leave some out", param="handoffs")
    check_names([one.config.name for one in reached])
    return [_member(one.config, found, own_tools) for one in reached]


async def check_handoffs(store: AgentStore, config: AgentConfig, caller: Caller) -> list[str]:
    """The names of the agents that it hands over to.

    Raises NotFound for a hand-off to an agent that there is not, InvalidRequest where names are missing or alike.
    """
    if not config.handoffs:
        return []
    check_names([config.name])
    names = []
    for agent_id in dict.fromkeys(config.handoffs):
        other = await _there(store, agent_id, caller)
        if other is None:
            raise NotFound(f"handoffs: there is no agent {agent_id!r}; create it first", param="handoffs")
        names.append(other.config.name)
    check_names(names)
    return [name or "" for name in names]


def _member(config: AgentConfig, found: dict[str, AgentRecord], own_tools: Sequence[Tool]) -> Member:
    others = [found[agent_id] for agent_id in dict.fromkeys(config.handoffs) if agent_id in found]
    hands_to = [other.config.name or "" for other in others]
    return Member(config.name or "", config, config.description, own_tools, hands_to)


async def _there(store: AgentStore, agent_id: str, caller: Caller) -> AgentRecord | None:
    try:
        return await store.agent(agent_id, caller)
    except NotFound:
        return None
