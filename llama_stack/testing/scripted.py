"""Inference that follows a script: what a test needs in place of a model, through the same protocol.

A script is a list of steps for one answer: events are yielded, an exception is raised, an `asyncio.Event` is waited
for. What was asked is recorded, and so is a stream that was closed before its end.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from difflib import get_close_matches

from llama_stack.api.agents import Agents
from llama_stack.api.common import Caller, Health, HealthStatus
from llama_stack.api.files import LocalFiles
from llama_stack.api.inference import (
    Capabilities,
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    FinishReason,
    PartialInference,
    ProviderModel,
    RankedDocument,
    RerankAnswer,
    RerankRequest,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)
from llama_stack.api.memory import LocalMemory
from llama_stack.api.messages import text_of
from llama_stack.api.resources import Model, ModelType
from llama_stack.api.responses import Conversations, Responses, StoredCompletions
from llama_stack.api.stack import ProviderState, Registry, ShieldRunner, ToolRunner
from llama_stack.errors import NotFound, ProviderUnavailable

Step = ChatEvent | Exception | asyncio.Event
Script = Sequence[Step]
Request = ChatRequest | CompletionRequest | EmbeddingRequest | RerankRequest

USAGE = Usage(input_tokens=3, output_tokens=5)


def says(*texts: str, finish_reason: FinishReason = "stop", usage: Usage = USAGE) -> list[Step]:
    """A whole answer of these pieces of text."""
    return [
        *(TextDelta(text=text) for text in texts),
        ChoiceEnd(finish_reason=finish_reason),
        ChatEnd(usage=usage),
    ]


def calls(*calls: tuple[str, str], usage: Usage = USAGE) -> list[Step]:
    """A whole answer that makes these calls, each a name and the JSON text of its arguments."""
    steps: list[Step] = []
    for index, (name, arguments) in enumerate(calls):
        half = len(arguments) // 2
        steps.append(ToolCallStart(index=index, id=f"call_{index}", name=name))
        steps.extend(ToolCallDelta(index=index, arguments=part) for part in (arguments[:half], arguments[half:]))
    return [*steps, ChoiceEnd(finish_reason="tool_calls"), ChatEnd(usage=usage)]


class ScriptedInference(PartialInference):
    """Answers chats and completions from `scripts`, one each in order; the last one is used again and again.

    embed: gives the answer to each embedding request, or is the exception it raises.
    requests, callers: what came, in order. opened: set when a stream is first read. closed_early: set when one is
    closed or cancelled before its last step.
    """

    def __init__(
        self,
        *scripts: Script,
        embed: Callable[[EmbeddingRequest], EmbeddingAnswer] | Exception | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        self._scripts = list(scripts) or [says("Hello", " world")]
        self._embed = embed or _lengths
        self._capabilities = capabilities or Capabilities(
            completion=True,
            embedding=True,
            rerank=True,
            vision=True,
            grammar=True,
            tokens_prompt=True,
            tool_prompt_format=True,
        )
        self.requests: list[Request] = []
        self.callers: list[Caller] = []
        self.opened = asyncio.Event()
        self.closed_early = asyncio.Event()

    def capabilities(self, model: str) -> Capabilities:
        return self._capabilities

    async def list_models(self) -> list[ProviderModel]:
        return [ProviderModel(id="scripted")]

    def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        return self._play(request, caller)

    def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        return self._play(request, caller)

    async def _play(self, request: Request, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        self._record(request, caller)
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        self.opened.set()
        ended = False
        try:
            for step in script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    ended = True
                    raise step
                else:
                    ended = isinstance(step, ChatEnd)
                    yield step
            ended = True
        finally:
            if not ended:
                self.closed_early.set()

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        self._record(request, caller)
        if isinstance(self._embed, Exception):
            raise self._embed
        return self._embed(request)

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer:
        """The longer a document, the better."""
        self._record(request, caller)
        ranked = [RankedDocument(index=index, score=len(text)) for index, text in enumerate(request.documents)]
        ranked.sort(key=lambda document: -document.score)
        return RerankAnswer(results=ranked[: request.top_n], usage=Usage(input_tokens=7))

    async def count_tokens(self, request: ChatRequest, caller: Caller) -> int:
        """A token for each word."""
        self._record(request, caller)
        return sum(len(text_of(message.content).split()) for message in request.messages)

    async def count_texts(self, model: str, texts: Sequence[str], caller: Caller) -> list[int]:
        """A token for each word."""
        return [len(text.split()) for text in texts]

    def _record(self, request: Request, caller: Caller) -> None:
        self.requests.append(request)
        self.callers.append(caller)


def _lengths(request: EmbeddingRequest) -> EmbeddingAnswer:
    vectors = [[float(len(item)), 0.5] for item in request.inputs]
    return EmbeddingAnswer(vectors=vectors, usage=Usage(input_tokens=len(vectors)))


class ScriptedStack:
    """A stack of one inference provider, `scripted`, and its models; fulfils the ServedStack protocol.

    It has nothing else: for tools, shields and agents there is `scripted_stack.open_scripted_stack`.
    """

    def __init__(self, inference: ScriptedInference | None = None, models: Iterable[Model] | None = None) -> None:
        self.inference = inference or ScriptedInference()
        self._models = {model.identifier: model for model in models or _MODELS}

    async def list_models(self, caller: Caller) -> list[Model]:
        return list(self._models.values())

    async def model(self, identifier: str, caller: Caller) -> Model:
        if identifier not in self._models:
            nearest = get_close_matches(identifier, self._models, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are: {', '.join(self._models)}"
            raise NotFound(f"there is no model {identifier!r}; {hint}", param="model", code="model_not_found")
        return self._models[identifier]

    async def providers(self, caller: Caller) -> list[ProviderState]:
        return [
            ProviderState(
                api="inference",
                provider_id="scripted",
                provider_type="inline::scripted",
                config={"api_key": "**********"},
                health=Health(status=HealthStatus.OK),
            )
        ]

    @property
    def safety(self) -> ShieldRunner:
        raise _only_inference()

    @property
    def tools(self) -> ToolRunner:
        raise _only_inference()

    @property
    def registry(self) -> Registry:
        raise _only_inference()

    async def memory(self) -> LocalMemory:
        raise _only_inference()

    async def agents(self) -> Agents:
        raise _only_inference()

    async def responses(self) -> Responses:
        raise _only_inference()

    async def conversations(self) -> Conversations:
        raise _only_inference()

    async def stored_completions(self) -> StoredCompletions:
        raise _only_inference()

    async def files(self) -> LocalFiles:
        raise _only_inference()


def _only_inference() -> ProviderUnavailable:
    return ProviderUnavailable("a ScriptedStack has inference only; open_scripted_stack gives a whole stack")


_MODELS = (
    Model(
        identifier="scripted",
        provider_id="scripted",
        provider_resource_id="script-1",
        context_length=4096,
        metadata={"family": "none"},
    ),
    Model(
        identifier="meta-llama/scripted-embedding",
        provider_id="scripted",
        provider_resource_id="embed-1",
        model_type=ModelType.EMBEDDING,
        embedding_dimension=2,
        created=1700000000,
    ),
)
