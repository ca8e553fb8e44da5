"""LlamaStack: a running stack as an application sees it, opened in this process or connected to."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from llama_stack.api.agents import Agents
from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.files import Files
from llama_stack.api.inference import ChatAnswer, ChatEvent, EmbeddingAnswer, EmbeddingRequest, Inference
from llama_stack.api.messages import Message
from llama_stack.api.resources import Model, ModelType
from llama_stack.api.stack import ProviderState, ServedStack, Stack
from llama_stack.errors import NotFound
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.sdk.memory import StackMemory
from llama_stack.sdk.requests import chat_request
from llama_stack.sdk.sync_memory import SyncStackMemory

if TYPE_CHECKING:
    import httpx

LOCAL_OWNER = "local"


class LlamaStack:
    """A running stack; it fulfils `api.stack.Stack`, with short ways for what is done most.

    caller: on whose behalf requests are made. Get one from `open` or `connect`:

        async with LlamaStack.open("starter") as stack:
            answer = await stack.chat("Hello")
        with LlamaStack.connect("http://localhost:8321") as stack:  # a plain `with` gives the sync face
            answer = stack.chat("Hello")
    """

    def __init__(self, stack: Stack, caller: Caller) -> None:
        self.caller = caller
        self._stack = stack
        self._first_models: dict[ModelType, str] = {}
        self._memory = StackMemory(self, lambda: cast("ServedStack", self._stack).memory())

    @staticmethod
    def open(
        distribution: str = "starter",
        *,
        model: str | None = None,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        provider_data: Mapping[str, Any] | None = None,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> "StackOpening":
        """Open a distribution, by name or path, in this process.

        model: a GGUF path, `hf:owner/repo/file.gguf` or the name of a downloaded model, served in place of the
        embedded one. home: the state folder. env: what `${env...}` reads. overrides: dotted keys of the file with
        their values. provider_data: credentials of yours for its providers. transport: replaces the network (tests).
        Raises ConfigError on entry for a wrong setting; a provider that cannot be reached is degraded instead.
        """

        @asynccontextmanager
        async def enter() -> AsyncIterator[LlamaStack]:
            from llama_stack.compose import open_stack
            from llama_stack.distribution import load_distribution

            loaded = load_distribution(distribution, env=env, overrides=overrides, model=model)
            async with open_stack(loaded, home=home, transport=transport) as stack:
                yield LlamaStack(stack, _caller(provider_data))

        return StackOpening(enter)

    @staticmethod
    def connect(
        url: str = "http://localhost:8321",
        *,
        api_key: str | None = None,
        provider_data: Mapping[str, Any] | None = None,
        timeout_s: float = 60.0,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> "StackOpening":
        """Connect to a stack that is served at `url`.

        provider_data: credentials of yours for the server's providers, sent with each request and kept nowhere.
        timeout_s: longest wait for a connection or for more of an answer.
        """

        @asynccontextmanager
        async def enter() -> AsyncIterator[LlamaStack]:
            from llama_stack.client.stack import connect

            async with connect(url, api_key=api_key, timeout_s=timeout_s, transport=transport) as stack:
                yield LlamaStack(stack, _caller(provider_data))

        return StackOpening(enter)

    # --- the protocol ----------------------------------------------------------------------------------------------

    @property
    def inference(self) -> Inference:
        return self._stack.inference

    async def list_models(self, caller: Caller | None = None) -> list[Model]:
        return await self._stack.list_models(caller or self.caller)

    async def model(self, identifier: str, caller: Caller | None = None) -> Model:
        return await self._stack.model(identifier, caller or self.caller)

    async def providers(self, caller: Caller | None = None) -> list[ProviderState]:
        return await self._stack.providers(caller or self.caller)

    @property
    def served(self) -> ServedStack | None:
        """The stack with its tools, shields and memory, which it has in the process it runs in and nowhere else."""
        stack: Any = self._stack
        return stack if "registry" in dir(stack) else None

    async def agents(self) -> Agents:
        """The agents' service of the stack. Raises ConfigError when its database cannot be used."""
        agents: Agents = await cast("ServedStack", self._stack).agents()
        return agents

    async def files(self) -> Files:
        """The files' service of the stack. Raises ConfigError when its folder or its database cannot be used."""
        files: Files = await cast("ServedStack", self._stack).files()
        return files

    # --- short ways ------------------------------------------------------------------------------------------------

    @property
    def memory(self) -> StackMemory:
        """Banks of documents, and search in them."""
        return self._memory

    async def chat(
        self, messages: str | Message | Sequence[Message], *, model: str | None = None, **options: Any
    ) -> ChatAnswer:
        """A whole answer; `answer.text` is its text. Arguments are those of `stream_chat`."""
        return await collect(self.stream_chat(messages, model=model, **{"whole": True, **options}))

    async def stream_chat(
        self, messages: str | Message | Sequence[Message], *, model: str | None = None, **options: Any
    ) -> AsyncGenerator[ChatEvent, None]:
        """The answer as it is made.

        messages: what the user says, or the conversation. model: default is the first language model of the stack.
        options: fields of ChatRequest (`tools`, `response_format`, ...) and of Sampling (`temperature`, `max_tokens`,
        ...) by name; `instructions` is a system message before all others; a Pydantic model class as
        `response_format` asks for JSON of that shape. Raises InvalidRequest for an unknown or wrong option.
        """
        request = chat_request(messages, model or await self.default_model(ModelType.LLM), options)
        async with aclosing(self.inference.stream_chat(request, self.caller)) as events:
            async for event in events:
                yield event

    async def embed(self, texts: str | Sequence[str], *, model: str | None = None) -> EmbeddingAnswer:
        """One vector per text, in order. model: default is the first embedding model of the stack."""
        inputs = [texts] if isinstance(texts, str) else list(texts)
        request = EmbeddingRequest(model=model or await self.default_model(ModelType.EMBEDDING), inputs=inputs)
        return await self.inference.embed(request, self.caller)

    async def default_model(self, kind: ModelType = ModelType.LLM) -> str:
        """The first model of a kind that the stack lists. Raises NotFound when there is none."""
        if kind not in self._first_models:
            models = await self.list_models()
            first = next((model.identifier for model in models if model.model_type == kind), None)
            if first is None:
                raise NotFound(
                    f"this stack has no model of type {kind.value}; name one in its distribution", param="model"
                )
            self._first_models[kind] = first
        return self._first_models[kind]


