"""Handing a conversation over: the rest of it is answered by another agent, over the same history.

Who answers is read from the turns, like everything else about them: the call of a transfer tool that was stored last
names the agent. A hand-off counts once every call of its answer has a result, so calls that wait for the caller or for
a person are still settled by the agent that made them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llama_stack.agents.setup import AgentSetup
from llama_stack.agents.tools import Tool, tool_from_schema
from llama_stack.agents.transcript import open_calls
from llama_stack.api.agents import InferenceStep, Step, ToolExecutionStep, Turn
from llama_stack.api.tools import ToolDefinition, ToolResult
from llama_stack.errors import InvalidRequest

MAX_HANDOFFS = 5
"""In one turn; the agent that is reached by the last one has no tools to hand over with."""
HANDED_TO = "handed_to"
"""The key under which a transfer's metadata names the agent."""


def transfer_tool(name: str, description: str = "") -> Tool:
    """The tool by which a model hands the conversation over to the agent of this name."""
    definition = ToolDefinition(
        name=f"transfer_to_{re.sub(r'[^a-zA-Z0-9_-]+', '_', name)}"[:64],
        description=f"Hand the conversation over to {name}, who then answers. {description}".strip(),
        parameters={"type": "object", "properties": {}},
    )

    async def transfer(arguments: Mapping[str, Any]) -> ToolResult:
        return ToolResult(content=f"{name} has the conversation now.", metadata={HANDED_TO: name})

    return tool_from_schema(definition, transfer)


def check_names(names: Sequence[str | None]) -> None:
    """Raises InvalidRequest for agents of one team without names of their own."""
    for name in names:
        if not name or names.count(name) > 1:
            what = f"two are named {name!r}" if name else "one has none"
            raise InvalidRequest(f"name: agents that hand over to each other need names; {what}", param="name")


def handoffs_in(turn: Turn) -> list[str]:
    """Names of the agents that this turn was handed to, in order."""
    names: list[str] = []
    for step in _settled(turn):
        if isinstance(step, ToolExecutionStep):
            handed = (step.metadata.get(call.id, {}).get(HANDED_TO) for call in step.tool_calls)
            names.extend(name for name in handed if isinstance(name, str))
    return names


def _settled(turn: Turn) -> list[Step]:
    """The steps without the results of an answer some of whose calls are still open."""
    if not open_calls(turn):
        return turn.steps
    last = max(position for position, step in enumerate(turn.steps) if isinstance(step, InferenceStep))
    return turn.steps[:last]


async def standing(setup: AgentSetup, turns: Iterable[Turn]) -> AgentSetup:
    """What a conversation goes on with after these turns: the agent that it was handed to last, if any."""
    name = handed_to(turns) if setup.team else None
    return setup if name is None else await handed_over(setup, name, may_hand_over=True)


def handed_to(turns: Iterable[Turn]) -> str | None:
    """The agent that these turns were handed to last; None while the first one has the conversation."""
    names = [name for turn in turns for name in handoffs_in(turn)]
    return names[-1] if names else None


async def handed_over(setup: AgentSetup, name: str, *, may_hand_over: bool) -> AgentSetup:
    """What the agent of this name is run with; where there is none any more, the one that has the conversation."""
    if name not in setup.team:
        return setup
    return replace(await setup.team[name](may_hand_over), state=setup.state, team=setup.team)
