"""The shape of the answers, for the OpenAPI document.

Answers are written from plain values by `llama_stack.wire`; these models describe them, and a test holds every
answer of the server against them. The shape of the requests is described by the bodies that decode them.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    # Validators are for whoever asks for the document; making them at the start costs it some ten milliseconds.
    model_config = ConfigDict(extra="allow", defer_build=True)


class ErrorDetail(Answer):
    """status: only within a stream. upstream_status: what a provider answered. retry_after_s: where it is known."""

    message: str
    type: str
    param: str | None
    code: str
    status: int | None = None
    upstream_status: int | None = None
    retry_after_s: float | None = None


class ErrorAnswer(Answer):
    """Every error has this body."""

    error: ErrorDetail


class PromptTokensDetails(Answer):
    cached_tokens: int | None = None


class CompletionTokensDetails(Answer):
    reasoning_tokens: int | None = None


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class TokenAlternative(Answer):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TokenAlternative):
    top_logprobs: list[TokenAlternative]


class ChoiceLogprobs(Answer):
    content: list[TokenLogprob] | None
    refusal: list[TokenLogprob] | None


class CalledFunction(Answer):
    name: str
    arguments: str


class MessageToolCall(Answer):
    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatCompletionMessage(Answer):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    tool_calls: list[MessageToolCall] | None = None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatCompletionChoice(Answer):
    """`stop_reason`: the stop text that ended the answer, where known."""

    index: int
    message: ChatCompletionMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason
    stop_reason: str | None = None


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatCompletionChoice]
    usage: Usage | None
    system_fingerprint: str | None


class FunctionDelta(Answer):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Answer):
    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ChatCompletionDelta(Answer):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatCompletionChunkChoice(Answer):
    index: int
    delta: ChatCompletionDelta
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | None = None


class ChatCompletionChunk(Answer):
    """One `data:` frame of a streamed answer; the stream ends with `data: [DONE]`, or with an error frame."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatCompletionChunkChoice]
    usage: Usage | None = None
    system_fingerprint: str | None


class ChatTokenCount(Answer):
    """input_tokens: what the model would read, its tools and the prompt's own tokens included.

    estimated: the model's provider cannot count before it answers, so the size of the text was.
    """

    object: Literal["chat.completion.input_tokens"]
    input_tokens: int
    estimated: bool


class CompletionLogprobs(Answer):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Answer):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | None = None


class Completion(Answer):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None


class InputUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class Embedding(Answer):
    """`embedding`: numbers, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingList(Answer):
    """`truncated`: positions of the inputs that were cut to the model's window."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: InputUsage
    truncated: list[int] | None = None


class RankedText(Answer):
    text: str


class RankingResult(Answer):
    index: int
    relevance_score: float
    document: RankedText | None = None


class Ranking(Answer):
    """Best first."""

    model: str
    results: list[RankingResult]
    usage: InputUsage


class Model(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: Literal["model"]
    identifier: str
    provider_id: str
    provider_resource_id: str
    model_type: Literal["llm", "embedding", "rerank"]
    metadata: dict[str, Any]


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class ModelRemoved(Answer):
    id: str
    object: Literal["model"]
    deleted: Literal[True]
    identifier: str


class HealthAnswer(Answer):
    status: Literal["OK"]


class VersionAnswer(Answer):
    version: str


class ProviderHealth(Answer):
    status: Literal["ok", "starting", "degraded", "failed"]
    message: str | None = None


class Provider(Answer):
    """`config`: its settings, secrets masked."""

    api: str
    provider_id: str
    provider_type: str
    config: dict[str, Any]
    health: ProviderHealth


class ProviderList(Answer):
    data: list[Provider]


class Route(Answer):
    route: str
    method: str
    provider_types: list[str]


class RouteList(Answer):
    data: list[Route]
