"""Routing: the name a caller uses -> the provider that owns it.

A model is found by its identifier, or as `provider_id/name` for any model of a provider that can list or accept more
than the distribution names. What the owner cannot do is refused here, before any call.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from llama_stack.api.agents import ToolGroupUse
from llama_stack.api.common import Caller, Health, HealthStatus, JsonObject
from llama_stack.api.containers import Containers
from llama_stack.api.inference import (
    Capabilities,
    ChatEnd,
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    CompletionRequest,
    EmbeddingAnswer,
    EmbeddingRequest,
    GrammarFormat,
    Inference,
    JsonObjectFormat,
    JsonSchemaFormat,
    ProviderModel,
    RerankAnswer,
    RerankRequest,
    ToolCallDelta,
    ToolCallStart,
)
from llama_stack.api.messages import Message, has_images, misplaced_image, with_unseen_images
from llama_stack.api.resources import MemoryBank, Model, Shield
from llama_stack.api.safety import Safety, ShieldVerdict
from llama_stack.api.token_estimate import estimated_text_tokens, estimated_tokens
from llama_stack.api.tools import NamedToolChoice, ToolDefinition, ToolGroup, ToolResult, Tools
from llama_stack.errors import (
    InvalidRequest,
    NotFound,
    ProviderFailed,
    ProviderUnavailable,
    StackError,
    UnsupportedParameter,
)

ResourceT = TypeVar("ResourceT", Model, Shield, MemoryBank, ToolGroup)
ImplementationT = TypeVar("ImplementationT")

LISTING_TTL_S = 60.0
LISTING_TIMEOUT_S = 5.0
MCP_PROVIDER = "remote::mcp"


@dataclass(frozen=True)
class Owner(Generic[ImplementationT]):
    """A provider of this stack. `implementation` raises ProviderUnavailable while it is not open."""

    provider_id: str
    implementation: Callable[[], ImplementationT]
    provider_type: str = ""


@dataclass(frozen=True)
class Registered(Generic[ResourceT]):
    """What callers have registered beside the distribution's resources of one kind.

    find: by its identifier; raises NotFound. known: what a caller can name, the distribution's own among them; of many
    some, for a hint.
    """

    find: Callable[[str, Caller], Awaitable[ResourceT]]
    known: Callable[[Caller], Awaitable[list[ResourceT]]]


class Routes(Generic[ResourceT, ImplementationT]):
    """Resources of one kind with their owners."""

    def __init__(self, kind: str, owners: Iterable[Owner[ImplementationT]], resources: Iterable[ResourceT]) -> None:
        self.kind = kind
        self.owners: Mapping[str, Owner[ImplementationT]] = {owner.provider_id: owner for owner in owners}
        self.resources: Mapping[str, ResourceT] = {resource.identifier: resource for resource in resources}

    def find(self, identifier: str) -> tuple[ResourceT, ImplementationT]:
        """The resource and its open owner. Raises NotFound, naming what there is, or ProviderUnavailable."""
        resource = self.resources.get(identifier)
        if resource is None:
            raise self.not_found(identifier)
        return resource, self.owners[resource.provider_id].implementation()

    async def look_up(
        self, identifier: str, caller: Caller, registered: Registered[ResourceT] | None
    ) -> tuple[ResourceT, ImplementationT]:
        """As `find`, among what the caller has registered, too."""
        if identifier in self.resources or registered is None:
            return self.find(identifier)
        try:
            resource = await registered.find(identifier, caller)
        except (NotFound, InvalidRequest):  # the latter where nothing could be called so
            known = [one.identifier for one in await registered.known(caller)]
            raise self.not_found(identifier, known) from None
        return resource, self.owner(resource.provider_id)

    def owner(self, provider_id: str) -> ImplementationT:
        """The open provider. Raises NotFound for one that this stack has not (any more), or ProviderUnavailable."""
        owner = self.owners.get(provider_id)
        if owner is None:
            raise NotFound(f"this stack has no provider {provider_id!r} for a {self.kind}", code="provider_not_found")
        return owner.implementation()

    def not_found(self, identifier: str, known: Iterable[str] = ()) -> NotFound:
        """known: further names there are; the distribution's come first."""
        there = list(dict.fromkeys([*sorted(self.resources), *sorted(known)]))
        nearest = get_close_matches(identifier, there, n=1)
        names = ", ".join(there[:20]) or "none"
        hint = f" Did you mean {nearest[0]!r}?" if nearest else f" There are: {names}."
        word = self.kind.replace(" ", "_")
        param = "model" if self.kind == "model" else f"{word}_id"
        return NotFound(f"There is no {self.kind} {identifier!r}.{hint}", param=param, code=f"{word}_not_found")


