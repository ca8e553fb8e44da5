"""From what an agent is to what a turn of it is run with, on a stack that has everything."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from llama_stack.agents.context import state_after
from llama_stack.agents.handoff import standing, transfer_tool
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.toolboxes import toolbox_for
from llama_stack.agents.tools import Tool
from llama_stack.api.agents import AgentConfig, Turn
from llama_stack.api.common import Caller
from llama_stack.api.stack import ServedStack


@dataclass(frozen=True)
class Member:
    """An agent of a team as this process defines it.

    name: by which the others hand over to it. description: when they should. own_tools: functions of this process.
    hands_to: names of those it may hand over to.
    """

    name: str
    config: AgentConfig
    description: str = ""
    own_tools: Sequence[Tool] = ()
    hands_to: Sequence[str] = ()


async def open_setup(
    stack: ServedStack,
    config: AgentConfig,
    caller: Caller,
    *,
    session_id: str,
    own_tools: Sequence[Tool] = (),
    team: Sequence[Member] = (),
    turns: Iterable[Turn] = (),
    under_way: Turn | None = None,
) -> AgentSetup:
    """What the turn after `turns` begins with: the agent's own setup, or that of the agent they were handed to.

    under_way: that turn, where it has begun already. own_tools: functions of this process, with those that hand over. team: every agent that may come to answer.
    Raises what listing the tools raises.
    """
    earlier = list(turns)
    state = state_after(earlier if under_way is None else [*earlier, under_way])
    opening = _Opening(stack, caller, session_id, team, state)
    return await standing(await opening.setup(config, own_tools), earlier)


def transfers_of(member: Member, team: Sequence[Member]) -> list[Tool]:
    """The tools by which a member hands over."""
    descriptions = {other.name: other.description for other in team}
    return [transfer_tool(name, descriptions[name]) for name in member.hands_to]


@dataclass(frozen=True)
class _Opening:
    """What the setups of one session have in common."""

    stack: ServedStack
    caller: Caller
    session_id: str
    team: Sequence[Member] = ()
    state: dict[str, Any] = field(default_factory=dict)

    async def setup(self, config: AgentConfig, own_tools: Sequence[Tool]) -> AgentSetup:
        stack, caller = self.stack, self.caller
        return AgentSetup(
            inference=stack.inference,
            config=config,
            caller=caller,
            toolbox=await toolbox_for(config, stack.tools, caller, session_id=self.session_id, own=own_tools),
            safety=stack.safety,
            memory=stack.memory,
            context_length=(await stack.model(config.model, caller)).context_length,
            state=self.state,
            team={member.name: partial(self._member, member) for member in self.team},
        )

    async def _member(self, member: Member, may_hand_over: bool) -> AgentSetup:
        transfers = transfers_of(member, self.team) if may_hand_over else []
        return await self.setup(member.config, [*member.own_tools, *transfers])
