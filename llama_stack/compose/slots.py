"""One open provider, and what keeps it open."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from llama_stack.api.common import Health, HealthStatus
from llama_stack.api.resources import Model
from llama_stack.compose.resolving import ResolvedProvider
from llama_stack.errors import ProviderFailed
from llama_stack.routing import unavailable

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LAST_RETRY_S = 30.0
HEALTH_TIMEOUT_S = 5.0


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
        self.models: list[Model] = list(resources_of(resolved, "models", Model))

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


def resources_of(resolved: ResolvedProvider, field: str, kind: type[Any]) -> Iterable[Any]:
    """The resources written under a provider, as the words the stack speaks."""
    for entry in getattr(resolved.entry, field, []):
        values = entry.model_dump()
        values["provider_resource_id"] = entry.provider_resource_id or entry.identifier
        yield kind(provider_id=resolved.provider_id, **values)
