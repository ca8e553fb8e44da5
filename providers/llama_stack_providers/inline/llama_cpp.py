"""Any GGUF model on this machine's CPU, in llama.cpp: chat, completion, embeddings and reranking, without a server.

Each loaded model lives in a supervised process of its own, on a private socket: native code that fails takes one
request with it, not the stack. `_llama_cpp/` holds the parts.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from llama_stack.api.common import Caller, Health, HealthStatus
from llama_stack.api.inference import (
    Capabilities,
    ChatEvent,
    ChatRequest,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    ProviderModel,
    RerankAnswer,
    RerankRequest,
)
from llama_stack.api.resources import Model
from llama_stack.errors import UnsupportedParameter
from llama_stack.provider import Ground, InferenceProvider
from llama_stack_providers.inline._llama_cpp.completion import complete
from llama_stack_providers.inline._llama_cpp.counting import count_texts
from llama_stack_providers.inline._llama_cpp.embeddings import embed, rerank
from llama_stack_providers.inline._llama_cpp.engine import Engine
from llama_stack_providers.inline._llama_cpp.foreign_chat import foreign_chat, foreign_prompt
from llama_stack_providers.inline._llama_cpp.generation import count_tokens
from llama_stack_providers.inline._llama_cpp.llama_chat import llama_chat, llama_prompt
from llama_stack_providers.inline._llama_cpp.models import Models
from llama_stack_providers.inline._llama_cpp.settings import Config


class LlamaCppInference:
    """Fulfils the Inference protocol over the models of a distribution."""

    def __init__(self, models: Models) -> None:
        self.models = models

    async def add_model(self, model: Model) -> Model:
        return await self.models.add(model)

    async def list_models(self) -> list[ProviderModel]:
        """Nothing beyond what the distribution lists: no request may name a file of this machine."""
        return []

    def capabilities(self, model: str) -> Capabilities:
        return self.models.find(model).capabilities

    async def health(self) -> Health:
        failures = [f"{served.identifier}: {served.failure}" for served in self.models.served if served.failure]
        if failures:
            return Health(status=HealthStatus.DEGRADED, message="; ".join(failures))
        loading = [served.identifier for served in self.models.served if served.loading.locked()]
        if loading:
            return Health(status=HealthStatus.STARTING, message=f"loading {', '.join(loading)}")
        return Health(status=HealthStatus.OK)

    @asynccontextmanager
    async def _engine(self, ability: str, model: str, deed: str) -> AsyncIterator[Engine]:
        """The loaded model, if it has the ability; of a file of the hub that is known only once it is loaded."""
        served = self.models.find(model)
        if getattr(served.capabilities, ability):
            async with self.models.use(model) as engine:
                if getattr(served.capabilities, ability):
                    yield engine
                    return
        raise UnsupportedParameter(f"model {served.identifier!r} does not {deed}", param="model")

    async def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        async with self._engine("chat", request.model, "chat") as engine:
            family = engine.family
            chat = foreign_chat(engine, request) if family is None else llama_chat(engine, request, family)
            async with aclosing(chat) as events:
                async for event in events:
                    yield event

    async def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        async with (
            self._engine("completion", request.model, "complete raw text") as engine,
            aclosing(complete(engine, request)) as events,
        ):
            async for event in events:
                yield event

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        async with self._engine("embedding", request.model, "make embeddings") as engine:
            return await embed(engine, request)

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer:
        async with self._engine("rerank", request.model, "rerank") as engine:
            return await rerank(engine, request)

    async def count_tokens(self, request: ChatRequest, caller: Caller) -> int:
        async with self._engine("chat", request.model, "chat") as engine:
            family = engine.family
            prompt = await foreign_prompt(engine, request) if family is None else llama_prompt(engine, request, family)
            return await count_tokens(engine, prompt)

    async def count_texts(self, model: str, texts: Sequence[str], caller: Caller) -> list[int]:
        async with self.models.use(model) as engine:
            return await count_texts(engine, texts)


@asynccontextmanager
async def open_llama_cpp(config: Config, ground: Ground) -> AsyncIterator[LlamaCppInference]:
    async with Models(config, ground.home) as models:
        yield LlamaCppInference(models)


provider = InferenceProvider(
    summary="Any GGUF model on this machine, in the embedded llama.cpp engine",
    config=Config,
    open=open_llama_cpp,
    requires=("xllamacpp>=2026.10,<2027",),
)
