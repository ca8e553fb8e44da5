"""Where a session's turns are run and kept: in this object, or by the agents' service of a stack."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Protocol

from llama_stack.agents.loop import resume_turn, run_turn
from llama_stack.agents.setup import AgentSetup, new_id
from llama_stack.agents.transcript import history_of
from llama_stack.api.agents import (
    AgentEvent,
    Agents,
    ApprovalDecision,
    Session,
    StepCompleted,
    ToolOutcome,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnStarted,
)
from llama_stack.api.common import Caller
from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.errors import Conflict, InvalidRequest

PATIENCE_S = 5.0
PAUSE_S = 0.05


class Conversation(Protocol):
    """The turns of one session, oldest first, and how to add to them. One turn at a time."""

    @property
    def session_id(self) -> str: ...

    @property
    def turns(self) -> list[Turn]: ...

    def begin(self, messages: list[UserMessage | ToolMessage]) -> AsyncGenerator[AgentEvent, None]: ...

    def go_on(
        self, results: Sequence[ToolMessage], decisions: Sequence[ApprovalDecision]
    ) -> AsyncGenerator[AgentEvent, None]:
        """With the last turn, after its last finished step. Raises InvalidRequest when it has ended."""
        ...


class OpensSetups(Protocol):
    async def setup(self, session_id: str, turns: Sequence[Turn], under_way: Turn | None = None) -> AgentSetup: ...


class MemoryConversation:
    """A conversation that lives as long as this object. A turn that was left or failed ends with its finished steps."""

    def __init__(self, agent: OpensSetups) -> None:
        self.session_id = new_id("session")
        self.turns: list[Turn] = []
        self._agent = agent

    async def begin(self, messages: list[UserMessage | ToolMessage]) -> AsyncGenerator[AgentEvent, None]:
        setup = await self._agent.setup(self.session_id, self.turns)
        give_up_waiting(self.turns)
        turn = Turn(turn_id="", session_id=self.session_id, input=messages, started_at=datetime.now(UTC))
        events = run_turn(setup, history_of(self.turns), messages, session_id=self.session_id)
        async with aclosing(self._kept(turn, events)) as kept:
            async for event in kept:
                yield event

    async def go_on(
        self, results: Sequence[ToolMessage], decisions: Sequence[ApprovalDecision]
    ) -> AsyncGenerator[AgentEvent, None]:
        awaiting = unfinished(self.turns)
        earlier = self.turns[:-1]
        setup = await self._agent.setup(self.session_id, earlier, awaiting)
        turn = awaiting.model_copy(update={"steps": list(awaiting.steps)})
        events = resume_turn(setup, history_of(earlier), turn, results, decisions)
        self.turns.pop()
        async with aclosing(self._kept(turn, events)) as kept:
            async for event in kept:
                yield event

    async def _kept(self, turn: Turn, events: AsyncGenerator[AgentEvent, None]) -> AsyncGenerator[AgentEvent, None]:
        """Pass the events on, and keep what was finished of the turn, however it ends."""
        is_under_way = False
        try:
            async with aclosing(events):
                async for event in events:
                    is_under_way = not isinstance(event, TurnCompleted | TurnAwaitingInput)
                    match event:
                        case TurnStarted():
                            turn.turn_id = event.turn_id
                        case StepCompleted():
                            turn.steps.append(event.step)
                        case TurnCompleted() | TurnAwaitingInput():
                            turn = event.turn
                        case _:
                            pass
                    yield event
        finally:
            if is_under_way:
                turn.end_reason = "interrupted"
            if turn.steps:
                self.turns.append(turn)


class StoredConversation:
    """A session of the agents' service, which keeps each step before it is used. A turn that was left, or whose
    process died, can be gone on with; the next question ends it instead.
    """

    def __init__(self, agents: Agents, session: Session, caller: Caller) -> None:
        self.session_id = session.session_id
        self.turns = list(session.turns)
        self._agents = agents
        self._place = session.agent_id, session.session_id
        self._caller = caller
        self._was_left = False

    async def begin(self, messages: list[UserMessage | ToolMessage]) -> AsyncGenerator[AgentEvent, None]:
        turn = Turn(turn_id="", session_id=self.session_id, input=messages, started_at=datetime.now(UTC))
        begun = self._once_free(lambda: self._agents.create_turn(*self._place, messages, self._caller))
        async with aclosing(begun) as events:
            async for event in events:
                if isinstance(event, TurnStarted):
                    give_up_waiting(self.turns)
                    turn.turn_id = event.turn_id
                    self.turns.append(turn)
                self._follow(event)
                yield event

    async def go_on(
        self,
        results: Sequence[ToolMessage],
        decisions: Sequence[ApprovalDecision],
        outcomes: Sequence[ToolOutcome] = (),
    ) -> AsyncGenerator[AgentEvent, None]:
        turn_id = unfinished(self.turns).turn_id
        resumed = self._once_free(
            lambda: self._agents.resume_turn(
                *self._place,
                turn_id,
                self._caller,
                results=list(results),
                decisions=list(decisions),
                outcomes=list(outcomes),
            )
        )
        async with aclosing(resumed) as events:
            async for event in events:
                self._follow(event)
                yield event

    async def _once_free(
        self, work: Callable[[], AsyncGenerator[AgentEvent, None]]
    ) -> AsyncGenerator[AgentEvent, None]:
        """The events of the work. A server hears of it a moment later when a turn is left: until then, wait for it."""
        patient_until = asyncio.get_running_loop().time() + (PATIENCE_S if self._was_left else 0)
        self._was_left = True
        while True:
            async with aclosing(work()) as events:
                try:
                    event = await anext(events)
                except Conflict:
                    if asyncio.get_running_loop().time() >= patient_until:
                        raise
                    await asyncio.sleep(PAUSE_S)
                    continue
                yield event
                async for event in events:
                    yield event
                self._was_left = False
                return

    def _follow(self, event: AgentEvent) -> None:
        match event:
            case StepCompleted():
                turn = self.turns[-1]
                self.turns[-1] = turn.model_copy(update={"steps": [*turn.steps, event.step]})
            case TurnCompleted() | TurnAwaitingInput():
                self.turns[-1] = event.turn
            case _:
                pass


def unfinished(turns: Sequence[Turn]) -> Turn:
    """The last turn, which waits or was cut off. Raises InvalidRequest when nothing waits."""
    if not turns or turns[-1].end_reason is not None:
        raise InvalidRequest("results and decisions answer a turn that awaits them, and none does; ask a question")
    return turns[-1]


def give_up_waiting(turns: list[Turn]) -> None:
    """A new question ends a turn that waits."""
    if turns and turns[-1].end_reason is None:
        turns[-1] = turns[-1].model_copy(update={"end_reason": "interrupted"})