class SyncLlamaStack(LoopThread[LlamaStack]):
    """A LlamaStack for code that does not await.

    held: the async stack inside. `wait` and `iterate` reach whatever has no short way here:
    `stack.wait(stack.held.inference.rerank(request, stack.held.caller))`.
    """

    @property
    def memory(self) -> SyncStackMemory:
        """See LlamaStack.memory."""
        return SyncStackMemory(self, self.held.memory)

    def chat(
        self, messages: str | Message | Sequence[Message], *, model: str | None = None, **options: Any
    ) -> ChatAnswer:
        """See LlamaStack.chat."""
        return self.wait(self.held.chat(messages, model=model, **options))

    def stream_chat(
        self, messages: str | Message | Sequence[Message], *, model: str | None = None, **options: Any
    ) -> Iterator[ChatEvent]:
        """See LlamaStack.stream_chat."""
        return self.iterate(self.held.stream_chat(messages, model=model, **options))

    def embed(self, texts: str | Sequence[str], *, model: str | None = None) -> EmbeddingAnswer:
        """See LlamaStack.embed."""
        return self.wait(self.held.embed(texts, model=model))

    def default_model(self, kind: ModelType = ModelType.LLM) -> str:
        """See LlamaStack.default_model."""
        return self.wait(self.held.default_model(kind))

    def list_models(self) -> list[Model]:
        return self.wait(self.held.list_models())

    def model(self, identifier: str) -> Model:
        return self.wait(self.held.model(identifier))

    def providers(self) -> list[ProviderState]:
        return self.wait(self.held.providers())


class StackOpening:
    """Opens one stack, once.

    `async with opening as stack` gives a LlamaStack. `with opening as stack` gives a SyncLlamaStack, whose work is
    done in a thread of its own, so that it can be used inside a running event loop, too. `opening.start()` is the
    `with` of those who cannot indent, as in the cells of a notebook; `stack.close()` ends it.
    """

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[LlamaStack]]) -> None:
        self._enter = enter
        self._entered: AbstractAsyncContextManager[LlamaStack] | None = None
        self._started: SyncLlamaStack | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(LlamaStack, name):
                raise AttributeError(
                    f"the stack is not open yet, so it has no {name!r}: use it inside `with LlamaStack.open(...) as "
                    "stack:`, or `async with`, or call start() first"
                )
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    async def __aenter__(self) -> LlamaStack:
        if self._entered is not None:
            raise RuntimeError("this stack was opened already; call LlamaStack.open or connect again")
        self._entered = self._enter()
        return await self._entered.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._entered is not None
        return await self._entered.__aexit__(kind, error, trace)

    def start(self) -> SyncLlamaStack:
        return SyncLlamaStack(self._enter)

    def __enter__(self) -> SyncLlamaStack:
        self._started = self.start()
        return self._started

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._started is not None
        self._started.close()


def _caller(provider_data: Mapping[str, Any] | None) -> Caller:
    return Caller(owner=LOCAL_OWNER, provider_credentials=dict(provider_data or {}))
