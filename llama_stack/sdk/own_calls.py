"""Functions of this process in a session that is kept far away: the turn pauses there, they run here, it goes on."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from llama_stack.agents.calls import ToolCallEvent, run_calls
from llama_stack.agents.context import ToolContext, state_after
from llama_stack.agents.setup import new_id
from llama_stack.agents.tools import Tool, Toolbox, denial
from llama_stack.agents.transcript import calls_made, open_calls
from llama_stack.api.agents import (
    AgentEvent,
    ApprovalDecision,
    ToolCallFinished,
    ToolOutcome,
    Turn,
    TurnAwaitingInput,
)
from llama_stack.api.common import Caller
from llama_stack.api.messages import ToolCall, ToolMessage, UserMessage
from llama_stack.gathering import owned
from llama_stack.sdk.conversations import StoredConversation, unfinished


class ConnectedConversation:
    """A stored conversation whose agent has functions here.

    A call that was being run when this process died is made again when the turn is taken up.
    """

    def __init__(self, stored: StoredConversation, functions: Sequence[Tool], caller: Caller) -> None:
        self._stored = stored
        self._toolbox = Toolbox(functions)
        self._names = {tool.definition.name for tool in functions}
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
        own = {call.id: call for call in open_calls(unfinished(self.turns)) if call.name in self._names}
        denied = [
            ToolMessage(tool_call_id=one.tool_call_id, name=own[one.tool_call_id].name, content=denial(one.reason))
            for one in decisions
            if one.tool_call_id in own and not one.approve
        ]
        self._approved.update(one.tool_call_id for one in decisions if one.tool_call_id in own and one.approve)
        others = [one for one in decisions if one.tool_call_id not in own]
        outcomes = [ToolOutcome(tool_call_id=result.tool_call_id, is_error=True) for result in denied]
        return self._with_own_calls(self._stored.go_on([*results, *denied], others, outcomes))

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
            own = [call for call in paused.tool_calls if call.name in self._names]
            undecided = [call for call in own if self._toolbox.needs_approval(call) and call.id not in self._approved]
            ready = [call for call in own if call not in undecided]
            if not ready:
                theirs = [call for call in paused.tool_calls if call not in own]
                approvals = [*paused.approvals, *undecided]
                yield TurnAwaitingInput(turn=paused.turn, tool_calls=theirs, approvals=approvals)
                return
            finished: list[ToolCallFinished] = []
            async with aclosing(self._run(paused.turn, ready)) as calls:
                async for call_event in calls:
                    if isinstance(call_event, ToolCallFinished):
                        finished.append(call_event)
                    yield call_event
            self._approved.clear()
            events = self._stored.go_on([one.result for one in finished], [], [_outcome(one) for one in finished])

    async def _run(self, turn: Turn, calls: Sequence[ToolCall]) -> AsyncGenerator[ToolCallEvent, None]:
        def context(call: ToolCall) -> ToolContext:
            return ToolContext(self._caller, self.session_id, turn.turn_id, call.id, self._state)

        events: asyncio.Queue[ToolCallEvent | None] = asyncio.Queue()
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
        )
        async with owned(work) as task:
            while (event := await events.get()) is not None:
                yield event
            await task


def _outcome(finished: ToolCallFinished) -> ToolOutcome:
    return ToolOutcome(
        tool_call_id=finished.result.tool_call_id, is_error=finished.is_error, metadata=finished.metadata
    )
