"""The faces of Agent and AgentSession for code that does not await."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

from llama_stack.agents.tools import Tool
from llama_stack.api.agents import AgentEvent, ApprovalDecision, Session, Turn
from llama_stack.api.messages import ToolCall
from llama_stack.errors import InvalidRequest
from llama_stack.sdk.agent import Agent, AgentOptions
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.sdk.session import AgentResult, AgentSession, Question

if TYPE_CHECKING:
    from llama_stack.sdk.stack import SyncLlamaStack


class SyncAgent:
    """An Agent for code that does not await; arguments as there, with a SyncLlamaStack."""

    def __init__(self, stack: "SyncLlamaStack", **options: Unpack[AgentOptions]) -> None:
        if not isinstance(stack, LoopThread):
            raise InvalidRequest(
                "SyncAgent needs a stack that was opened by a plain `with`; on one of `async with` use Agent",
                param="stack",
            )
        self._stack = stack
        self.held = Agent(stack.held, **options)

    def run(self, question: Question) -> AgentResult:
        """See Agent.run."""
        return self.session().run(question)

    def stream(self, question: Question) -> Iterator[AgentEvent]:
        """See Agent.stream."""
        return self.session().stream(question)

    def session(self) -> "SyncAgentSession":
        """See Agent.session."""
        return SyncAgentSession(self._stack, self.held.session())

    def open_session(self, name: str | None = None, *, session_id: str | None = None) -> "SyncAgentSession":
        """See Agent.open_session."""
        return SyncAgentSession(self._stack, self._stack.wait(self.held.open_session(name, session_id=session_id)))

    def sessions(self) -> list[Session]:
        """See Agent.sessions."""
        return self._stack.wait(self.held.sessions())

    def delete_session(self, session_id: str) -> None:
        """See Agent.delete_session."""
        self._stack.wait(self.held.delete_session(session_id))

    def as_tool(self, *, name: str | None = None, description: str | None = None, needs_approval: bool = False) -> Tool:
        """See Agent.as_tool."""
        return self.held.as_tool(name=name, description=description, needs_approval=needs_approval)


class SyncAgentSession:
    """See AgentSession."""

    def __init__(self, stack: "SyncLlamaStack", session: AgentSession) -> None:
        self._stack = stack
        self._session = session

    @property
    def session_id(self) -> str:
        return self._session.session_id

    @property
    def turns(self) -> list[Turn]:
        return self._session.turns

    def run(self, question: Question | None = None) -> AgentResult:
        """See AgentSession.run."""
        return self._stack.wait(self._session.run(question))

    def stream(self, question: Question | None = None) -> Iterator[AgentEvent]:
        """See AgentSession.stream."""
        return self._stack.iterate(self._session.stream(question))

    def approve(self, *calls: ToolCall | str) -> AgentResult:
        """See AgentSession.approve."""
        return self._stack.wait(self._session.approve(*calls))

    def deny(self, *calls: ToolCall | str, reason: str | None = None) -> AgentResult:
        """See AgentSession.deny."""
        return self._stack.wait(self._session.deny(*calls, reason=reason))

    def decide(self, *decisions: ApprovalDecision) -> AgentResult:
        """See AgentSession.decide."""
        return self._stack.wait(self._session.decide(*decisions))
