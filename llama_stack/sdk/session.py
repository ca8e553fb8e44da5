"""A conversation with an agent: questions, what a person has to decide on, and the answer."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from llama_stack.agents.handoff import handoffs_in
from llama_stack.api.agents import (
    AgentEvent,
    ApprovalDecision,
    InferenceStep,
    MemoryRetrievalStep,
    Step,
    ToolExecutionStep,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
)
from llama_stack.api.memory import Chunk, Citation
from llama_stack.api.messages import Message, ToolCall, ToolMessage, UserMessage, text_of
from llama_stack.errors import Conflict, InvalidRequest
from llama_stack.memory.context import passages_told
from llama_stack.sdk.conversations import Conversation
from llama_stack.sdk.requests import conversation

Question = str | UserMessage | Sequence[UserMessage | ToolMessage | ApprovalDecision]
Approver = Callable[[ToolCall], bool | str | Awaitable[bool | str]]
"""A person's word on a call: yes, no, or the reason for a no. A function or a coroutine function."""


@dataclass(frozen=True)
class AgentResult:
    """What came of a question.

    awaiting: calls of your own tools; give their results to the session to go on. approvals: calls that want a
    person's word; give that with the session's `approve`, `deny` or `decide`.
    """

    turn: Turn
    awaiting: Sequence[ToolCall] = ()
    approvals: Sequence[ToolCall] = ()

    @property
    def text(self) -> str:
        """The answer; empty while the turn awaits something."""
        return "" if self.turn.output is None else text_of(self.turn.output.content)

    @property
    def steps(self) -> list[Step]:
        return self.turn.steps

    @property
    def citations(self) -> list[Citation]:
        """What the answer rests on, where its agent has memory banks or tools that search; in the answer's order."""
        inferred = [step for step in self.turn.steps if isinstance(step, InferenceStep)]
        return inferred[-1].citations if inferred else []

    @property
    def passages(self) -> list[Chunk]:
        """What memory held on the question, found before the model was asked or by its tools; in that order."""
        found: list[Chunk] = []
        for step in self.turn.steps:
            if isinstance(step, MemoryRetrievalStep):
                found += step.chunks
            elif isinstance(step, ToolExecutionStep):
                found += [told.chunk for metadata in step.metadata.values() for told in passages_told(metadata)]
        return found

    @property
    def handoffs(self) -> list[str]:
        """Names of the agents the turn was handed to, in order; the last one gave the answer."""
        return handoffs_in(self.turn)


class AgentSession:
    """One conversation with an agent; `turns` holds what has happened, oldest first."""

    def __init__(self, conversation: Conversation, on_approval: Approver | None = None) -> None:
        self._conversation = conversation
        self._on_approval = on_approval
        self._is_running = False

    @property
    def session_id(self) -> str:
        return self._conversation.session_id

    @property
    def turns(self) -> list[Turn]:
        return self._conversation.turns

    async def run(self, question: Question | None = None) -> AgentResult:
        """Ask; or give what the last turn awaits: results of your own tools, decisions on calls, or both.

        Without a question the last turn is taken up where it stopped, as after a crash.
        Raises Conflict while a turn is running, InvalidRequest for a result or a decision that nothing awaits.
        """
        last: AgentEvent | None = None
        async with aclosing(self.stream(question)) as events:
            async for event in events:
                last = event
        if isinstance(last, TurnAwaitingInput):
            return AgentResult(last.turn, last.tool_calls, last.approvals)
        assert isinstance(last, TurnCompleted)
        return AgentResult(last.turn)

    async def approve(self, *calls: ToolCall | str) -> AgentResult:
        """Say yes to these calls (or call ids) and go on; while others are undecided, the turn goes on waiting."""
        return await self.decide(*(ApprovalDecision(tool_call_id=_id(call), approve=True) for call in calls))

    async def deny(self, *calls: ToolCall | str, reason: str | None = None) -> AgentResult:
        """Say no to these calls (or call ids) and go on; the reason is told to the model."""
        return await self.decide(
            *(ApprovalDecision(tool_call_id=_id(call), approve=False, reason=reason) for call in calls)
        )

    async def decide(self, *decisions: ApprovalDecision) -> AgentResult:
        """Say yes to some calls and no to others, at once."""
        return await self.run(decisions)

    async def stream(self, question: Question | None = None) -> AsyncGenerator[AgentEvent, None]:
        """The same as `run` as it happens; the last event is TurnCompleted or TurnAwaitingInput.

        Closing it stops the work; the steps that were finished stay in the session.
        """
        if self._is_running:
            raise Conflict("a turn is running in this session; wait for its end or open another session")
        self._is_running = True
        try:
            events = self._begun(question)
            while True:
                decisions: list[ApprovalDecision] = []
                async with aclosing(events):
                    async for event in events:
                        if isinstance(event, TurnAwaitingInput) and event.approvals:
                            decisions = await decided_by(self._on_approval, event.approvals)
                        if not decisions:
                            yield event
                if not decisions:
                    return
                events = self._conversation.go_on([], decisions)
        finally:
            self._is_running = False

    def _begun(self, question: Question | None) -> AsyncGenerator[AgentEvent, None]:
        if question is None:
            return self._conversation.go_on([], [])
        messages, decisions = _input(question)
        results = [message for message in messages if isinstance(message, ToolMessage)]
        if not results and not decisions:
            return self._conversation.begin(messages)
        if len(results) < len(messages):
            raise InvalidRequest("results of tools answer a turn that awaits them, and come without other messages")
        return self._conversation.go_on(results, decisions)


async def decided_by(approver: Approver | None, calls: Sequence[ToolCall]) -> list[ApprovalDecision]:
    """What the application's own function says of these calls, one after the other; nothing without one."""
    if approver is None:
        return []
    decisions = []
    for call in calls:
        word = approver(call)
        if inspect.isawaitable(word):
            word = await word
        reason = word if isinstance(word, str) else None
        decisions.append(ApprovalDecision(tool_call_id=call.id, approve=word is True, reason=reason))
    return decisions


def _id(call: ToolCall | str) -> str:
    return call if isinstance(call, str) else call.id


def _input(question: Question) -> tuple[list[UserMessage | ToolMessage], list[ApprovalDecision]]:
    messages: list[UserMessage | ToolMessage] = []
    decisions: list[ApprovalDecision] = []
    given: list[Message | ApprovalDecision] = (
        [*conversation(question)] if isinstance(question, str | UserMessage) else [*question]
    )
    for one in given:
        if isinstance(one, ApprovalDecision):
            decisions.append(one)
        elif isinstance(one, UserMessage | ToolMessage):
            messages.append(one)
        else:
            raise InvalidRequest(f"a turn begins with what the user says, not with a message of role {one.role!r}")
    return messages, decisions
