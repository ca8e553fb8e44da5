"""What a caller's other programs may call: the tools of every group the caller sees, and the caller's agents.

An agent is a tool that takes a message, works through a turn and gives its answer.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from llama_stack.agents.json_schema import schema_faults
from llama_stack.agents.toolboxes import offered_name, without_parameters
from llama_stack.api.agents import (
    CHAT_AGENT_NAME,
    AgentEvent,
    AgentRecord,
    Agents,
    StepStarted,
    TurnAwaitingInput,
    TurnCompleted,
)
from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.api.stack import ServedStack
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import InvalidRequest, NotFound, StackError
from llama_stack.gathering import gathered

logger = logging.getLogger(__name__)

LISTING_LIMIT_S = 10.0
"""How long one group's tools are waited for; a server that is away does not hide the tools of the others."""
MAX_AGENTS = 200
MAX_NAME_CHARS = 64
AGENT_INPUT: JsonObject = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "description": "What you say to the agent, with everything it needs to know."},
        "session_id": {
            "type": "string",
            "description": "Goes on with an earlier conversation; leave it out to begin a new one.",
        },
    },
    "required": ["message"],
}
AGENT_OUTPUT: JsonObject = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "session_id": {"type": "string", "description": "Names this conversation in a later call."},
    },
    "required": ["answer", "session_id"],
}

Report = Callable[[str], Awaitable[None]]
"""Tells whoever waits what is being done now."""


@dataclass(frozen=True)
class Offer:
    """One callable. qualified_name: takes the name's place where another has the same. run: raises StackError.

    Both are names that models take: a host offers its model all tools or, with one name that is refused, none.
    """

    name: str
    qualified_name: str
    description: str | None
    input_schema: JsonObject
    run: Callable[[JsonObject, Report], Awaitable[ToolResult]]
    output_schema: JsonObject | None = None


async def offers(stack: ServedStack, caller: Caller, *, session_id: str | None = None) -> dict[str, Offer]:
    """Everything the caller may call, by name, in a stable order.

    session_id: for tools that keep state between calls, where the caller's calls belong together.
    """
    groups = await stack.registry.resources(ToolGroup, caller)
    listings = await gathered(_listed(stack, group, caller) for group in groups)
    found = [
        _tool_offer(stack, group, definition, caller, session_id)
        for group, listing in zip(groups, listings, strict=True)
        for definition in listing
    ]
    return _by_name([*found, *await _agents(stack, caller)])


def _by_name(found: list[Offer]) -> dict[str, Offer]:
    times = Counter(offer.name for offer in found)
    named: dict[str, Offer] = {}
    for offer in found:
        name = offer.name if times[offer.name] == 1 else offer.qualified_name
        if name in named:
            logger.warning("%r is offered once only: two tools have this name", name)
            continue
        named[name] = replace(offer, name=name)
    return named


async def _listed(stack: ServedStack, group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
    try:
        async with asyncio.timeout(LISTING_LIMIT_S):
            return await stack.tools.list_tools(group, caller)
    except (StackError, TimeoutError) as error:
        reason = error.message if isinstance(error, StackError) else f"no answer within {LISTING_LIMIT_S:g} s"
        logger.warning("tools of %r are not offered: %s", group.identifier, reason)
        return []


def _tool_offer(
    stack: ServedStack, group: ToolGroup, definition: ToolDefinition, caller: Caller, session_id: str | None
) -> Offer:
    async def run(arguments: JsonObject, report: Report) -> ToolResult:
        given = {**arguments, **group.args}
        return await stack.tools.invoke_tool(group, definition.name, given, caller, session_id=session_id)

    shown = without_parameters(definition, group.args)
    return Offer(
        name=offered_name(definition.name),
        qualified_name=offered_name(f"{_word(group.identifier)}__{definition.name}"),
        description=definition.description,
        input_schema=shown.parameters or {"type": "object", "properties": {}},
        run=run,
    )


async def _agents(stack: ServedStack, caller: Caller) -> list[Offer]:
    agents = await stack.agents()
    records: list[AgentRecord] = []
    after: str | None = None
    while len(records) < MAX_AGENTS:
        page = await agents.list_agents(caller, limit=100, after=after)
        records.extend(one for one in page.entries if not (one.config.name or "").startswith(CHAT_AGENT_NAME))
        after = page.next_after
        if after is None:
            break
    return [_agent_offer(agents, record, caller) for record in records[:MAX_AGENTS]]


def _agent_offer(agents: Agents, record: AgentRecord, caller: Caller) -> Offer:
    name = _word(record.config.name or "") or _word(record.agent_id)
    instructions = " ".join(record.config.instructions.split())
    about = record.config.description or (
        f"Its instructions begin: {instructions[:300]}" if instructions else "It has no instructions of its own."
    )
    return Offer(
        name=name,
        qualified_name=offered_name(f"{name}__{_word(record.agent_id)}"),
        description=f"Asks the agent {record.config.name or record.agent_id}. {about}",
        input_schema=AGENT_INPUT,
        output_schema=AGENT_OUTPUT,
        run=partial(_talk, agents, record, caller),
    )


def _word(text: str) -> str:
    """The text in letters that every model and host takes in a name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:MAX_NAME_CHARS]


async def _talk(
    agents: Agents, record: AgentRecord, caller: Caller, arguments: JsonObject, report: Report
) -> ToolResult:
    """One turn with the agent, and its answer. Cancelling it stops the turn."""
    faults = schema_faults(arguments, AGENT_INPUT)
    if faults:
        raise InvalidRequest(f"wrong arguments: {'; '.join(faults)}", param="arguments")
    session_id = arguments.get("session_id")
    if session_id is None:
        session_id = (await agents.create_session(record.agent_id, "mcp", caller)).session_id
    message = UserMessage(content=arguments["message"])
    last: AgentEvent | None = None
    async with aclosing(agents.create_turn(record.agent_id, session_id, [message], caller)) as events:
        async for event in events:
            if isinstance(event, StepStarted):
                await report(event.step_type.replace("_", " "))
            last = event
    return _answer(last, session_id)


def _answer(last: AgentEvent | None, session_id: str) -> ToolResult:
    match last:
        case TurnCompleted(turn=turn):
            text = text_of(turn.output.content) if turn.output is not None else ""
            structure = {"answer": text, "session_id": session_id}
            metadata = {"structured_content": structure, "turn_id": turn.turn_id}
            return ToolResult(content=text, is_error=turn.end_reason == "blocked", metadata=metadata)
        case TurnAwaitingInput(turn=turn, tool_calls=calls, approvals=approvals):
            waiting = ", ".join(call.name for call in (*calls, *approvals))
            text = (
                f"The agent waits: {waiting} needs a person's approval or a program of its owner. Turn {turn.turn_id}"
                f" of session {session_id} goes on when it is resumed over the stack's own API."
            )
            return ToolResult(content=text, is_error=True, metadata={"turn_id": turn.turn_id})
        case _:
            raise NotFound("the agent gave no answer")
