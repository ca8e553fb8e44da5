"""connect(url): a stack behind its REST API, not to be told from one in this process."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from urllib.parse import quote

import httpx

from llama_stack.api.agents import Agents
from llama_stack.api.common import Caller, Health, HealthStatus, JsonObject
from llama_stack.api.files import Files
from llama_stack.api.inference import (
    Capabilities,
    ChatEvent,
    ChatRequest,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    Inference,
    ProviderModel,
    RerankAnswer,
    RerankRequest,
)
from llama_stack.api.memory import Memory
from llama_stack.api.resources import Model
from llama_stack.api.stack import ProviderState
from llama_stack.api.token_estimate import estimated_text_tokens
from llama_stack.client.agents import RemoteAgents
from llama_stack.client.exchange import Exchange
from llama_stack.client.files import RemoteFiles
from llama_stack.client.memory import RemoteMemory
from llama_stack.errors import InvalidRequest, StackError, UnsupportedParameter
from llama_stack.transport import open_transport
from llama_stack.wire.openai_chat import ChatChunkDecoder, decode_token_count, encode_chat_request
from llama_stack.wire.openai_completions import CompletionChunkDecoder, encode_completion_request
from llama_stack.wire.openai_embeddings import decode_embeddings, encode_embedding_request
from llama_stack.wire.openai_models import decode_model
from llama_stack.wire.rerank import decode_rerank, encode_rerank_request

WHOLE_ANSWER_TIMEOUT_S = 600.0
"""Least patience with an answer in one piece: nothing comes before the model has said its last word."""

# What a connection's own questions (its health, the list of models) are asked as; the server knows the real owner.
_SELF = Caller(owner="local")


class RemoteInference:
    """Inference over all providers of the stack at the other end."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def add_model(self, model: Model) -> Model:
        """Models belong to the server's distribution; nothing is to be done here."""
        return model

    async def list_models(self) -> list[ProviderModel]:
        return [ProviderModel.of(model) for model in await _models(self._exchange, _SELF)]

    def capabilities(self, model: str) -> Capabilities:
        """All that can be asked for: the server refuses what its provider cannot do, and says so before any work.
        What a provider vouches for is not known here.
        """
        return Capabilities(**{**dict.fromkeys(Capabilities.model_fields, True), "form_guaranteed": False})

    async def health(self) -> Health:
        try:
            await self._exchange.get("v1/health", _SELF)
        except StackError as error:
            return Health(status=HealthStatus.DEGRADED, message=error.message)
        return Health(status=HealthStatus.OK)

    def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        if not request.tools and request.tool_choice not in ("auto", "none"):
            # OpenAI's wire has no place for a choice without tools; left out, it would be ignored in silence.
            raise UnsupportedParameter("tool_choice asks for a call but no tools are offered", param="tool_choice")
        body = encode_chat_request(request, stream=not request.whole)
        return self._answer("v1/chat/completions", body, caller, ChatChunkDecoder())

    def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        body = encode_completion_request(request, stream=not request.whole)
        return self._answer("v1/completions", body, caller, CompletionChunkDecoder())

    async def _answer(
        self, path: str, body: JsonObject, caller: Caller, decoder: ChatChunkDecoder | CompletionChunkDecoder
    ) -> AsyncGenerator[ChatEvent, None]:
        if "stream" in body:
            async with aclosing(self._exchange.stream(path, body, caller)) as chunks:
                async for chunk in chunks:
                    for event in decoder.feed(chunk):
                        yield event
        else:
            whole = await self._exchange.post(path, body, caller, patience_s=WHOLE_ANSWER_TIMEOUT_S)
            for event in decoder.feed(whole):
                yield event
        for event in decoder.end(complete=True):
            yield event

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        body = await self._exchange.post("v1/embeddings", encode_embedding_request(request), caller)
        return decode_embeddings(body, expected=len(request.inputs))

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer:
        body = await self._exchange.post("v1/rerank", encode_rerank_request(request), caller)
        return decode_rerank(body, documents=len(request.documents))

    async def count_tokens(self, request: ChatRequest, caller: Caller) -> int:
        body = encode_chat_request(request, stream=False)
        counted = await self._exchange.post("v1/chat/completions/input_tokens", body, caller)
        return decode_token_count(counted)

    async def count_texts(self, model: str, texts: Sequence[str], caller: Caller) -> list[int]:
        """Estimates: a server counts the texts that it cuts itself."""
        return [estimated_text_tokens(text) for text in texts]


class ConnectedStack:
    """A running stack at the other end of a connection; fulfils api.stack.Stack."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._inference = RemoteInference(exchange)

    @property
    def inference(self) -> Inference:
        return self._inference

    async def list_models(self, caller: Caller) -> list[Model]:
        return await _models(self._exchange, caller)

    async def model(self, identifier: str, caller: Caller) -> Model:
        return decode_model(await self._exchange.get(f"v1/models/{quote(identifier)}", caller))

    async def agents(self) -> Agents:
        return RemoteAgents(self._exchange)

    async def files(self) -> Files:
        return RemoteFiles(self._exchange)

    async def memory(self) -> Memory:
        return RemoteMemory(self._exchange)

    async def providers(self, caller: Caller) -> list[ProviderState]:
        listed = await self._exchange.get("v1/providers", caller)
        return [ProviderState.model_validate(state) for state in listed["data"]]


async def _models(exchange: Exchange, caller: Caller) -> list[Model]:
    listed = await exchange.get("v1/models", caller)
    return [decode_model(model) for model in listed["data"]]


@asynccontextmanager
async def connect(
    url: str,
    *,
    api_key: str | None = None,
    timeout_s: float = 60.0,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[ConnectedStack]:
    """The stack at `url`, with or without the trailing `/v1`.

    timeout_s bounds connecting and each wait for more, not the whole exchange. transport: replaces the network (tests).
    Nothing is asked of the server yet: one that cannot be reached is ProviderUnavailable at the first request.
    Raises InvalidRequest for what is no http(s) address.
    """
    base = url.rstrip("/").removesuffix("/v1")
    if not base.startswith(("http://", "https://")):
        raise InvalidRequest(f"{url!r} is no address of a stack; give one like http://localhost:8321", param="url")
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
    async with httpx.AsyncClient(
        base_url=f"{base}/", headers=headers, timeout=timeout, transport=transport or open_transport()
    ) as http:
        yield ConnectedStack(Exchange(http))
