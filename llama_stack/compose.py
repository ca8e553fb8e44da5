"""open_stack(): raise the floors of a distribution, and take them down in reverse.

A wrong setting stops here with a ConfigError. A provider that cannot be reached does not: it is degraded, tried again
in the background, and its calls are answered with the reason until it opens.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import metadata as distribution_metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.api.common import Caller, Health, HealthStatus, JsonObject
from llama_stack.api.files import File
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Memory
from llama_stack.api.resources import MemoryBank, Model, Resource, Shield
from llama_stack.api.safety import Safety
from llama_stack.api.stack import ProviderState
from llama_stack.api.tools import ToolGroup, Tools
from llama_stack.catalog import Catalog
from llama_stack.distribution import Distribution, ProviderEntry, check_config
from llama_stack.errors import ConfigError, ProviderFailed, ProviderUnavailable
from llama_stack.provider import Ground, InferenceFloor, Provider, ProviderConfig, ToolsFloor
from llama_stack.registry import ResourceRegistry
from llama_stack.routing import (
    Owner,
    RoutedInference,
    RoutedSafety,
    RoutedTools,
    Routes,
    unavailable,
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

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
HEALTH_TIMEOUT_S = 5.0
DATABASE_FILE = "stack.db"
"""In the stack's home, where no other database is configured; as `storage.default_url` says."""
_SECRET_NAME = re.compile(r"key|token|secret|password|authorization|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")


def stack_home() -> Path:
    """The folder that holds all state: LLAMA_STACK_HOME, by default ~/.llama."""
    return Path(os.environ.get("LLAMA_STACK_HOME") or "~/.llama").expanduser()


@dataclass(frozen=True)
class ResolvedProvider:
    """A provider of a distribution with its declaration and its checked settings."""

    api: str
    provider_id: str
    entry: ProviderEntry
    declaration: Provider
    config: ProviderConfig
    source: str

    @property
    def masked_config(self) -> JsonObject:
        """The settings as they may be shown: every secret replaced."""
        masked: JsonObject = mask_secrets(self.config.model_dump(mode="json"))
        return masked


