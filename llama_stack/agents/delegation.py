"""An agent as a tool of another: it is given a task, works on it in a turn of its own, and its answer is the result.

The inner turn is part of the outer call. It is stopped with it, spends a budget of its own, and its steps are kept in
the metadata of the outer call's result; a process that dies in the middle of it leaves nothing, so the call is made
again when the outer turn is taken up.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from llama_stack.agents.loop import run_turn
from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.agents.tools import Tool, error_result, tool_from_schema
from llama_stack.api.agents import AgentEvent, TurnAwaitingInput, TurnCompleted
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.api.tools import ToolDefinition, ToolResult

OpenInner = Callable[[str], Awaitable[AgentSetup]]
"""What the inner agent is run with, in the session of this id."""


def delegating_tool(name: str, description: str, open_inner: OpenInner, *, needs_approval: bool = False) -> Tool:
    """The tool `name`, with one argument, `message`: the task for the inner agent."""
    task = {"type": "string", "description": "The task, with everything that is needed to do it."}
    definition = ToolDefinition(
        name=name,
        description=description,
        parameters={"type": "object", "properties": {"message": task}, "required": ["message"]},
    )
    return tool_from_schema(definition, partial(_delegate, name, open_inner), needs_approval=needs_approval)


async def _delegate(name: str, open_inner: OpenInner, arguments: Mapping[str, Any]) -> ToolResult:
    session_id = new_id("session")
    setup = await open_inner(session_id)
    last: AgentEvent | None = None
    message = UserMessage(content=arguments["message"])
    async with aclosing(run_turn(setup, [], [message], session_id=session_id)) as events:
        async for event in events:
            last = event
    assert isinstance(last, TurnCompleted | TurnAwaitingInput)
    turn = last.turn
    metadata = {"turn": turn.model_dump(mode="json", exclude_none=True)}
    if isinstance(last, TurnAwaitingInput):
        waiting = ", ".join(call.name for call in (*last.tool_calls, *last.approvals))
        refusal = error_result(f"{name} cannot go on: it wants {waiting}, which waits for a person or a caller.")
        return refusal.model_copy(update={"metadata": metadata})
    text = text_of(turn.output.content) if turn.output is not None else ""
    return ToolResult(content=text or "(no answer)", is_error=turn.end_reason == "blocked", metadata=metadata)
