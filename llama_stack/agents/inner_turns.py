"""Turns within a turn: an agent serves a call of another, and has to wait.

The turn around it then waits for the same, and can be taken up by whoever stopped it, as any turn: how far the inner
turn came is a step of the outer one, and so is what it was brought, before it goes on with that. Calls of an inner turn
are known outside under the id of the call that it serves, a slash, and their own.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from llama_stack.agents.calls import CallPutAside, brought_step
from llama_stack.agents.setup import new_id
from llama_stack.agents.transcript import open_calls
from llama_stack.api.agents import (
    ApprovalDecision,
    ApprovalStep,
    DelegationStep,
    InferenceStep,
    Step,
    ToolOutcome,
    Turn,
)
from llama_stack.api.messages import ToolCall, ToolMessage

BroughtT = TypeVar("BroughtT", ToolMessage, ApprovalDecision, ToolOutcome)


def put_aside(turn: Turn) -> dict[str, DelegationStep]:
    """How far the agents have come that serve open calls of the turn, by the ids of the calls, in their order."""
    latest: dict[str, DelegationStep] = {}
    for step in reversed(turn.steps):
        if isinstance(step, InferenceStep):
            break
        if isinstance(step, DelegationStep):
            latest.setdefault(step.tool_call.id, step)
    if not latest:
        return latest
    return {call.id: latest[call.id] for call in open_calls(turn) if call.id in latest}


def shown(step: DelegationStep, calls: Sequence[ToolCall]) -> list[ToolCall]:
    """Calls of the inner turn as they are known in the turn around it."""
    return [call.model_copy(update={"id": f"{step.tool_call.id}/{call.id}"}) for call in calls]


def shields_within(turn: Turn) -> dict[str, list[str]]:
    """The tool shields of the agents that await results within the turn, by the ids of the calls as they are known in
    it: of an agent that serves another one, after the other's.
    """
    found: dict[str, list[str]] = {}
    for step in put_aside(turn).values():
        deeper = shields_within(step.turn)
        for call in step.tool_calls:
            found[f"{step.tool_call.id}/{call.id}"] = [*step.tool_shields, *deeper.get(call.id, ())]
    return found


def brought_within(
    turn: Turn,
    results: Sequence[ToolMessage],
    decisions: Sequence[ApprovalDecision],
    outcomes: Sequence[ToolOutcome],
    limit: int,
) -> list[DelegationStep]:
    """The inner turns that are brought something, each with it. What is for no call of theirs is left out.

    limit: characters of a result that are kept.
    """
    steps: list[DelegationStep] = []
    for step in put_aside(turn).values():
        awaited = {f"{step.tool_call.id}/{call.id}": call for call in step.tool_calls}
        undecided = {f"{step.tool_call.id}/{call.id}": call for call in step.approvals}
        within = taken_in(
            step.turn,
            step.tool_calls,
            [_named(awaited, one) for one in results if one.tool_call_id in awaited],
            [_named(undecided, one) for one in decisions if one.tool_call_id in undecided],
            [_named(awaited, one) for one in outcomes if one.tool_call_id in awaited],
            limit,
        )
        if within:
            steps.append(
                DelegationStep(
                    step_id=new_id("step"),
                    tool_call=step.tool_call,
                    turn=step.turn.model_copy(update={"steps": [*step.turn.steps, *within]}),
                    completed_at=datetime.now(UTC),
                )
            )
    return steps


def taken_in(
    turn: Turn,
    awaited: Sequence[ToolCall],
    results: Sequence[ToolMessage],
    decisions: Sequence[ApprovalDecision],
    outcomes: Sequence[ToolOutcome],
    limit: int,
) -> list[Step]:
    """What a turn is brought, as its next steps. awaited: its calls that want results, those within it as shown.

    All of it must be for calls that the turn awaits.
    """
    within = brought_within(turn, results, decisions, outcomes, limit)
    inner = {call.id for step in put_aside(turn).values() for call in shown(step, [*step.tool_calls, *step.approvals])}
    own_results = {one.tool_call_id: one for one in results if one.tool_call_id not in inner}
    own_decisions = [one for one in decisions if one.tool_call_id not in inner]
    steps: list[Step] = []
    if own_results:
        calls = [call for call in awaited if call.id in own_results]
        steps.append(brought_step(turn, calls, list(own_results.values()), outcomes, limit))
    if own_decisions:
        steps.append(ApprovalStep(step_id=new_id("step"), decisions=own_decisions, completed_at=datetime.now(UTC)))
    # An agent of the caller's that has to wait; the call goes on awaiting its result.
    told = {one.tool_call_id: one.delegation for one in outcomes if one.delegation is not None}
    aside = [
        step.model_copy(update={"step_id": new_id("step"), "tool_call": call})
        for call in awaited
        if (step := told.get(call.id)) is not None and call.id not in own_results
    ]
    return [*steps, *within, *aside]


def waiting_step(event: CallPutAside, started_at: datetime | None = None) -> DelegationStep:
    """The step of a call whose agent has to wait."""
    waits = event.unfinished
    return DelegationStep(
        step_id=event.step_id,
        tool_call=event.tool_call,
        turn=waits.turn,
        tool_calls=waits.tool_calls,
        approvals=waits.approvals,
        tool_shields=waits.tool_shields,
        started_at=started_at,
        completed_at=datetime.now(UTC),
    )


def _named(inner: Mapping[str, ToolCall], one: BroughtT) -> BroughtT:
    """The same for the call as the inner turn knows it."""
    return one.model_copy(update={"tool_call_id": inner[one.tool_call_id].id})
