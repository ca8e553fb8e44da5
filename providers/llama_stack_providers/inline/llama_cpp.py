"""Any GGUF model on this machine's CPU, in llama.cpp: chat, completion, embeddings and reranking, without a server.

Each loaded model lives in a supervised process of its own, on a private socket: native code that fails takes one
request with it, not the stack. `_llama_cpp/` holds the parts.
"""

from collections.abc import AsyncGenerator, AsyncIterator
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
from llama_stack_providers.inline._llama_cpp.embeddings import embed, rerank
from llama_stack_providers.inline._llama_cpp.foreign_chat import foreign_chat, renders_tools
from llama_stack_providers.inline._llama_cpp.llama_chat import llama_chat, llama_family
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
        header = self.models.find(model).header
        if header is None:  # of the hub and not downloaded yet: its first use says so
            return Capabilities(completion=True, grammar=True, tokens_prompt=True)
        generates = header.purpose == "chat"
        is_llama = llama_family(model, header) is not None
        chats = generates and (is_llama or header.chat_template is not None)
        tools = chats and (is_llama or renders_tools(header))
        return Capabilities(
            chat=chats,
            completion=generates,
            embedding=header.purpose == "embedding",
            rerank=header.purpose == "rerank",
            tools=tools,
            tool_choice=tools,
            json_schema=generates,
            grammar=generates,
            logprobs=generates,
            multiple_choices=generates,
            tokens_prompt=True,
        )

    def _require(self, ability: str, model: str, deed: str) -> None:
        if self.models.find(model).header is not None and not getattr(self.capabilities(model), ability):
            raise UnsupportedParameter(f"model {model!r} does not {deed}", param="model")

    async def health(self) -> Health:
        failures = [f"{served.name}: {served.failure}" for served in self.models.served if served.failure]
        if failures:
            return Health(status=HealthStatus.DEGRADED, message="; ".join(failures))
        return Health(status=HealthStatus.OK)

    async def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        self._require("chat", request.model, "chat")
        async with self.models.use(request.model) as engine:
            family = llama_family(request.model, engine.header)
            chat = foreign_chat(engine, request) if family is None else llama_chat(engine, request, family)
            async with aclosing(chat) as events:
                async for event in events:
                    yield event

    async def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        self._require("completion", request.model, "complete raw text")
        async with self.models.use(request.model) as engine, aclosing(complete(engine, request)) as events:
            async for event in events:
                yield event

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        self._require("embedding", request.model, "make embeddings")
        async with self.models.use(request.model) as engine:
            return await embed(engine, request)

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer:
        self._require("rerank", request.model, "rerank")
        async with self.models.use(request.model) as engine:
            return await rerank(engine, request)


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
