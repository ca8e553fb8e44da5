"""OpenAIDialect: inference by any server that speaks OpenAI's wire format."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import orjson

from llama_stack.api.common import Caller, Health, HealthStatus, JsonObject
from llama_stack.api.inference import (
    Capabilities,
    ChatEvent,
    ChatRequest,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    PartialInference,
    ProviderModel,
    RerankAnswer,
    RerankRequest,
)
from llama_stack.api.resources import Model
from llama_stack.errors import ConfigError, InvalidRequest, ProviderFailed, StackError, UnsupportedParameter
from llama_stack.wire.openai_chat import ChatChunkDecoder, encode_chat_request
from llama_stack.wire.openai_completions import CompletionChunkDecoder, encode_completion_request
from llama_stack.wire.openai_embeddings import decode_embeddings, encode_embedding_request
from llama_stack.wire.openai_errors import raise_error_in_answer, upstream_error
from llama_stack.wire.openai_models import decode_provider_models
from llama_stack.wire.rerank import decode_rerank, encode_rerank_request
from llama_stack.wire.sse import ServerSentEvent, SSEDecoder
from llama_stack_providers.remote._openai.failures import partner_failures
from llama_stack_providers.remote._openai.keys import is_sendable

if TYPE_CHECKING:
    from llama_stack.provider import Answer, Client

MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
HEALTH_TIMEOUT_S = 3.0
AFTER_DONE_S = 0.1
"""How long a stream that said it is done may keep its connection before it is dropped instead of used again."""


class ChunkDecoder(Protocol):
    """Turns the JSON of chunks into events; see `ChatChunkDecoder`."""

    def feed(self, chunk: object) -> list[ChatEvent]: ...

    def end(self, *, complete: bool = False) -> list[ChatEvent]: ...


class OpenAIDialect(PartialInference):
    """Inference over `http`, whose base URL ends where `chat/completions` begins.

    key: sent as bearer token, unless the caller brings its own under the name `credential_name`.
    answer_timeout_s: longest wait for an answer in one piece; between the pieces of a stream it is `http`'s own.
    models: names to list instead of asking the server. secrets: texts besides the key that no error may repeat.
    vision: whether its models read images; the metadata of a single model may say otherwise.
    form_guaranteed: as in `Capabilities`.
    """

    def __init__(
        self,
        http: "Client",
        *,
        key: str | None = None,
        credential_name: str | None = None,
        models: Sequence[str] | None = None,
        secrets: Sequence[str] = (),
        answer_timeout_s: float = 600.0,
        vision: bool = True,
        form_guaranteed: bool = False,
    ) -> None:
        self._http = http
        self._key = key
        self._headers = http.merged(_headers(key))
        self._credential_name = credential_name
        self._models = models
        self._secrets = tuple(secrets)
        self._answer_timeout_s = answer_timeout_s
        self._vision = vision
        self._form_guaranteed = form_guaranteed
        self._host = http.base_url.host
        self._who = f"the server at {http.base_url.copy_with(userinfo=b'', query=None)}".rstrip("/")

    # --- what can be asked -----------------------------------------------------------------------------------------

    async def add_model(self, model: Model) -> Model:
        """Raises ConfigError for a `vision` that is neither true nor false."""
        sees = model.metadata.get("vision", self._vision)
        if not isinstance(sees, bool):
            raise ConfigError(
                f"metadata.vision of model {model.identifier!r} is {sees!r}",
                remedy="Write true or false, or leave it out.",
            )
        return model

    def capabilities(self, model: str) -> Capabilities:
        """What the dialect can say; the server refuses for itself what its model cannot do."""
        return Capabilities(
            completion=True,
            embedding=True,
            rerank=True,
            vision=self._vision,
            form_guaranteed=self._form_guaranteed,
            tokens_prompt=True,
        )

    async def list_models(self) -> list[ProviderModel]:
        if self._models is not None:
            return [ProviderModel(id=name) for name in self._models]
        with self._failures(self._key):
            response = await self._http.get("models", headers=_headers(self._key))
            if response.status_code == 404:
                # Many good servers have no list; their models can be used all the same.
                return []
            return decode_provider_models(self._parsed(response))

    async def health(self) -> Health:
        try:
            with self._failures(self._key):
                response = await self._http.get("models", headers=_headers(self._key), timeout=HEALTH_TIMEOUT_S)
        except StackError as error:
            return Health(status=HealthStatus.DEGRADED, message=error.message)
        if response.status_code in (401, 403) and self._key is not None:
            message = f"{self._who} answered {response.status_code}: it does not accept the configured api_key"
            return Health(status=HealthStatus.FAILED, message=message)
        if response.status_code >= 500:
            return Health(status=HealthStatus.DEGRADED, message=f"{self._who} answered {response.status_code}")
        return Health(status=HealthStatus.OK)

    # --- asking ----------------------------------------------------------------------------------------------------

    def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        if request.tool_prompt_format is not None:
            raise UnsupportedParameter(
                f"tool_prompt_format: {self._who} renders its prompts itself; leave it out", param="tool_prompt_format"
            )
        body = encode_chat_request(request, stream=not request.whole)
        return self._stream("chat/completions", body, caller, ChatChunkDecoder())

    def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        body = encode_completion_request(request, stream=not request.whole)
        return self._stream("completions", body, caller, CompletionChunkDecoder())

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        for name, default in (("truncate", "refuse"), ("task", None)):
            if getattr(request, name) != default:
                raise UnsupportedParameter(
                    f"{name}: not part of the format {self._who} speaks; if it has its own field for this, send that",
                    param=name,
                )
        # Floats, because not every server knows base64.
        answer = await self._post("embeddings", encode_embedding_request(request, "float"), caller)
        return decode_embeddings(answer, expected=len(request.inputs))

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer:
        answer = await self._post("rerank", encode_rerank_request(request), caller)
        return decode_rerank(answer, documents=len(request.documents))

    async def _post(self, path: str, body: JsonObject, caller: Caller) -> Any:
        key = self._key_for(caller)
        with self._failures(key):
            async with self._exchange(path, body, key) as response:
                if not response.is_success:
                    raise await self._refusal(response)
                return _json(await _read(response.pieces, MAX_ANSWER_BYTES), self._who)

    async def _stream(
        self, path: str, body: JsonObject, caller: Caller, decoder: ChunkDecoder
    ) -> AsyncGenerator[ChatEvent, None]:
        key = self._key_for(caller)
        with self._failures(key):
            async with self._exchange(path, body, key) as response:
                if not response.is_success:
                    raise await self._refusal(response)
                if response.headers.get("content-type", "").startswith("application/json"):
                    # Asked for like that, or from a server that cannot stream this.
                    whole = _json(await _read(response.pieces, MAX_ANSWER_BYTES), self._who)
                    for event in [*decoder.feed(whole), *decoder.end(complete=True)]:
                        yield event
                    return
                frames = SSEDecoder()
                pieces = response.pieces
                async for piece in pieces:
                    for sent in frames.feed(piece):
                        if sent.data == b"[DONE]":
                            for event in decoder.end(complete=True):
                                yield event
                            await _drain(pieces)
                            return
                        for event in self._events(sent, decoder):
                            yield event
                done = False
                for sent in frames.close():
                    done = sent.data.strip() == b"[DONE]"
                    for event in [] if done else self._events(sent, decoder):
                        yield event
                for event in decoder.end(complete=done):
                    yield event

    def _events(self, sent: ServerSentEvent, decoder: ChunkDecoder) -> list[ChatEvent]:
        chunk = _json(sent.data, self._who)
        if sent.event == "error":
            raise_error_in_answer(chunk.get("error", chunk) if isinstance(chunk, dict) else chunk)
        return decoder.feed(chunk)

    # --- the seam --------------------------------------------------------------------------------------------------

    def _failures(self, key: str | None) -> AbstractContextManager[None]:
        return partner_failures(self._who, self._host, self._secrets if key is None else (key, *self._secrets))

    def _key_for(self, caller: Caller) -> str | None:
        """The caller's own key before the configured one. Raises InvalidRequest for what cannot be a key."""
        name = self._credential_name
        own = caller.provider_credentials.get(name) if name is not None else None
        if own is None:
            return self._key
        if not isinstance(own, str) or not is_sendable(own):
            raise InvalidRequest(f"the credential {name} must be a text of printable ASCII characters", param=name)
        return own

    def _exchange(self, path: str, body: JsonObject, key: str | None) -> "AbstractAsyncContextManager[Answer]":
        return self._http.exchange(
            "POST",
            path,
            headers=self._headers if key == self._key else self._http.merged(_headers(key)),
            content=orjson.dumps(body),
            patience_s=None if body.get("stream") else self._answer_timeout_s,
        )

    async def _refusal(self, response: "Answer") -> StackError:
        body = await _read(response.pieces, MAX_ERROR_BYTES, cut=True)
        return upstream_error(self._who, response.status_code, body, response.headers.get("retry-after"))

    def _parsed(self, response: httpx.Response) -> Any:
        if not response.is_success:
            raise upstream_error(self._who, response.status_code, response.content, response.headers.get("retry-after"))
        return _json(response.content, self._who)


def _headers(key: str | None) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return headers


def _json(body: bytes, who: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Without the parser's own error, which holds the whole text.
        raise ProviderFailed(f"{who} sent something that is not JSON") from None


async def _read(pieces: AsyncIterator[bytes], limit_bytes: int, *, cut: bool = False) -> bytes:
    """The body up to the limit; what is longer is cut or, unless told so, ProviderFailed."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > limit_bytes:
            if cut:
                break
            raise ProviderFailed(f"the answer is longer than {limit_bytes} bytes")
    return bytes(body[:limit_bytes])


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of the body, so that the connection can be used again; it is one step away, or not worth it."""
    try:
        async with asyncio.timeout(AFTER_DONE_S):
            async for _ in pieces:
                pass
    except TimeoutError:
        pass
