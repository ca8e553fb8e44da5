"""A stack that keeps agents, seen four ways, and opened again on what it kept: what a restart finds."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llama_stack import Agent, AgentResult, ApprovalDecision, LlamaStack, SyncAgent, ToolMessage
from llama_stack.api.agents import AgentEvent, Session, Turn
from llama_stack.api.common import Caller
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.sdk.stack import StackOpening
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack

Question = str | Sequence[ToolMessage | ApprovalDecision] | None


class KeptSession(Protocol):
    """A session, spelled alike for both faces."""

    @property
    def session_id(self) -> str: ...

    @property
    def turns(self) -> list[Turn]: ...

    async def run(self, question: Question = None) -> AgentResult: ...

    async def stream(self, question: Question = None, *, until: type[Any] | None = None) -> list[AgentEvent]:
        """The events; left after the first one of the type `until`."""
        ...


class Bench(Protocol):
    """An open stack and one agent at a time on it."""

    async def open_session(self, name: str | None = None, session_id: str | None = None, /) -> KeptSession: ...

    async def sessions(self) -> list[Session]: ...


@dataclass(frozen=True)
class AsyncKeptSession:
    session: Any

    @property
    def session_id(self) -> str:
        return str(self.session.session_id)

    @property
    def turns(self) -> list[Turn]:
        turns: list[Turn] = self.session.turns
        return turns

    async def run(self, question: Question = None) -> AgentResult:
        result: AgentResult = await self.session.run(question)
        return result

    async def stream(self, question: Question = None, *, until: type[Any] | None = None) -> list[AgentEvent]:
        seen: list[AgentEvent] = []
        events = self.session.stream(question)
        async for event in events:
            seen.append(event)
            if until is not None and isinstance(event, until):
                break
        await events.aclose()
        return seen


@dataclass(frozen=True)
class SyncKeptSession(AsyncKeptSession):
    async def run(self, question: Question = None) -> AgentResult:
        result: AgentResult = self.session.run(question)
        return result

    async def stream(self, question: Question = None, *, until: type[Any] | None = None) -> list[AgentEvent]:
        seen: list[AgentEvent] = []
        events = self.session.stream(question)
        for event in events:
            seen.append(event)
            if until is not None and isinstance(event, until):
                break
        events.close()
        return seen


@dataclass(frozen=True)
class AsyncBench:
    agent: Agent

    async def open_session(self, name: str | None = None, session_id: str | None = None, /) -> KeptSession:
        return AsyncKeptSession(await self.agent.open_session(name, session_id=session_id))

    async def sessions(self) -> list[Session]:
        return await self.agent.sessions()


@dataclass(frozen=True)
class SyncBench:
    agent: SyncAgent

    async def open_session(self, name: str | None = None, session_id: str | None = None, /) -> KeptSession:
        return SyncKeptSession(self.agent.open_session(name, session_id=session_id))

    async def sessions(self) -> list[Session]:
        return self.agent.sessions()


@dataclass(frozen=True)
class Way:
    """One of the four ways to a stack that keeps its state in `home`."""

    face: str
    place: str
    home: Path

    @asynccontextmanager
    async def open(
        self, *scripts: Script, inference: ScriptedInference | None = None, **agent: Any
    ) -> AsyncIterator[Bench]:
        """The stack, until the process that holds it ends; and the agent as its program defines it."""
        script = inference or ScriptedInference(*scripts)
        more = {name: agent.pop(name) for name in ("groups", "shields") if name in agent}

        def opened() -> AbstractAsyncContextManager[Any]:
            return open_scripted_stack(
                inference=script, home=self.home, tools=more.get("groups"), shields=more.get("shields")
            )

        with self._opening(opened) as opening:
            if self.face == "async":
                async with opening as stack:
                    yield AsyncBench(Agent(stack, **agent))
            else:
                with opening as sync_stack:
                    yield SyncBench(SyncAgent(sync_stack, **agent))

    @contextmanager
    def _opening(self, opened: Callable[[], AbstractAsyncContextManager[Any]]) -> Iterator[StackOpening]:
        if self.place == "in-process":

            @asynccontextmanager
            async def enter() -> AsyncIterator[LlamaStack]:
                async with opened() as stack:
                    yield LlamaStack(stack, Caller(owner="local"))

            yield StackOpening(enter)
            return

        @asynccontextmanager
        async def served() -> AsyncIterator[str]:
            async with opened() as stack, serving(create_app(stack)) as url:
                yield url

        with LoopThread(served) as server:
            yield LlamaStack.connect(server.held)
