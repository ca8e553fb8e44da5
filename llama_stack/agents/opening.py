"""From what an agent is to what a turn of it is run with."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from llama_stack.agents.checking import check_choice
from llama_stack.agents.context import state_after
from llama_stack.agents.handoff import standing, transfer_tool
from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.toolboxes import toolbox_for
from llama_stack.agents.tools import Tool, Toolbox, tool_from_schema
from llama_stack.api.agents import AgentConfig, Turn
from llama_stack.api.common import Caller
from llama_stack.api.inference import Inference
from llama_stack.api.memory import MemorySearch
from llama_stack.api.stack import ServedStack
from llama_stack.errors import UnsupportedParameter

STACKS_OWN = ("tool_groups", "input_shields", "output_shields", "tool_shields", "memory_banks")
"""Settings of an agent that name what only a stack has."""


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


@dataclass(frozen=True)
class Surroundings:
    """Where an agent's turns are run. stack: None where it is far away, or where there is only a model to be asked.

    memory: opens the memory of a stack far away; None where there is none. window: tokens of a model's window, by its
    name.
    """

    inference: Inference
    stack: ServedStack | None = None
    memory: Callable[[], Awaitable[MemorySearch]] | None = None
    window: Callable[[str], Awaitable[int | None]] | None = None


async def open_setup(
    where: Surroundings,
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

    under_way: that turn, where it has begun already. own_tools: functions of this process, with those that hand over.
    team: every agent that may come to answer.
    Raises what listing the tools raises, InvalidRequest for a new turn that is to call what the agent has not, and
    UnsupportedParameter for what only a stack has where there is none.
    """
    earlier = list(turns)
    state = state_after(earlier if under_way is None else [*earlier, under_way])
    opening = _Opening(where, caller, session_id, team, state, earlier)
    setup = await standing(await opening.setup(config, own_tools), earlier)
    if under_way is None:
        _check_choice(setup)
    return setup


def _check_choice(setup: AgentSetup) -> None:
    """The model's provider would refuse it, too, but when the turn has begun and its reader was told so."""
    if setup.config.tool_choice == "required" and not setup.toolbox:
        raise UnsupportedParameter("tool_choice: asks for a call, but the agent has no tools", param="tool_choice")
    check_choice(setup.config, [tool.name for tool in setup.toolbox.definitions])


def transfers_of(member: Member, team: Sequence[Member]) -> list[Tool]:
    """The tools by which a member hands over."""
    descriptions = {other.name: other.description for other in team}
    return [transfer_tool(name, descriptions[name]) for name in member.hands_to]


@dataclass(frozen=True)
class _Opening:
    """What the setups of one session have in common."""

    where: Surroundings
    caller: Caller
    session_id: str
    team: Sequence[Member] = ()
    state: dict[str, Any] = field(default_factory=dict)
    earlier: Sequence[Turn] = ()

    async def setup(self, config: AgentConfig, own_tools: Sequence[Tool]) -> AgentSetup:
        where, caller = self.where, self.caller
        members = {member.name: partial(self._member, member) for member in self.team}
        if where.stack is None:
            within_reach = ("memory_banks",) if where.memory is not None else ()
            wanted = [name for name in STACKS_OWN if getattr(config, name) and name not in within_reach]
            if wanted:
                raise UnsupportedParameter(
                    f"{wanted[0]}: belong to the stack, and are not at hand where this agent's turns are run; "
                    "open a session that the stack keeps: agent.open_session()",
                    param=wanted[0],
                )
            toolbox = Toolbox([*map(tool_from_schema, config.client_tools), *own_tools])
            memory = await where.memory() if where.memory is not None and config.memory_banks else None
            window = None if where.window is None else partial(where.window, config.model)
            return AgentSetup(
                where.inference, config, caller, toolbox, memory=memory, window=window, state=self.state, team=members
            )
        stack = where.stack
        toolbox = await toolbox_for(config, stack.tools, caller, session_id=self.session_id, own=own_tools)
        return AgentSetup(
            inference=where.inference,
            config=config,
            caller=caller,
            toolbox=toolbox,
            safety=stack.safety,
            memory=await stack.memory() if config.memory_banks else None,
            context_length=(await stack.model(config.model, caller)).context_length,
            state=self.state,
            earlier=self.earlier,
            team=members,
        )

    async def _member(self, member: Member, may_hand_over: bool) -> AgentSetup:
        transfers = transfers_of(member, self.team) if may_hand_over else []
        return await self.setup(member.config, [*member.own_tools, *transfers])
