"""A stack with memory seen four ways: from async and from sync code, in this process and over a real server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_stack import Agent, LlamaStack, SyncAgent, SyncLlamaStack
from llama_stack.api.common import Caller
from llama_stack.sdk.adding import Added
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.sdk.session import AgentResult
from llama_stack.sdk.stack import StackOpening
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference
from tests.memory.hashed import open_memory_stack


@dataclass(frozen=True)
class MemoryFace:
    """`stack.memory`, spelled alike for both faces."""

    stack: Any

    async def call(self, operation: str, *args: Any, **options: Any) -> Any:
        outcome = getattr(self.stack.memory, operation)(*args, **options)
        return outcome if isinstance(self.stack, SyncLlamaStack) else await outcome

    async def add_each(self, *sources: Any, **options: Any) -> list[Added]:
        events = self.stack.memory.add_each(*sources, **options)
        return list(events) if isinstance(self.stack, SyncLlamaStack) else [event async for event in events]

    async def ask(self, question: str, *, kept: bool = False, **agent: Any) -> AgentResult:
        if isinstance(self.stack, SyncLlamaStack):
            sync_agent = SyncAgent(self.stack, **agent)
            return (sync_agent.open_session("s") if kept else sync_agent.session()).run(question)
        one = Agent(self.stack, **agent)
        return await (await one.open_session("s") if kept else one.session()).run(question)


@dataclass(frozen=True)
class MemoryWay:
    """One of the four. A stack that is opened again on the same home is what a restart finds."""

    face: str
    place: str
    home: Path

    @asynccontextmanager
    async def open(
        self, *scripts: Script, inference: ScriptedInference | None = None, **settings: Any
    ) -> AsyncIterator[MemoryFace]:
        if self.place == "in-process":

            @asynccontextmanager
            async def enter() -> AsyncIterator[LlamaStack]:
                async with open_memory_stack(self.home, *scripts, inference=inference, **settings) as stack:
                    yield LlamaStack(stack, Caller(owner="local"))

            async with self._faced(StackOpening(enter)) as face:
                yield face
            return

        @asynccontextmanager
        async def served() -> AsyncIterator[str]:
            async with (
                open_memory_stack(self.home, *scripts, inference=inference, **settings) as stack,
                serving(create_app(stack)) as url,
            ):
                yield url

        with LoopThread(served) as server:
            async with self._faced(LlamaStack.connect(server.held)) as face:
                yield face

    @asynccontextmanager
    async def _faced(self, opening: StackOpening) -> AsyncIterator[MemoryFace]:
        if self.face == "async":
            async with opening as stack:
                yield MemoryFace(stack)
        else:
            with opening as sync_stack:
                yield MemoryFace(sync_stack)