def mask_secrets(value: Any, name: str = "") -> Any:
    """The value with every text under a secret's name, and every password inside a URL, replaced."""
    if isinstance(value, dict):
        return {key: mask_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [mask_secrets(item, name) for item in value]
    if isinstance(value, str) and value:
        return "**********" if _SECRET_NAME.search(name) else _URL_PASSWORD.sub(r"\1:**********@", value)
    return value


def resolve_providers(distribution: Distribution, catalog: Catalog | None = None) -> list[ResolvedProvider]:
    """The distribution's providers, floors from the ground up, settings checked.

    Raises ConfigError for an unknown type, a provider of another API, a repeated id, or a wrong setting.
    """
    catalog = catalog or Catalog()
    resolved: list[ResolvedProvider] = []
    for api, entries in distribution.providers.by_api().items():
        for position, entry in enumerate(entries):
            if entry.provider_id is None:
                continue
            if any(other.provider_id == entry.provider_id for other in resolved):
                raise ConfigError(f"two providers have the id {entry.provider_id!r}", where=distribution.source)
            declaration = catalog.get(entry.provider_type)
            if entry.optional and missing_requirements(declaration):
                continue
            if declaration.api != api:
                raise ConfigError(
                    f"{entry.provider_type} provides {declaration.api} but stands under providers.{api}",
                    where=distribution.source,
                    remedy=f"Move it to providers.{declaration.api}.",
                )
            prefix = ("providers", api, position, "config")
            config = check_config(declaration.config, entry.config, where=distribution.source, prefix=prefix)
            resolved.append(ResolvedProvider(api, entry.provider_id, entry, declaration, config, distribution.source))
    return resolved


def missing_requirements(declaration: Provider) -> list[str]:
    """Those of the packages a provider requires that are not installed, in any version."""
    missing = []
    for requirement in declaration.requires:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            distribution_metadata(name)
        except PackageNotFoundError:
            missing.append(requirement)
    return missing


class ProviderSlot:
    """Keeps one provider open, and opens it again while it cannot be reached.

    One task owns the provider from `open` to its end, so a provider may use task-bound scopes.
    """

    def __init__(self, resolved: ResolvedProvider, floor: Any) -> None:
        self.resolved = resolved
        self.health = Health(status=HealthStatus.STARTING)
        self._floor = floor
        self._implementation: Any = None
        self._tried = asyncio.Event()
        self._closing = asyncio.Event()
        self._failure: BaseException | None = None
        self.models: list[Model] = list(_resources(resolved, "models", Model))

    def implementation(self) -> Any:
        """The open provider. Raises ProviderUnavailable while it is not open."""
        if self._implementation is None:
            raise unavailable(self.resolved.provider_id, self.health)
        return self._implementation

    def is_open(self) -> bool:
        return self._implementation is not None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the provider for as long as the context lasts; a wrong setting is raised at entry."""
        task = asyncio.create_task(self._own(), name=f"provider {self.resolved.provider_id}")
        try:
            await self._tried.wait()
            if self._failure is not None:
                raise self._failure
            yield
        finally:
            self._closing.set()
            if not self._tried.is_set():
                task.cancel()
            await asyncio.wait([task])

    async def _own(self) -> None:
        pause = FIRST_RETRY_S
        while not self._closing.is_set():
            try:
                async with self.resolved.declaration.open(self.resolved.config, self._floor) as implementation:
                    if self.resolved.api == "inference":
                        self.models = [await implementation.add_model(model) for model in self.models]
                    self._implementation = implementation
                    self.health = Health(status=HealthStatus.OK)
                    self._tried.set()
                    await self._closing.wait()
            except (ProviderFailed, OSError) as error:
                self.health = Health(status=HealthStatus.DEGRADED, message=str(error))
                logger.warning("provider %s is degraded: %s", self.resolved.provider_id, error)
            except Exception as error:  # a provider's own code runs here; its opener must hear of any failure
                self._failure = error
                self.health = Health(status=HealthStatus.FAILED, message=str(error))
                return
            finally:
                self._implementation = None
                self._tried.set()
            await self._pause(pause)
            pause = min(pause * 2, LAST_RETRY_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def current_health(self) -> Health:
        """The provider's own word where it has one, within a bounded time."""
        ask = getattr(self._implementation, "health", None)
        if ask is None:
            return self.health
        try:
            async with asyncio.timeout(HEALTH_TIMEOUT_S):
                answer: Health = await ask()
        except TimeoutError:
            return Health(status=HealthStatus.DEGRADED, message=f"no answer within {HEALTH_TIMEOUT_S:g} s")
        return answer


class DatabaseDoor:
    """The stack's one database, opened when it is first used: a stack that keeps nothing pays nothing for it."""

    def __init__(self, url: str | None, home: Path) -> None:
        self._url = url
        self._home = home
        self._lock = asyncio.Lock()
        self._exits = AsyncExitStack()
        self._database: Database | None = None

    async def open(self) -> "Database":
        """The database, its schema up to date. Raises ConfigError when it cannot be used."""
        async with self._lock:
            if self._database is None:
                # Half a second in which the event loop need not stand still; whoever has a database has it loaded.
                await asyncio.to_thread(import_module, "llama_stack.storage")
                from llama_stack.storage import default_url, open_database

                url = self._url or default_url(self._home)
                self._database = await self._exits.enter_async_context(open_database(url))
            return self._database

    @property
    def is_open(self) -> bool:
        return self._database is not None

    @property
    def has_state(self) -> bool:
        """Whether an earlier process may have kept something; found out without loading a driver."""
        return self._url is not None or (self._home.expanduser() / DATABASE_FILE).exists()

    @asynccontextmanager
    async def ready(self) -> AsyncIterator["DatabaseDoor"]:
        """Closes the database in the end. One that a person configured is opened at once, so a wrong URL is found."""
        async with self._exits:
            if self._url is not None:
                await self.open()
            yield self


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
        self.registry = ResourceRegistry(own, providers, self.database)
        self._models = model_routes.resources
        self._inference = RoutedInference(model_routes, partial(self.registry.registered, Model))
        self.safety = RoutedSafety(shields, partial(self.registry.registered, Shield))
        self.tools = RoutedTools(groups, partial(self.registry.registered, ToolGroup))

    def _listed(self, field: str, kind: type[Any]) -> list[Any]:
        return _unique(field, [(slot, item) for slot in self._slots for item in _resources(slot.resolved, field, kind)])

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


def _resources(resolved: ResolvedProvider, field: str, kind: type[Any]) -> Iterable[Any]:
    """The resources written under a provider, as the words the stack speaks."""
    for entry in getattr(resolved.entry, field, []):
        values = entry.model_dump()
        values["provider_resource_id"] = entry.provider_resource_id or entry.identifier
        yield kind(provider_id=resolved.provider_id, **values)


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


@asynccontextmanager
async def open_stack(
    distribution: Distribution,
    *,
    home: Path | None = None,
    catalog: Catalog | None = None,
    transport: "httpx.AsyncBaseTransport | None" = None,
) -> AsyncGenerator[LocalStack, None]:
    """Open every provider of the distribution; they close in reverse order when the context ends.

    home: the state folder, `stack_home()` by default. transport: replaces the network for remote providers (tests).
    Raises ConfigError for a wrong setting; an unreachable provider is degraded instead.
    """
    home = home or stack_home()
    resolved = resolve_providers(distribution, catalog)
    async with AsyncExitStack() as exits:
        database = await exits.enter_async_context(DatabaseDoor(distribution.storage.url, home).ready())
        slots: list[ProviderSlot] = []
        whole: list[LocalStack] = []

        async def memory() -> "MemoryService":
            if not whole:
                raise ProviderUnavailable("the stack is still starting")
            return await whole[0].memory()

        for api in distribution.providers.by_api():
            inference = None if api == "inference" else LocalStack(distribution, home, slots, database).inference
            for provider in (provider for provider in resolved if provider.api == api):
                ground = Ground(home=home, state=home / "providers" / provider.provider_id, transport=transport)
                slot = ProviderSlot(provider, _floor(api, ground, inference, memory))
                slots.append(slot)
                await exits.enter_async_context(slot.running())
        whole.append(LocalStack(distribution, home, slots, database, transport))
        await exits.enter_async_context(whole[0].services)
        yield whole[0]


def _floor(
    api: str, ground: Ground, inference: Inference | None, memory: Callable[[], Awaitable[Memory]]
) -> Ground | InferenceFloor:
    """What a provider of the API stands on."""
    if inference is None:
        return ground
    return ToolsFloor(ground, inference, memory) if api == "tools" else InferenceFloor(ground, inference)
