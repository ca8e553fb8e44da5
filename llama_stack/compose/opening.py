"""open_stack(): raise the floors of a distribution, and take them down in reverse."""

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llama_stack.api.inference import Inference
from llama_stack.api.memory import Memory
from llama_stack.catalog import Catalog
from llama_stack.compose.database_door import DatabaseDoor
from llama_stack.compose.local_stack import LocalStack
from llama_stack.compose.resolving import resolve_providers
from llama_stack.compose.slots import ProviderSlot
from llama_stack.distribution import Distribution
from llama_stack.errors import ProviderUnavailable
from llama_stack.provider import Ground, InferenceFloor, ToolsFloor

if TYPE_CHECKING:
    import httpx

    from llama_stack.memory.service import MemoryService


def stack_home() -> Path:
    """The folder that holds all state: LLAMA_STACK_HOME, by default ~/.llama."""
    return Path(os.environ.get("LLAMA_STACK_HOME") or "~/.llama").expanduser()


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
