"""Inference: chat, completion, embeddings and reranking.

There is one primitive per operation and no `stream` flag: a chat *is* a stream of events, and a whole answer is
`await collect(stream)`. A streamed and a whole answer can therefore never differ.

The request is a superset of what OpenAI chat completions can say (API reference, "Create chat completion"); what only
one partner understands travels in `extra` and is never dropped in silence.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field

from llama_stack.api.common import Caller, Health, HealthStatus, JsonObject, Word
from llama_stack.api.messages import AssistantMessage, Message, text_of
from llama_stack.api.resources import Model, ModelType
from llama_stack.api.tools import ToolChoice, ToolDefinition
from llama_stack.errors import UnsupportedParameter

# --- what is asked -------------------------------------------------------------------------------------------------


class Sampling(Word):
    """How the next token is drawn. None means the model's or provider's own default.

    temperature: 0 is greedy. top_p, min_p: probability mass and floor, 0 to 1. top_k: candidates kept.
    frequency_penalty, presence_penalty: -2 to 2. repetition_penalty: 1 is none.
    seed: same seed and request, same answer, where the provider can promise that.
    stop: texts that end the answer and are not part of it. max_tokens: most tokens of the answer, reasoning included.
    min_tokens: fewest tokens before the answer may end. logit_bias: added to the logit of a token id, -100 to 100.
    """

    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, gt=0)
    seed: int | None = None
    stop: list[str] = []
    max_tokens: int | None = Field(default=None, ge=1)
    min_tokens: int | None = Field(default=None, ge=0)
    logit_bias: dict[str, float] = {}


class TextFormat(Word):
    type: Literal["text"] = "text"


class JsonObjectFormat(Word):
    """Any JSON object."""

    type: Literal["json_object"] = "json_object"


class JsonSchemaFormat(Word):
    """JSON that the schema accepts. strict: refuse rather than approximate what cannot be constrained."""

    type: Literal["json_schema"] = "json_schema"
    name: str = "response"
    json_schema: JsonObject
    description: str | None = None
    strict: bool | None = None


class GrammarFormat(Word):
    """Text the grammar accepts: llama.cpp's GBNF, llguidance's Lark dialect, or a regular expression."""

    type: Literal["grammar"] = "grammar"
    grammar: str
    syntax: Literal["gbnf", "lark", "regex"] = "gbnf"


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | GrammarFormat, Field(discriminator="type")
]

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ToolPromptFormat = Literal["json", "function_tag", "python_list"]


class ChatRequest(Word):
    """A conversation to continue.

    model: as the caller names it; routing puts in the provider's own name before a provider sees it.
    n: how many answers. logprobs: with each token its log probability, and those of `top_logprobs` alternatives.
    parallel_tool_calls: False asks for at most one call an answer; None leaves it to the provider.
    tool_prompt_format: how offered tools are written into a Llama prompt, where we render it ourselves.
    user: the caller's end user, for the partner's abuse monitoring.
    whole: the reader uses nothing before the end, so a provider that asks somebody else may ask for the answer in
        one piece, which costs both less. The events are the same.
    extra: fields of the partner's own, sent as they are.
    """

    model: str
    messages: list[Message]
    tools: list[ToolDefinition] = []
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool | None = None
    tool_prompt_format: ToolPromptFormat | None = None
    response_format: ResponseFormat = TextFormat()
    sampling: Sampling = Sampling()
    n: int = Field(default=1, ge=1, le=128)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    reasoning_effort: ReasoningEffort | None = None
    user: str | None = None
    whole: bool = False
    extra: JsonObject = {}


class CompletionRequest(Word):
    """A text to continue as it stands, without a chat template.

    prompt: text, or token ids of the model's own vocabulary. logprobs: alternatives per token, None for none.
    echo: begin the answer with the prompt. suffix: text that follows the insertion, for models that fill in.
    whole: as in ChatRequest.
    """

    model: str
    prompt: str | list[int]
    suffix: str | None = None
    echo: bool = False
    response_format: ResponseFormat = TextFormat()
    sampling: Sampling = Sampling()
    n: int = Field(default=1, ge=1, le=128)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    user: str | None = None
    whole: bool = False
    extra: JsonObject = {}


class EmbeddingRequest(Word):
    """Texts (or token id lists) to embed.

    dimensions: width of the vectors where the model can shorten them.
    truncate: what happens to an input longer than the model's window: "refuse" it (ContextOverflow), or keep its
        beginning ("end" is cut off) or its end ("start" is cut off).
    task: some models embed queries and documents differently.
    """

    model: str
    inputs: list[str] | list[list[int]]
    dimensions: int | None = Field(default=None, ge=1)
    truncate: Literal["refuse", "end", "start"] = "refuse"
    task: Literal["query", "document"] | None = None
    user: str | None = None
    extra: JsonObject = {}


class RerankRequest(Word):
    """Documents to order by how well they answer the query. top_n: how many to return, None for all."""

    model: str
    query: str
    documents: list[str]
    top_n: int | None = Field(default=None, ge=1)
    extra: JsonObject = {}


# --- what comes back -----------------------------------------------------------------------------------------------


class Usage(Word):
    """Tokens. cached_input_tokens and reasoning_tokens are parts of input and output, not additions to them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def plus(self, other: "Usage") -> "Usage":
        """Both together; a part that neither of the two reports stays unknown."""

        def total(one: int | None, two: int | None) -> int | None:
            return None if one is None and two is None else (one or 0) + (two or 0)

        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_input_tokens=total(self.cached_input_tokens, other.cached_input_tokens),
            reasoning_tokens=total(self.reasoning_tokens, other.reasoning_tokens),
        )


