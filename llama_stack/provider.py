"""What a provider file declares, and the floors it stands on.

A provider is one file. Its type is its path below the package that ships it: `remote/ollama.py` is `remote::ollama`.
The file defines a config class, an `open_...` async context manager, and one module-level name `provider`:

    class Config(ProviderConfig):
        url: HttpUrl = Field(HttpUrl("http://localhost:11434"), description="where the server listens")

    @asynccontextmanager
    async def open_acme(config: Config, ground: Ground) -> AsyncIterator[Inference]:
        async with ground.http(base_url=str(config.url)) as http:
            yield AcmeInference(http)

    provider = InferenceProvider(summary="Acme's cloud", config=Config, open=open_acme)

Importing the file must be cheap: heavy libraries are imported inside `open`, and named in `requires`.

Floors: ground (HTTP, folders, clock) -> inference -> safety, memory, tools -> agents. `open` receives exactly the
floor below the provider, so a provider that reaches upward is a type error.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Memory
from llama_stack.api.safety import Safety
from llama_stack.api.tools import Tools

if TYPE_CHECKING:
    import httpx

    from llama_stack.transport import Answer as Answer
    from llama_stack.transport import Client as Client  # providers name the type of `Ground.http` from here


class ProviderConfig(BaseModel):
    """Base of a provider's settings: unknown keys are refused, secrets are `SecretStr`, each field is described.

    A value that is refused is not repeated in the error, because it may be a secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NoConfig(ProviderConfig):
    """For providers without settings."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Ground:
    """What every provider may use.

    home: the stack's own folder (LLAMA_STACK_HOME). state: a folder of this provider's own, made on first use by
    whoever writes there. now: the clock. transport: replaces the network in tests.
    """

    home: Path
    state: Path
    now: Callable[[], datetime] = _now
    transport: "httpx.AsyncBaseTransport | None" = None

    @asynccontextmanager
    async def http(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        max_connections: int = 256,
    ) -> AsyncIterator["Client"]:
        """The one door out: an httpx client over the aiohttp transport (httpx's own pool costs five times the CPU).

        timeout_s bounds connecting and each read, not the whole exchange: a long stream is no timeout.
        """
        # A tenth of a second, the first time, that the event loop need not stand still.
        await asyncio.to_thread(import_module, "httpx_aiohttp")
        import httpx

        from llama_stack.transport import Client, open_transport

        transport = self.transport or open_transport(max_connections=max_connections)
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        async with Client(
            base_url=base_url, headers=dict(headers or {}), timeout=timeout, transport=transport, follow_redirects=False
        ) as client:
            yield client


@dataclass(frozen=True)
class InferenceFloor:
    """Ground, and inference over all providers and models of the stack."""

    ground: Ground
    inference: Inference


@dataclass(frozen=True)
class ToolsFloor(InferenceFloor):
    """As the floor above inference, with the memory of the stack. memory: opens it when it is first used.

    Raises ProviderUnavailable while the stack starts.
    """

    memory: Callable[[], Awaitable[Memory]]


@dataclass(frozen=True)
class Provider:
    """What is common to all declarations.

    summary: one line for listings. config: its settings. requires: pip requirements beyond the base install, read by
    `llama stack build`. credentials: names of per-request credentials it accepts from the caller, and the config
    field each replaces. open: see the subclass.
    """

    api: ClassVar[str]
    summary: str
    config: type[ProviderConfig]
    open: Callable[..., AbstractAsyncContextManager[Any]]
    requires: tuple[str, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InferenceProvider(Provider):
    api = "inference"
    open: Callable[[Any, Ground], AbstractAsyncContextManager[Inference]]


@dataclass(frozen=True)
class SafetyProvider(Provider):
    api = "safety"
    open: Callable[[Any, InferenceFloor], AbstractAsyncContextManager[Safety]]


@dataclass(frozen=True)
class MemoryProvider(Provider):
    api = "memory"
    open: Callable[[Any, InferenceFloor], AbstractAsyncContextManager[ChunkIndex]]


@dataclass(frozen=True)
class ToolsProvider(Provider):
    api = "tools"
    open: Callable[[Any, ToolsFloor], AbstractAsyncContextManager[Tools]]
