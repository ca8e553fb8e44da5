"""One stack seen four ways: from async and from sync code, in this process and over HTTP from a real server.

The tests are coroutines, so the sync ways are used inside a running event loop, which is where sync wrappers break.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

from llama_stack import Agent, AgentResult, LlamaStack, SyncAgent, SyncLlamaStack
from llama_stack.api.agents import AgentEvent
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatAnswer, ChatEvent, EmbeddingAnswer
from llama_stack.api.messages import ToolMessage
from llama_stack.api.resources import Model
from llama_stack.api.stack import ProviderState
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.sdk.stack import StackOpening
from llama_stack.testing.scripted import Script, ScriptedInference, ScriptedStack

CREDENTIALS = {"together_api_key": "s3cret-ü"}


class Conversation(Protocol):
    async def run(self, question: str | Sequence[ToolMessage]) -> AgentResult: ...


class Way(Protocol):
    """What an application does, spelled alike for all four ways."""

    async def chat(self, question: Any, **options: Any) -> ChatAnswer: ...

    async def stream(self, question: Any, *, leave_after: int | None = None, **options: Any) -> list[ChatEvent]:
        """The events; left early after so many."""
        ...

    async def embed(self, texts: Any) -> EmbeddingAnswer: ...

    async def list_models(self) -> list[Model]: ...

    async def model(self, identifier: str) -> Model: ...

    async def providers(self) -> list[ProviderState]: ...

    async def ask(self, operation: str, request: Any) -> Any:
        """`embed`, `rerank` or `count_tokens` of the protocol."""
        ...

    async def agent_run(self, question: str, **options: Any) -> AgentResult: ...

    async def agent_stream(self, question: str, **options: Any) -> list[AgentEvent]: ...

    def conversation(self, **options: Any) -> Conversation: ...

    async def wait_for(self, event: asyncio.Event) -> None:
        """Wait for an event of the scripted model, on the loop it lives on."""
        ...


class AsyncWay:
    def __init__(self, stack: LlamaStack, server: LoopThread[str] | None) -> None:
        self.stack = stack
        self._server = server

    async def chat(self, question: Any, **options: Any) -> ChatAnswer:
        return await self.stack.chat(question, **options)

    async def stream(self, question: Any, *, leave_after: int | None = None, **options: Any) -> list[ChatEvent]:
        seen: list[ChatEvent] = []
        async with aclosing(self.stack.stream_chat(question, **options)) as events:
            async for event in events:
                seen.append(event)
                if len(seen) == leave_after:
                    break
        return seen

    async def embed(self, texts: Any) -> EmbeddingAnswer:
        return await self.stack.embed(texts)

    async def list_models(self) -> list[Model]:
        return await self.stack.list_models()

    async def model(self, identifier: str) -> Model:
        return await self.stack.model(identifier)

    async def providers(self) -> list[ProviderState]:
        return await self.stack.providers()

    async def ask(self, operation: str, request: Any) -> Any:
        return await getattr(self.stack.inference, operation)(request, self.stack.caller)

    async def agent_run(self, question: str, **options: Any) -> AgentResult:
        return await Agent(self.stack, **options).run(question)

    async def agent_stream(self, question: str, **options: Any) -> list[AgentEvent]:
        return [event async for event in Agent(self.stack, **options).stream(question)]

    def conversation(self, **options: Any) -> Conversation:
        return Agent(self.stack, **options).session()

    async def wait_for(self, event: asyncio.Event) -> None:
        async with asyncio.timeout(60):
            if self._server is None:
                await event.wait()
            else:
                await asyncio.to_thread(self._server.wait, event.wait())


class SyncConversation:
    def __init__(self, stack: SyncLlamaStack, options: Any) -> None:
        self._session = SyncAgent(stack, **options).session()

    async def run(self, question: str | Sequence[ToolMessage]) -> AgentResult:
        return self._session.run(question)


class SyncWay:
    def __init__(self, stack: SyncLlamaStack, server: LoopThread[str] | None) -> None:
        self.stack = stack
        self._loop_thread: LoopThread[Any] = server or stack

    async def chat(self, question: Any, **options: Any) -> ChatAnswer:
        return self.stack.chat(question, **options)

    async def stream(self, question: Any, *, leave_after: int | None = None, **options: Any) -> list[ChatEvent]:
        seen: list[ChatEvent] = []
        for event in self.stack.stream_chat(question, **options):
            seen.append(event)
            if len(seen) == leave_after:
                break
        return seen

    async def embed(self, texts: Any) -> EmbeddingAnswer:
        return self.stack.embed(texts)

    async def list_models(self) -> list[Model]:
        return self.stack.list_models()

    async def model(self, identifier: str) -> Model:
        return self.stack.model(identifier)

    async def providers(self) -> list[ProviderState]:
        return self.stack.providers()

    async def ask(self, operation: str, request: Any) -> Any:
        return self.stack.wait(getattr(self.stack.held.inference, operation)(request, self.stack.held.caller))

    async def agent_run(self, question: str, **options: Any) -> AgentResult:
        return SyncAgent(self.stack, **options).run(question)

    async def agent_stream(self, question: str, **options: Any) -> list[AgentEvent]:
        return list(SyncAgent(self.stack, **options).stream(question))

    def conversation(self, **options: Any) -> Conversation:
        return SyncConversation(self.stack, options)

    async def wait_for(self, event: asyncio.Event) -> None:
        async with asyncio.timeout(60):
            await asyncio.to_thread(self._loop_thread.wait, event.wait())


def in_process(inference: ScriptedInference) -> StackOpening:
    @asynccontextmanager
    async def enter() -> AsyncIterator[LlamaStack]:
        yield LlamaStack(ScriptedStack(inference), Caller(owner="local", provider_credentials=CREDENTIALS))

    return StackOpening(enter)


def play(inference: ScriptedInference, *scripts: Script) -> None:
    """Let the model give these answers, one each, and then the last one again and again."""
    inference._scripts = list(scripts)