class TokenLogprob(Word):
    """A token, its natural log probability, its UTF-8 bytes, and the alternatives considered (best first)."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top: list["TokenLogprob"] = []


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class TextDelta(Word):
    """More of the answer's text. `logprobs` belong to exactly this text."""

    type: Literal["text"] = "text"
    text: str
    choice: int = 0
    logprobs: list[TokenLogprob] | None = None


class ReasoningDelta(Word):
    type: Literal["reasoning"] = "reasoning"
    text: str
    choice: int = 0


class RefusalDelta(Word):
    type: Literal["refusal"] = "refusal"
    text: str
    choice: int = 0


class ToolCallStart(Word):
    """A tool call begins. `index` counts the calls of one choice from 0; `id` is stable and unique in the answer."""

    type: Literal["tool_call_start"] = "tool_call_start"
    index: int
    id: str
    name: str
    choice: int = 0
    extra: JsonObject = {}


class ToolCallDelta(Word):
    """More of the JSON text of the arguments of call `index`."""

    type: Literal["tool_call_delta"] = "tool_call_delta"
    index: int
    arguments: str
    choice: int = 0


class ChoiceEnd(Word):
    """One choice is complete. `stop_sequence`: the stop text that ended it, where known."""

    type: Literal["choice_end"] = "choice_end"
    finish_reason: FinishReason
    choice: int = 0
    stop_sequence: str | None = None


class ChatEnd(Word):
    """The last event of every answer that did not fail, exactly once. `extra`: the partner's own response fields."""

    type: Literal["end"] = "end"
    usage: Usage | None = None
    model: str | None = None
    extra: JsonObject = {}


ChatEvent = Annotated[
    TextDelta | ReasoningDelta | RefusalDelta | ToolCallStart | ToolCallDelta | ChoiceEnd | ChatEnd,
    Field(discriminator="type"),
]


class ChatChoice(Word):
    message: AssistantMessage
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = None
    stop_sequence: str | None = None


class ChatAnswer(Word):
    """A whole answer: at least one choice, in order."""

    choices: list[ChatChoice]
    usage: Usage | None = None
    model: str | None = None
    extra: JsonObject = {}

    @property
    def message(self) -> AssistantMessage:
        """The first choice's message."""
        return self.choices[0].message

    @property
    def text(self) -> str:
        """The first choice's text; empty when it only calls tools."""
        return text_of(self.message.content)


class EmbeddingAnswer(Word):
    """One vector per input, in order. `truncated`: positions of the inputs that were cut."""

    vectors: list[list[float]]
    usage: Usage = Usage()
    truncated: list[int] = []


class RankedDocument(Word):
    """index: position in the request's documents. score: higher is more relevant; scale belongs to the model."""

    index: int
    score: float


class RerankAnswer(Word):
    """Best first."""

    results: list[RankedDocument]
    usage: Usage = Usage()


# --- who answers ---------------------------------------------------------------------------------------------------


