"""An agent as a tool of another: it is given a task, works on it in a turn of its own, and its answer is the result.

The inner turn is part of the outer call. It is stopped with it, spends a budget of its own, and its steps are kept in
the metadata of the outer call's result. Where it has to wait for a person or a caller, the outer turn waits for them,
and the inner one goes on from there; see `inner_turns`. A process that dies while it runs leaves what was known when it
waited last: the call, or the rest of it, is made again when the outer turn is taken up.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from llama_stack.agents.calls import Unfinished
from llama_stack.agents.context import current_call
from llama_stack.agents.handoff import handed_over, handoffs_in
from llama_stack.agents.loop import resume_turn, run_turn
from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.agents.tools import Tool, tool_from_schema
from llama_stack.api.agents import AgentEvent, ApprovalDecision, Turn, TurnAwaitingInput, TurnCompleted
from llama_stack.api.messages import ToolCall, UserMessage, text_of
from llama_stack.api.tools import ToolDefinition, ToolResult

OpenInner = Callable[[str, Turn | None], Awaitable[AgentSetup]]
"""What the inner agent is run with, in the session of this id, in this turn where it is under way."""
Decide = Callable[[Sequence[ToolCall]], Awaitable[list[ApprovalDecision]]]
"""What the inner agent's own application says of calls that want a person's word; nothing leaves them to the outer."""


def delegating_tool(
    name: str,
    description: str,
    open_inner: OpenInner,
    *,
    needs_approval: bool = False,
    decide: Decide | None = None,
) -> Tool:
    """The tool `name`, with one argument, `message`: the task for the inner agent."""
    task = {"type": "string", "description": "The task, with everything that is needed to do it."}
    definition = ToolDefinition(
        name=name,
        description=description,
        parameters={"type": "object", "properties": {"message": task}, "required": ["message"]},
    )
    run = partial(_delegate, open_inner, decide)
    return tool_from_schema(definition, run, needs_approval=needs_approval)


async def _delegate(open_inner: OpenInner, decide: Decide | None, arguments: Mapping[str, Any]) -> ToolResult:
    aside = current_call().inner_turn
    if aside is None:
        session_id = new_id("session")
        setup = await open_inner(session_id, None)
        message = UserMessage(content=arguments["message"])
        last = await _last(run_turn(setup, [], [message], session_id=session_id))
    else:
        last = await _last(resume_turn(await open_inner(aside.session_id, aside), [], aside))
    while isinstance(last, TurnAwaitingInput):
        decisions = await decide(last.approvals) if decide is not None and last.approvals else []
        if not decisions:
            return await _unfinished(await open_inner(last.turn.session_id, last.turn), last)
        setup = await open_inner(last.turn.session_id, last.turn)
        last = await _last(resume_turn(setup, [], last.turn, (), decisions))
    turn = last.turn
    text = text_of(turn.output.content) if turn.output is not None else ""
    metadata = {"turn": turn.model_dump(mode="json", exclude_none=True)}
    return ToolResult(content=text or "(no answer)", is_error=turn.end_reason == "blocked", metadata=metadata)


async def _unfinished(setup: AgentSetup, last: TurnAwaitingInput) -> Unfinished:
    handed = handoffs_in(last.turn)
    if handed:
        setup = await handed_over(setup, handed[-1], may_hand_over=False)
    return Unfinished(
        content="",
        turn=last.turn,
        tool_calls=last.tool_calls,
        approvals=last.approvals,
        tool_shields=setup.config.tool_shields,
    )


async def _last(turn: AsyncGenerator[AgentEvent, None]) -> TurnAwaitingInput | TurnCompleted:
    last: AgentEvent | None = None
    async with aclosing(turn) as events:
        async for event in events:
            last = event
    assert isinstance(last, TurnCompleted | TurnAwaitingInput)
    return last
