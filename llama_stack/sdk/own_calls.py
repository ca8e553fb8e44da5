"""Functions of this process in a session that is kept far away: the turn pauses there, they run here, it goes on."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from llama_stack.agents.calls import CallPutAside, RunningEvent, run_calls
from llama_stack.agents.context import ToolContext, state_after
from llama_stack.agents.handoff import handed_to
from llama_stack.agents.inner_turns import brought_within, put_aside, shown, waiting_step
from llama_stack.agents.opening import Member
from llama_stack.agents.retrieval import context_tokens
from llama_stack.agents.setup import new_id
from llama_stack.agents.tools import MAX_RESULT_CHARS, Toolbox, denial
from llama_stack.agents.transcript import calls_made, open_calls
from llama_stack.api.agents import (
    AgentEvent,
    ApprovalDecision,
    DelegationStep,
    ToolCallFinished,
    ToolOutcome,
    Turn,
    TurnAwaitingInput,
)
from llama_stack.api.common import Caller
from llama_stack.api.messages import ToolCall, ToolMessage, UserMessage
from llama_stack.errors import InvalidRequest
from llama_stack.gathering import owned
from llama_stack.sdk.conversations import StoredConversation, unfinished


class ConnectedConversation:
    """A stored conversation whose agents have functions here.

    A call that was being run when this process died is made again when the turn is taken up.
    """

    def __init__(
        self,
        stored: StoredConversation,
        members: Sequence[Member],
        caller: Caller,
        window: Callable[[str], Awaitable[int | None]],
    ) -> None:
        """members: the agent, and those that the conversation may be handed to. window: tokens of a model's window."""
        self._stored = stored
        self._window = window
        self._models = {member.name: member.config.model for member in members}
        self._toolboxes = {member.name: Toolbox(member.own_tools) for member in members}
        self._first = members[0].name
        self._caller = caller
        self._approved: set[str] = set()
        self._state = state_after(stored.turns)

    @property
    def session_id(self) -> str:
        return self._stored.session_id

    @property
    def turns(self) -> list[Turn]:
        return self._stored.turns

    def begin(self, messages: list[UserMessage | ToolMessage]) -> AsyncGenerator[AgentEvent, None]:
        return self._with_own_calls(self._stored.begin(messages))

    def go_on(
        self, results: Sequence[ToolMessage], decisions: Sequence[ApprovalDecision]
    ) -> AsyncGenerator[AgentEvent, None]:
        turn = unfinished(self.turns)
        own = {call.id: call for call in self._own(open_calls(turn))}
        denied = [
            ToolMessage(tool_call_id=one.tool_call_id, name=own[one.tool_call_id].name, content=denial(one.reason))
            for one in decisions
            if one.tool_call_id in own and not one.approve
        ]
        self._approved.update(one.tool_call_id for one in decisions if one.tool_call_id in own and one.approve)
        aside = put_aside(turn).values()
        awaited = {call.id for step in aside for call in shown(step, step.tool_calls)}
        undecided = {call.id for step in aside for call in shown(step, step.approvals)}
        if mine := [one.tool_call_id for one in results if one.tool_call_id in own]:
            raise InvalidRequest(
                f"no call {mine[0]!r} awaits a result in turn {turn.turn_id}; its function runs here",
                param="tool_call_id",
            )
        _check_once([*(one.tool_call_id for one in results), *(one.tool_call_id for one in decisions)])
        steps = brought_within(turn, results, decisions, [], MAX_RESULT_CHARS)
        others = [one for one in decisions if one.tool_call_id not in own and one.tool_call_id not in undecided]
        given = [one for one in results if one.tool_call_id not in awaited]
        outcomes = [ToolOutcome(tool_call_id=result.tool_call_id, is_error=True) for result in denied]
        outcomes += [_aside(step) for step in steps]
        return self._with_own_calls(self._stored.go_on([*given, *denied], others, outcomes))

    async def _with_own_calls(self, events: AsyncGenerator[AgentEvent, None]) -> AsyncGenerator[AgentEvent, None]:
        """The turn's events, with the calls of functions run whenever it pauses for them."""
        while True:
            paused: TurnAwaitingInput | None = None
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, TurnAwaitingInput):
                        paused = event
                    else:
                        yield event
            if paused is None:
                return
            ready = self._ready(paused)
            if not ready:
                yield self._awaiting(paused)
                return
            outcomes: list[ToolOutcome] = []
            results: list[ToolMessage] = []
            async with aclosing(self._run(paused.turn, ready)) as calls:
                async for call_event in calls:
                    if isinstance(call_event, CallPutAside):
                        outcomes.append(_aside(waiting_step(call_event)))
                        continue
                    if isinstance(call_event, ToolCallFinished):
                        results.append(call_event.result)
                        outcomes.append(_outcome(call_event))
                    yield call_event
            self._approved.clear()
            events = self._stored.go_on(results, [], outcomes)

    @property
    def _member(self) -> str:
        """The agent that has the conversation."""
        name = handed_to(self.turns)
        return name if name in self._toolboxes else self._first

    @property
    def _toolbox(self) -> Toolbox:
        return self._toolboxes[self._member]

    async def _room_for_passages(self) -> int:
        """How many tokens of what a function has found the model is shown."""
        return context_tokens(await self._window(self._models[self._member]))

    def _own(self, calls: Sequence[ToolCall]) -> list[ToolCall]:
        names = {definition.name for definition in self._toolbox.definitions}
        return [call for call in calls if call.name in names]

    def _undecided(self, paused: TurnAwaitingInput) -> list[ToolCall]:
        """Calls of functions that a person has to agree to. One that was begun has been agreed to."""
        decided = self._approved | put_aside(paused.turn).keys()
        own = self._own(paused.tool_calls)
        return [call for call in own if self._toolbox.needs_approval(call) and call.id not in decided]

    def _ready(self, paused: TurnAwaitingInput) -> list[ToolCall]:
        undecided, aside = self._undecided(paused), put_aside(paused.turn)
        waiting = {call_id for call_id, step in aside.items() if step.is_waiting}
        return [call for call in self._own(paused.tool_calls) if call not in undecided and call.id not in waiting]

    def _awaiting(self, paused: TurnAwaitingInput) -> TurnAwaitingInput:
        """The same event as the application is told it: not of its functions, but of what they wait for."""
        own = self._own(paused.tool_calls)
        tool_calls = [call for call in paused.tool_calls if call not in own]
        approvals = [*paused.approvals, *self._undecided(paused)]
        for step in put_aside(paused.turn).values():
            tool_calls += shown(step, step.tool_calls)
            approvals += shown(step, step.approvals)
        return TurnAwaitingInput(turn=paused.turn, tool_calls=tool_calls, approvals=approvals, step_id=paused.step_id)

    async def _run(self, turn: Turn, calls: Sequence[ToolCall]) -> AsyncGenerator[RunningEvent, None]:
        aside = put_aside(turn)

        def context(call: ToolCall) -> ToolContext:
            inner = aside[call.id].turn if call.id in aside else None
            return ToolContext(self._caller, self.session_id, turn.turn_id, call.id, self._state, inner)

        events: asyncio.Queue[RunningEvent | None] = asyncio.Queue()
        step_ids = [new_id("step") for _ in calls]
        work = run_calls(
            self._toolbox,
            calls,
            step_ids,
            events,
            earlier=calls_made(turn),
            allowed=len(calls),
            deadline=None,
            context=context,
            room=self._room_for_passages,
        )
        async with owned(work) as task:
            while (event := await events.get()) is not None:
                yield event
            await task


def _check_once(ids: Sequence[str]) -> None:
    for position, call_id in enumerate(ids):
        if call_id in ids[:position]:
            raise InvalidRequest(f"call {call_id!r} is answered twice", param="tool_call_id")


def _aside(step: DelegationStep) -> ToolOutcome:
    return ToolOutcome(tool_call_id=step.tool_call.id, delegation=step)


def _outcome(finished: ToolCallFinished) -> ToolOutcome:
    return ToolOutcome(
        tool_call_id=finished.result.tool_call_id, is_error=finished.is_error, metadata=finished.metadata
    )