class Capabilities(Word):
    """What a provider can do for a model. Routing refuses, before any call, a request that needs more.

    tools: calls tools at all; tool_choice: can be made to call one. vision: reads image parts. files: reads PDF files
    itself, given as file parts with their content; elsewhere the stack gives the model their text.
    json_schema, grammar: can constrain the answer's form. form_guaranteed: an answer that was not cut off has the JSON
    form it was asked for in, because the model cannot write anything else; elsewhere it may miss its form, and is told
    to nobody before that was checked. tokens_prompt: takes token ids as prompt.
    token_counts: counts the tokens of a request without answering it; elsewhere counts are estimates.
    tool_prompt_format: writes the offered tools into a Llama prompt itself, in the form that is asked for.
    """

    chat: bool = True
    completion: bool = False
    embedding: bool = False
    rerank: bool = False
    tools: bool = True
    tool_choice: bool = True
    vision: bool = False
    files: bool = False
    json_schema: bool = True
    grammar: bool = False
    form_guaranteed: bool = False
    logprobs: bool = True
    multiple_choices: bool = True
    tokens_prompt: bool = False
    token_counts: bool = False
    tool_prompt_format: bool = False


class ProviderModel(Word):
    """A model as its provider names it."""

    id: str
    model_type: ModelType = ModelType.LLM
    context_length: int | None = None
    embedding_dimension: int | None = None

    @classmethod
    def of(cls, model: Model) -> "ProviderModel":
        """A model of the stack, as a stack that stands on this one would name it."""
        return cls(
            id=model.identifier,
            model_type=model.model_type,
            context_length=model.context_length,
            embedding_dimension=model.embedding_dimension,
        )


class Inference(Protocol):
    """Runs models. `request.model` is the provider's own name for the model.

    Duties of whoever implements it:
    - every operation may be called many times at once; limits are the implementer's, and waiting callers queue;
    - closing a stream, or cancelling the task that reads it, stops the model within a second;
    - failures are raised as errors of `llama_stack.errors`, an upstream's 4xx with its status and message;
    - nothing blocks the event loop;
    - nothing in the request is ignored in silence: what cannot be honoured is `UnsupportedParameter`.
    """

    async def add_model(self, model: Model) -> Model:
        """Called once for each model the distribution lists, before it is served.

        Returns the model with what the provider knows filled in (context_length, embedding_dimension). Raises
        ConfigError when it can never be served (no such file, not a model); must not load the model or reach out
        to a network: a model that is merely not there now is found out by its first request.
        """
        ...

    async def list_models(self) -> list[ProviderModel]:
        """Models known to the provider now; empty where it cannot list them. Raises ProviderUnavailable."""
        ...

    def capabilities(self, model: str) -> Capabilities:
        """What can be asked of the model; answers at once, without I/O."""
        ...

    async def health(self) -> Health:
        """The provider's state now, within a few seconds, never by raising."""
        ...

    def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        """Yield the answer as it is made.

        Each choice ends with one ChoiceEnd; the last event is one ChatEnd; a failure is raised instead.
        """
        ...

    def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        """Continue a raw text: TextDelta, ChoiceEnd and ChatEnd events under the rules of `stream_chat`."""
        ...

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        """Raises ContextOverflow for an input over the window when `truncate` is "refuse"."""
        ...

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer: ...

    async def count_tokens(self, request: ChatRequest, caller: Caller) -> int:
        """How many tokens the model would read for the request, its tools and the prompt's own tokens included.

        Exact where `capabilities` say so. Raises UnsupportedParameter from a provider that cannot count; a stack then
        answers with an estimate.
        """
        ...

    async def count_texts(self, model: str, texts: Sequence[str], caller: Caller) -> list[int]:
        """How many tokens each text has by itself, without begin and end tokens; for models of every type.

        Raises UnsupportedParameter from a provider that cannot count; a stack then answers with estimates.
        """
        ...


class PartialInference:
    """Refuses every operation; a provider inherits it and writes those it has."""

    async def add_model(self, model: Model) -> Model:
        return model

    async def list_models(self) -> list[ProviderModel]:
        return []

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    async def health(self) -> Health:
        return Health(status=HealthStatus.OK)

    async def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        raise UnsupportedParameter(f"model {request.model!r} does not chat", param="model")
        yield  # makes this an async generator

    async def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        raise UnsupportedParameter(f"model {request.model!r} does not complete raw text", param="model")
        yield

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        raise UnsupportedParameter(f"model {request.model!r} does not make embeddings", param="model")

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer:
        raise UnsupportedParameter(f"model {request.model!r} does not rerank", param="model")

    async def count_tokens(self, request: ChatRequest, caller: Caller) -> int:
        raise UnsupportedParameter(f"model {request.model!r} does not count tokens", param="model")

    async def count_texts(self, model: str, texts: Sequence[str], caller: Caller) -> list[int]:
        raise UnsupportedParameter(f"model {model!r} does not count tokens", param="model")