class RoutedInference:
    """Inference over all providers and models of the stack; fulfils the Inference protocol."""

    def __init__(self, routes: Routes[Model, Inference], registered: Registered[Model] | None = None) -> None:
        self._routes = routes
        self._registered = registered
        self._listed: dict[str, tuple[float, list[Model]]] = {}
        # What is asked of capabilities() has been looked up before, by the request it is asked for.
        self._seen: dict[str, Model] = {}

    def find(self, identifier: str) -> tuple[Model, Inference]:
        """The model and its owner; `provider_id/name` reaches models the distribution does not name."""
        if identifier not in self._routes.resources:
            provider_id, slash, name = identifier.partition("/")
            owner = self._routes.owners.get(provider_id)
            if slash and name and owner is not None:
                model = Model(identifier=identifier, provider_id=provider_id, provider_resource_id=name)
                return model, owner.implementation()
        return self._routes.find(identifier)

    async def look_up(self, identifier: str, caller: Caller) -> tuple[Model, Inference]:
        """As `find`, among the models that the caller has registered, too."""
        try:
            return self.find(identifier)
        except NotFound:
            model, owner = await self._routes.look_up(identifier, caller, self._registered)
        self._seen[identifier] = model
        return model, owner

    def note(self, model: Model) -> None:
        """Know a model that was found elsewhere, such as among what a caller has registered, for `capabilities`."""
        if model.identifier not in self._routes.resources:
            self._seen[model.identifier] = model

    async def models(self) -> list[Model]:
        """The distribution's models, then what the providers list beyond them, as `provider_id/name`.

        A provider that cannot list now adds nothing. Listings are kept for a minute.
        """
        configured = list(self._routes.resources.values())
        taken = {(model.provider_id, model.provider_resource_id) for model in configured}
        async with asyncio.TaskGroup() as group:
            listings = [group.create_task(self._listing(owner)) for owner in self._routes.owners.values()]
        listed = [model for listing in listings for model in listing.result()]
        return configured + [m for m in listed if (m.provider_id, m.provider_resource_id) not in taken]

    async def _listing(self, owner: Owner[Inference]) -> list[Model]:
        kept = self._listed.get(owner.provider_id)
        if kept is not None and time.monotonic() - kept[0] < LISTING_TTL_S:
            return kept[1]
        try:
            async with asyncio.timeout(LISTING_TIMEOUT_S):
                names = await owner.implementation().list_models()
        except (StackError, TimeoutError):
            return []
        models = [_listed_model(owner.provider_id, name) for name in names]
        self._listed[owner.provider_id] = (time.monotonic(), models)
        return models

    async def add_model(self, model: Model) -> Model:
        return model

    async def list_models(self) -> list[ProviderModel]:
        return [ProviderModel.of(model) for model in await self.models()]

    def capabilities(self, model: str) -> Capabilities:
        seen = self._seen.get(model)
        resource, owner = self.find(model) if seen is None else (seen, self._routes.owner(seen.provider_id))
        return _capabilities(resource, owner)

    async def health(self) -> Health:
        return Health(status=HealthStatus.OK)

    def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        return self._begun(request.model, caller, lambda model, owner: _chat(model, owner, request, caller))

    def complete(self, request: CompletionRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        return self._begun(request.model, caller, lambda model, owner: _complete(model, owner, request, caller))

    def _begun(
        self, identifier: str, caller: Caller, begin: Callable[[Model, Inference], AsyncGenerator[ChatEvent, None]]
    ) -> AsyncGenerator[ChatEvent, None]:
        """The stream of a model; at once where it needs no look into what callers have registered."""
        try:
            model, owner = self.find(identifier)
        except NotFound:
            if self._registered is None:
                raise
            return self._begun_later(identifier, caller, begin)
        return begin(model, owner)

    async def _begun_later(
        self, identifier: str, caller: Caller, begin: Callable[[Model, Inference], AsyncGenerator[ChatEvent, None]]
    ) -> AsyncGenerator[ChatEvent, None]:
        model, owner = await self.look_up(identifier, caller)
        async with aclosing(begin(model, owner)) as events:
            async for event in events:
                yield event

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        model, owner = await self.look_up(request.model, caller)
        able = owner.capabilities(model.provider_resource_id)
        _require(able.embedding, "make embeddings", request.model, "model")
        return await owner.embed(request.model_copy(update={"model": model.provider_resource_id}), caller)

    async def rerank(self, request: RerankRequest, caller: Caller) -> RerankAnswer:
        model, owner = await self.look_up(request.model, caller)
        able = owner.capabilities(model.provider_resource_id)
        _require(able.rerank, "rerank documents", request.model, "model")
        return await owner.rerank(request.model_copy(update={"model": model.provider_resource_id}), caller)

    async def count_tokens(self, request: ChatRequest, caller: Caller) -> int:
        """The provider's own count, or an estimate from the size of the text where it has none."""
        model, owner = await self.look_up(request.model, caller)
        able = owner.capabilities(model.provider_resource_id)
        _require(able.chat, "chat", request.model, "model")
        tools = [] if request.tool_choice == "none" else request.tools
        if not able.token_counts:
            return estimated_tokens(request.messages, tools)
        counted = request.model_copy(update={"model": model.provider_resource_id, "tools": tools})
        return await owner.count_tokens(counted, caller)

    async def count_texts(self, model: str, texts: Sequence[str], caller: Caller) -> list[int]:
        """The provider's own counts, or estimates from the size of the texts where it has none."""
        found, owner = await self.look_up(model, caller)
        try:
            return await owner.count_texts(found.provider_resource_id, texts, caller)
        except UnsupportedParameter:
            return [estimated_text_tokens(text) for text in texts]


def _capabilities(model: Model, owner: Inference) -> Capabilities:
    """What the owner says, but for sight: a provider of strangers' models cannot know which of them see."""
    able = owner.capabilities(model.provider_resource_id)
    sees = model.metadata.get("vision")
    return able.model_copy(update={"vision": sees}) if isinstance(sees, bool) else able


def _chat(model: Model, owner: Inference, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
    able = _capabilities(model, owner)
    if has_images(request.messages):
        request = request.model_copy(update={"messages": with_unseen_images(request.messages, sees=able.vision)})
        _check_images(request.messages)
    _check_chat(request, able)
    changes: dict[str, Any] = {"model": model.provider_resource_id}
    if request.tool_choice == "none" and request.tools:
        changes["tools"] = []
    routed = request.model_copy(update=changes)
    stream = owner.stream_chat(routed, caller)
    choice = request.tool_choice
    if choice == "none":
        return _only_calls_of(stream, ())
    if isinstance(choice, NamedToolChoice):
        stream = _only_calls_of(stream, choice.names)
    if request.parallel_tool_calls is False and request.tools:
        stream = _with_one_call(stream)
    if choice == "auto" or (isinstance(choice, NamedToolChoice) and choice.mode == "auto"):
        return stream
    return _with_required_call(stream, model.identifier)


def _complete(
    model: Model, owner: Inference, request: CompletionRequest, caller: Caller
) -> AsyncGenerator[ChatEvent, None]:
    able = owner.capabilities(model.provider_resource_id)
    _require(able.completion, "complete raw text", request.model, "model")
    _require(able.tokens_prompt or isinstance(request.prompt, str), "take token ids", request.model, "prompt")
    _require(able.logprobs or request.logprobs is None, "give logprobs", request.model, "logprobs")
    _require(able.multiple_choices or request.n == 1, "give several choices", request.model, "n")
    return owner.complete(request.model_copy(update={"model": model.provider_resource_id}), caller)


def _listed_model(provider_id: str, name: ProviderModel) -> Model:
    return Model(
        identifier=f"{provider_id}/{name.id}",
        provider_id=provider_id,
        provider_resource_id=name.id,
        model_type=name.model_type,
        context_length=name.context_length,
        embedding_dimension=name.embedding_dimension,
    )


def _require(able: bool, deed: str, model: str, param: str) -> None:
    if not able:
        raise UnsupportedParameter(f"the model {model!r} cannot {deed}; use another model or leave it out", param=param)


def _check_chat(request: ChatRequest, able: Capabilities) -> None:
    """Refuse, naming the field, what the model's provider cannot do."""
    name = request.model
    _require(able.chat, "chat", name, "model")
    if request.tools and request.tool_choice != "none":
        _require(able.tools, "call tools", name, "tools")
        if request.tool_choice != "auto":
            _require(able.tool_choice, "be made to call a tool", name, "tool_choice")
    if request.tool_choice not in ("auto", "none"):
        _check_choice(request)
    if isinstance(request.response_format, JsonObjectFormat | JsonSchemaFormat):
        _require(able.json_schema, "constrain its answer to JSON", name, "response_format")
    elif isinstance(request.response_format, GrammarFormat):
        _require(able.grammar, "follow a grammar", name, "response_format")
    _require(able.logprobs or not request.logprobs, "give logprobs", name, "logprobs")
    _require(able.multiple_choices or request.n == 1, "give several choices", name, "n")
    if not able.vision:
        _require(not has_images(request.messages), "read images", name, "messages")


def _check_images(messages: list[Message]) -> None:
    """Refuse what would have the model's provider read a file of its own machine, or ask whatever an address asks."""
    if (field := misplaced_image(messages)) is not None:
        raise InvalidRequest(f"{field}: must be an http, https or data URL", param=field)


def _check_choice(request: ChatRequest) -> None:
    offered = {tool.name for tool in request.tools}
    if not offered:
        raise UnsupportedParameter("tool_choice asks for a call but no tools are offered", param="tool_choice")
    if isinstance(request.tool_choice, NamedToolChoice):
        unknown = [name for name in request.tool_choice.names if name not in offered]
        if unknown:
            raise UnsupportedParameter(
                f"tool_choice names {unknown[0]!r}, which is not among the tools: {', '.join(sorted(offered))}",
                param="tool_choice",
            )


async def _only_calls_of(
    stream: AsyncGenerator[ChatEvent, None], names: Collection[str]
) -> AsyncGenerator[ChatEvent, None]:
    """Drop a disobedient model's calls of other tools: nobody may act on them."""
    kept: dict[int, dict[int, int]] = {}  # by choice: a call's index as it came, and as it goes on
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, ToolCallStart | ToolCallDelta):
                numbers = kept.setdefault(event.choice, {})
                if isinstance(event, ToolCallStart) and event.name in names:
                    numbers.setdefault(event.index, len(numbers))
                if event.index not in numbers:
                    continue
                event = event.model_copy(update={"index": numbers[event.index]})
            elif isinstance(event, ChoiceEnd) and event.finish_reason == "tool_calls" and not kept.get(event.choice):
                event = event.model_copy(update={"finish_reason": "stop"})
            yield event


async def _with_one_call(stream: AsyncGenerator[ChatEvent, None]) -> AsyncGenerator[ChatEvent, None]:
    """Only the first call of each choice, for models that make several although they were asked for one."""
    first: dict[int, int] = {}

    def is_further_call(event: ChatEvent) -> bool:
        if not isinstance(event, ToolCallStart | ToolCallDelta):
            return False
        return first.setdefault(event.choice, event.index) != event.index

    async with aclosing(stream):
        async for event in stream:
            if not is_further_call(event):
                yield event


async def _with_required_call(stream: AsyncGenerator[ChatEvent, None], model: str) -> AsyncGenerator[ChatEvent, None]:
    """Fail, rather than end, an answer without the call that was required."""
    called: set[int] = set()
    ended: set[int] = set()
    async with aclosing(stream):
        async for event in stream:
            if isinstance(event, ToolCallStart):
                called.add(event.choice)
            elif isinstance(event, ChoiceEnd) and event.finish_reason in ("stop", "tool_calls"):
                ended.add(event.choice)
            elif isinstance(event, ChatEnd) and ended - called:
                raise ProviderFailed(
                    f"the model {model!r} answered without the tool call that tool_choice requires",
                    param="tool_choice",
                    code="tool_choice_not_honoured",
                )
            yield event


class RoutedSafety:
    """Safety over all shields of the stack, by shield id."""

    def __init__(self, routes: Routes[Shield, Safety], registered: Registered[Shield] | None = None) -> None:
        self._routes = routes
        self._registered = registered

    async def run_shield(
        self, shield_id: str, messages: list[Message], caller: Caller, params: JsonObject | None = None
    ) -> ShieldVerdict:
        shield, owner = await self._routes.look_up(shield_id, caller, self._registered)
        return await owner.run_shield(shield, messages, caller, params)

    async def check(self, shield: Shield, caller: Caller) -> list[str]:
        """The models that the shield would ask. Raises what its provider objects to; one that is not open, or cannot
        tell, objects to nothing.
        """
        check = _checking(self._routes, shield.provider_id, "check_shield")
        return [] if check is None else list(await check(shield, caller))


class RoutedTools:
    """Tools over all tool groups of the stack, and over MCP servers that a caller names."""

    def __init__(self, routes: Routes[ToolGroup, Tools], registered: Registered[ToolGroup] | None = None) -> None:
        self._routes = routes
        self._registered = registered

    async def group(self, use: ToolGroupUse, caller: Caller) -> ToolGroup:
        """The group behind a use of it: a registered one, or the MCP server it names. Raises NotFound."""
        if use.mcp_endpoint is None:
            group, _ = await self._routes.look_up(use.identifier, caller, self._registered)
            return group
        return ToolGroup(
            identifier=use.identifier,
            provider_id=self._speaks_mcp(),
            provider_resource_id=use.identifier,
            mcp_endpoint=use.mcp_endpoint,
            from_caller=True,
        )

    def _speaks_mcp(self) -> str:
        for owner in self._routes.owners.values():
            if owner.provider_type == MCP_PROVIDER:
                return owner.provider_id
        raise UnsupportedParameter(
            f"this stack reaches no MCP servers; add a provider of type {MCP_PROVIDER} to its distribution",
            param="mcp_endpoint",
        )

    def containers(self, group: ToolGroup) -> Containers | None:
        """Where the group's tools keep files of sessions; None where they keep none."""
        return getattr(self._routes.owner(group.provider_id), "containers", None)

    async def check(self, group: ToolGroup, caller: Caller) -> None:
        """Raises what the group's provider objects to; one that is not open, or cannot tell, objects to nothing."""
        check = _checking(self._routes, group.provider_id, "check_tool_group")
        if check is not None:
            await check(group, caller)

    async def list_tools(self, group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return await self._routes.owner(group.provider_id).list_tools(group, caller)

    async def invoke_tool(
        self,
        group: ToolGroup,
        name: str,
        arguments: dict[str, Any],
        caller: Caller,
        *,
        session_id: str | None = None,
    ) -> ToolResult:
        owner = self._routes.owner(group.provider_id)
        if session_id is not None and getattr(owner, "keeps_sessions", False):
            arguments = {**arguments, "session_id": session_id}
        return await owner.invoke_tool(group, name, arguments, caller)


def _checking(routes: Routes[Any, Any], provider_id: str, name: str) -> Callable[..., Awaitable[Any]] | None:
    """How the provider judges what is to be registered; None where it does not."""
    try:
        check: Callable[..., Awaitable[Any]] | None = getattr(routes.owner(provider_id), name, None)
    except ProviderUnavailable:
        return None
    return check


def unavailable(provider_id: str, health: Health) -> ProviderUnavailable:
    """The error of a call to a provider that is not open."""
    reason = health.message or "it is still starting"
    return ProviderUnavailable(f"the provider {provider_id!r} is {health.status.value}: {reason}")
