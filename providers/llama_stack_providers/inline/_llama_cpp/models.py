"""The models of one provider: which there are, which are loaded, and what makes room for what."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from llama_stack.api.inference import Capabilities
from llama_stack.api.resources import Model, ModelType
from llama_stack.errors import ConfigError, NotFound, ProviderUnavailable
from llama_stack.hub import PREFIX as HUB_PREFIX
from llama_stack.hub import cached_file
from llama_stack.weights import PREFIX as WEIGHTS_PREFIX
from llama_stack.weights import find_weights
from llama_stack_providers.inline._llama_cpp.engine import CONTROL_CONNECTIONS, Engine
from llama_stack_providers.inline._llama_cpp.family import capabilities_of, llama_family
from llama_stack_providers.inline._llama_cpp.gguf_header import GgufHeader, NotGguf, read_header
from llama_stack_providers.inline._llama_cpp.memory import available_bytes
from llama_stack_providers.inline._llama_cpp.process import WorkerProcess
from llama_stack_providers.inline._llama_cpp.settings import (
    Config,
    ModelSettings,
    batch_tokens_for,
    threads_for,
    usable_cpus,
)
from llama_stack_providers.inline._llama_cpp.worker import WorkerOrders

logger = logging.getLogger(__name__)

LONGEST_DEFAULT_WINDOW = {"chat": 8192, "embedding": 2048, "rerank": 2048}
_MODEL_TYPES = {"chat": ModelType.LLM, "embedding": ModelType.EMBEDDING, "rerank": ModelType.RERANK}


def _unknown() -> Capabilities:
    """Of a model of the hub that is not downloaded: its first use tells."""
    return Capabilities(
        completion=True, embedding=True, rerank=True, grammar=True, tokens_prompt=True, token_counts=True
    )


@dataclass
class ServedModel:
    """A model of the distribution. identifier: the callers' name of it; name: ours, which may hold a path.

    header: None for a model of the hub that is not downloaded. users: requests that hold the engine now.
    failure: why the last load failed.
    """

    identifier: str
    name: str
    settings: ModelSettings
    context_length: int | None
    header: GgufHeader | None = None
    capabilities: Capabilities = field(default_factory=_unknown)
    engine: Engine | None = None
    users: int = 0
    last_used: float = 0.0
    failure: str | None = None
    loading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Models:
    """Loads a model when it is first used and keeps at most `max_loaded_models`; the one unused longest goes first."""

    def __init__(self, config: Config, home: Path) -> None:
        self._config = config
        self._home = home
        self._served: dict[str, ServedModel] = {}
        self._held = 0  # engines loaded, being loaded or being closed
        self._freed = asyncio.Event()
        self._working: list[asyncio.Task[None]] = []

    @property
    def served(self) -> list[ServedModel]:
        return list(self._served.values())

    async def add(self, model: Model) -> Model:
        """Serve the model from now on; returns it with what its file says. Raises ConfigError."""
        name = model.provider_resource_id
        try:
            settings = ModelSettings.model_validate(model.metadata)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"model {name!r}: metadata.{first['loc'][0]}: {first['msg']}") from error
        served = ServedModel(model.identifier, name, settings, model.context_length or self._config.context_length)
        header = await asyncio.to_thread(self._read, name)
        if header is not None:
            served.header, served.capabilities = header, capabilities_of(name, header)
            model = self._described(model, served, header)
        self._served[name] = served
        if name in self._config.preload:
            self._working.append(asyncio.create_task(self._preload(name), name=f"preload {name}"))
        return model

    async def _preload(self, name: str) -> None:
        try:
            async with self.use(name):
                pass
        except ProviderUnavailable as error:
            logger.warning("%s", error)  # health says so too, and the first request tries again

    def _described(self, model: Model, served: ServedModel, header: GgufHeader) -> Model:
        if served.context_length is not None and served.context_length > header.trained_context:
            raise ConfigError(
                f"model {model.identifier!r}: context_length {served.context_length} is more than the "
                f"{header.trained_context} tokens it was trained for",
                remedy=f"Set context_length to at most {header.trained_context}.",
            )
        if model.model_type != _MODEL_TYPES[header.purpose]:
            raise ConfigError(
                f"model {model.identifier!r} is declared as {model.model_type}, but {header.path.name} is made for "
                f"{_MODEL_TYPES[header.purpose]}",
                remedy=f"Set model_type to {_MODEL_TYPES[header.purpose]}.",
            )
        filled: dict[str, int] = {"context_length": self._window(served, header)}
        if header.purpose == "embedding":
            if model.embedding_dimension not in (None, header.width):
                raise ConfigError(
                    f"model {model.identifier!r} makes vectors of {header.width}, not {model.embedding_dimension}",
                    remedy=f"Set embedding_dimension to {header.width}.",
                )
            filled["embedding_dimension"] = header.width
        return model.model_copy(update=filled)

    def _read(self, name: str) -> GgufHeader | None:
        """Header of the model's file; None where the hub's file is not downloaded. Raises ConfigError."""
        if name.startswith(HUB_PREFIX):
            path = cached_file(name, self._home)
            if path is None:
                return None
        elif name.startswith(WEIGHTS_PREFIX):
            path = find_weights(name)
        else:
            path = Path(name).expanduser()
        try:
            return read_header(path)
        except FileNotFoundError as error:
            raise ConfigError(
                f"there is no file {str(path)!r}",
                remedy="Name a GGUF file, hf:owner/repo/file.gguf, or weights:folder/file.gguf.",
            ) from error
        except (NotGguf, OSError) as error:
            raise ConfigError(f"model {name!r} cannot be read: {error}") from error

    def find(self, name: str) -> ServedModel:
        """Raises NotFound for a model the distribution does not list: no request may name a file."""
        served = self._served.get(name)
        if served is None:
            raise NotFound(
                f"the embedded engine serves no model {name!r}; list it in the distribution", param="model",
                code="model_not_found",
            )  # fmt: skip
        return served

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Engine]:
        """The loaded model, which stays loaded meanwhile. Raises ProviderUnavailable when it cannot be loaded."""
        served = self.find(name)
        served.users += 1
        try:
            yield await self._engine(served)
        finally:
            served.users -= 1
            served.last_used = asyncio.get_running_loop().time()
            self._freed.set()

    async def _engine(self, served: ServedModel) -> Engine:
        engine = served.engine
        if engine is not None and engine.alive:
            return engine
        async with served.loading:
            if served.engine is not None and served.engine.alive:
                return served.engine
            await self._unload(served)
            await self._make_room()
            try:
                served.engine = await self._load(served)
                served.failure = None
            except ProviderUnavailable as error:
                served.failure = error.message
                raise
            finally:
                if served.engine is None:
                    self._held -= 1
                    self._freed.set()
            return served.engine

    async def _make_room(self) -> None:
        """Count one more engine as held, once there is room for it."""
        while self._held >= self._config.max_loaded_models:
            idle = [s for s in self._served.values() if s.engine is not None and s.users == 0]
            if idle:
                await self._unload(min(idle, key=lambda served: served.last_used))
            else:
                self._freed.clear()
                await self._freed.wait()
        self._held += 1

    async def _unload(self, served: ServedModel) -> None:
        engine, served.engine = served.engine, None
        if engine is None:
            return
        try:
            await engine.close()
        finally:
            self._held -= 1
            self._freed.set()

    async def _load(self, served: ServedModel) -> Engine:
        try:
            header = await asyncio.to_thread(self._read, served.name)
        except ConfigError as error:
            raise ProviderUnavailable(str(error)) from error
        if header is None:
            raise ProviderUnavailable(
                f"model {served.identifier!r} is not downloaded; run: llama model download {served.name}"
            )
        served.header, served.capabilities = header, capabilities_of(served.name, header)
        orders = self._orders(served, header)
        self._check_memory(served, header, orders)
        worker, _ = await asyncio.gather(
            WorkerProcess.start(served.identifier, orders, self._config.start_timeout_s),
            asyncio.to_thread(import_module, "aiohttp"),  # a tenth of a second that the event loop need not stand still
        )
        logger.info(
            "loaded %s: %d slots of %d tokens, %d threads, process %d",
            *(served.identifier, orders.slots, orders.context_length, orders.threads, worker.pid),
        )
        return Engine(
            served.identifier,
            header,
            served.settings,
            worker,
            family=llama_family(served.name, header),
            max_queue=self._config.max_queue,
            stall_timeout_s=self._config.stall_timeout_s,
        )

    def _window(self, served: ServedModel, header: GgufHeader) -> int:
        return served.context_length or min(header.trained_context, LONGEST_DEFAULT_WINDOW[header.purpose])

    def _orders(self, served: ServedModel, header: GgufHeader) -> WorkerOrders:
        slots = served.settings.parallel_slots or self._config.parallel_slots
        return WorkerOrders(
            model_path=str(header.path),
            socket=None,
            api_key="",
            context_length=self._window(served, header),
            slots=slots,
            threads=self._config.threads or threads_for(header.size_bytes, usable_cpus()),
            batch_tokens=batch_tokens_for(header.size_bytes),
            http_threads=slots + CONTROL_CONNECTIONS + 2,
            purpose=header.purpose,
            low_memory=self._config.low_memory,
        )

    def _check_memory(self, served: ServedModel, header: GgufHeader, orders: WorkerOrders) -> None:
        """Refuse what the kernel would end later, or what would never finish loading."""
        cache = header.cache_bytes_per_token() * orders.context_length * orders.slots
        weights = 0 if orders.low_memory else header.size_bytes
        there = available_bytes()
        if there is not None and weights + cache > there:
            raise ProviderUnavailable(
                f"model {served.identifier!r} needs about {(weights + cache) >> 20} MiB ({weights >> 20} for weights, "
                f"{cache >> 20} for {orders.slots} slots of {orders.context_length} tokens) and {there >> 20} MiB are "
                "free; lower context_length or parallel_slots, set low_memory, or take a smaller model"
            )

    async def _unload_idle(self, idle_s: float) -> None:
        """Unload, for ever, models unused for `idle_s` seconds."""
        while True:
            await asyncio.sleep(idle_s / 4)
            now = asyncio.get_running_loop().time()
            for served in self._served.values():
                if served.engine is not None and served.users == 0 and now - served.last_used >= idle_s:
                    await self._unload(served)

    async def __aenter__(self) -> Self:
        if self._config.idle_unload_s is not None:
            sweeping = self._unload_idle(self._config.idle_unload_s)
            self._working.append(asyncio.create_task(sweeping, name="unload idle models"))
        return self

    async def __aexit__(self, *failure: object) -> None:
        for task in self._working:
            task.cancel()
        if self._working:
            await asyncio.wait(self._working)
        async with asyncio.TaskGroup() as group:
            for served in self._served.values():
                group.create_task(self._unload(served))
