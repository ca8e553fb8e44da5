"""A running stack in this process."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.api.common import Caller
from llama_stack.api.files import File
from llama_stack.api.inference import Inference
from llama_stack.api.resources import MemoryBank, Model, ModelType, Resource, Shield
from llama_stack.api.safety import Safety
from llama_stack.api.stack import ProviderState, ResourceT
from llama_stack.api.tools import ToolGroup, Tools
from llama_stack.compose.database_door import DatabaseDoor
from llama_stack.compose.slots import ProviderSlot, resources_of
from llama_stack.distribution import Distribution
from llama_stack.errors import ConfigError, InvalidRequest, NotFound
from llama_stack.registry import ResourceRegistry
from llama_stack.routing import (
    Owner,
    Registered,
    RoutedInference,
    RoutedSafety,
    RoutedTools,
    Routes,
)

if TYPE_CHECKING:
    import httpx

    from llama_stack.agents.service import AgentService
    from llama_stack.files.service import FileService
    from llama_stack.memory.opening import MemorySettings
    from llama_stack.memory.service import MemoryService
    from llama_stack.responses.conversations import ConversationService
    from llama_stack.responses.service import ResponseService
    from llama_stack.storage import Database
    from llama_stack.storage.completions import CompletionStore


class LocalStack:
    """A running stack in this process; fulfils api.stack.Stack."""

    def __init__(
        self,
        distribution: Distribution,
        home: Path,
        slots: list[ProviderSlot],
        database: DatabaseDoor,
        transport: "httpx.AsyncBaseTransport | None" = None,
    ) -> None:
        self.distribution = distribution
        self._transport = transport
        self.home = home
        self._slots = slots
        self._database = database
        # Closed before the providers they use.
        self.services = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._responses: ResponseService | None = None
        self._opening_memory = asyncio.Lock()
        self._memory: MemoryService | None = None
        self._opening_files = asyncio.Lock()
        self._files: FileService | None = None
        models = _unique("models", [(slot, model) for slot in slots for model in slot.models])
        model_routes = Routes[Model, Inference]("model", self._owners("inference"), models)
        shields = Routes[Shield, Safety]("shield", self._owners("safety"), self._listed("shields", Shield))
        banks = Routes[MemoryBank, ChunkIndex](
            "memory bank", self._owners("memory"), self._listed("memory_banks", MemoryBank)
        )
        groups = Routes[ToolGroup, Tools]("tool group", self._owners("tools"), self._listed("tool_groups", ToolGroup))
        own: dict[type[Resource], Mapping[str, Resource]] = {
            Model: model_routes.resources,
            Shield: shields.resources,
            MemoryBank: banks.resources,
            ToolGroup: groups.resources,
        }
        providers = {api: [owner.provider_id for owner in self._owners(api)] for api in distribution.providers.by_api()}
        self.registry = ResourceRegistry(own, providers, self.database, self._check)
        self._models = model_routes.resources
        self._inference = RoutedInference(
            model_routes, Registered(partial(self.registry.registered, Model), self.list_models)
        )
        self.safety = RoutedSafety(shields, self._registered(Shield))
        self.tools = RoutedTools(groups, self._registered(ToolGroup))

    def _registered(self, kind: type[ResourceT]) -> Registered[ResourceT]:
        return Registered(partial(self.registry.registered, kind), partial(self.registry.some_resources, kind))

    async def _check(self, resource: Resource, caller: Caller) -> None:
        """Raises InvalidRequest for what could never be used as it is about to be registered."""
        match resource:
            case Shield():
                for name in await self.safety.check(resource, caller):
                    await self._check_guard(name, caller)
            case ToolGroup():
                await self.tools.check(resource, caller)
            case _:
                pass

    async def _check_guard(self, name: str, caller: Caller) -> None:
        try:
            model = await self.model(name, caller)
        except NotFound as error:
            raise InvalidRequest(
                f"provider_resource_id: a shield of this provider asks a guard model; {error.message}",
                param="provider_resource_id",
            ) from None
        if model.model_type is not ModelType.LLM:
            raise InvalidRequest(
                f"provider_resource_id: {name!r} is of type {model.model_type.value} and judges nothing",
                param="provider_resource_id",
            )

    def _listed(self, field: str, kind: type[Any]) -> list[Any]:
        return _unique(
            field, [(slot, item) for slot in self._slots for item in resources_of(slot.resolved, field, kind)]
        )

    def _owners(self, api: str) -> list[Owner[Any]]:
        return [
            Owner(slot.resolved.provider_id, slot.implementation, slot.resolved.entry.provider_type)
            for slot in self._slots
            if slot.resolved.api == api
        ]

    @property
    def inference(self) -> RoutedInference:
        return self._inference

    async def database(self) -> "Database":
        """The database that holds the stack's state. Raises ConfigError when it cannot be used."""
        return await self._database.open()

    async def memory(self) -> "MemoryService":
        """The memory over all providers of it, which reads attached files while the stack is open."""
        async with self._opening_memory:
            if self._memory is None:
                files, database = await self.files(), await self.database()
                await asyncio.to_thread(import_module, "llama_stack.memory.opening")
                from llama_stack.memory.opening import open_memory_of

                settings = self._memory_settings()
                self._memory = await self.services.enter_async_context(
                    open_memory_of(self, self.registry, files, database, settings)
                )
            return self._memory

    def _memory_settings(self) -> "MemorySettings":
        from llama_stack.documents.limits import ReadingLimits
        from llama_stack.memory.banks import IndexProvider
        from llama_stack.memory.opening import MemorySettings

        said = self.distribution.documents
        return MemorySettings(
            providers=[
                IndexProvider(slot.resolved.provider_id, slot.implementation, slot.is_open)
                for slot in self._slots
                if slot.resolved.api == "memory"
            ],
            limits=ReadingLimits(
                max_file_bytes=said.max_file_bytes,
                max_pages=said.max_pages,
                max_text_characters=said.max_text_characters,
                time_limit_s=said.time_limit_s,
            ),
            processes=said.processes,
            caption_model=said.caption_model,
            allow_private_addresses=said.allow_private_addresses,
            transport=self._transport,
        )

    async def agents(self) -> "AgentService":
        """The agents' service over the stack's database. Raises ConfigError when that cannot be used."""
        database = await self.database()
        from llama_stack.agents.service import AgentService
        from llama_stack.storage import AgentStore

        return AgentService(self, AgentStore(database))

    async def responses(self) -> "ResponseService":
        """The responses' service, which works in the background while the stack is open."""
        async with self._opening:
            if self._responses is None:
                database = await self.database()
                await asyncio.to_thread(import_module, "llama_stack.responses.service")
                from llama_stack.responses.service import open_responses

                self._responses = await self.services.enter_async_context(open_responses(self, database))
            return self._responses

    async def take_up(self) -> None:
        """Go on with what an earlier process left unfinished; does nothing where nothing was ever kept."""
        if self._database.has_state:
            await self.responses()
            if self._files_folder.is_dir():
                await self.files()
                await self.memory()

    async def conversations(self) -> "ConversationService":
        database = await self.database()
        from llama_stack.responses.conversations import ConversationService
        from llama_stack.storage.conversations import ConversationStore

        return ConversationService(ConversationStore(database))

    async def stored_completions(self) -> "CompletionStore":
        database = await self.database()
        from llama_stack.storage.completions import CompletionStore

        return CompletionStore(database)

    async def files(self) -> "FileService":
        """The files' service, which removes what has expired while the stack is open."""
        async with self._opening_files:
            if self._files is None:
                database = await self.database()
                from llama_stack.files.service import open_files

                opening = open_files(
                    self._files_folder, database, max_file_bytes=self.distribution.storage.max_file_bytes
                )
                self._files = await self.services.enter_async_context(opening)
                self._files.on_delete(self._let_go_of_file)
            return self._files

    async def _let_go_of_file(self, file: File, caller: Caller) -> None:
        """Banks forget it, also where nobody has used the memory yet since this process began."""
        await (await self.memory()).let_go_of_file(file, caller)

    @property
    def _files_folder(self) -> Path:
        configured = self.distribution.storage.files
        return Path(configured or self.home / "files").expanduser()

    async def list_models(self, caller: Caller) -> list[Model]:
        """The distribution's and what providers list; then what the caller has registered, once anything is stored."""
        listed = await self._inference.models()
        if self._database.is_open:
            own = {model.identifier for model in listed}
            registered = await self.registry.resources(Model, caller)
            listed += [model for model in registered if model.identifier not in own]
        return listed

    async def model(self, identifier: str, caller: Caller) -> Model:
        own = self._models.get(identifier)
        if own is not None:
            return own
        for model in await self.list_models(caller):
            if model.identifier == identifier:
                self._inference.note(model)
                return model
        return (await self._inference.look_up(identifier, caller))[0]

    async def providers(self, caller: Caller) -> list[ProviderState]:
        async with asyncio.TaskGroup() as group:
            healths = [group.create_task(slot.current_health()) for slot in self._slots]
        return [
            ProviderState(
                api=slot.resolved.api,
                provider_id=slot.resolved.provider_id,
                provider_type=slot.resolved.entry.provider_type,
                config=slot.resolved.masked_config,
                health=health.result(),
            )
            for slot, health in zip(self._slots, healths, strict=True)
        ]


def _unique(field: str, owned: list[tuple[ProviderSlot, Any]]) -> list[Any]:
    """The resources, once no identifier stands twice."""
    owners: dict[str, str] = {}
    for slot, resource in owned:
        provider_id = slot.resolved.provider_id
        if resource.identifier in owners:
            raise ConfigError(
                f"{resource.identifier!r} stands under {owners[resource.identifier]!r} and {provider_id!r} in {field}",
                where=slot.resolved.source,
                remedy="Give one of them another identifier; provider_resource_id keeps the provider's own name.",
            )
        owners[resource.identifier] = provider_id
    return [resource for _, resource in owned]
