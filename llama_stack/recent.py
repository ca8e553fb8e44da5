"""What was read a moment ago need not be read again, for a moment."""

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from cachetools import TTLCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

KEPT_S = 1.0
"""Seconds after which another server's changes are seen at the latest."""
MOST_KEPT = 10_000


class Recent(Generic[K, V]):
    """Values by key, each for a second; what this process changes is forgotten at once.

    Only what was found is kept, so what somebody else has just made is found without delay.

    clock: seconds, from any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._values: TTLCache[K, V] = TTLCache(MOST_KEPT, KEPT_S, timer=clock)
        self._changes = 0

    async def get(self, key: K, read: Callable[[], Awaitable[V]]) -> V:
        """The value, read where it is not known. Raises what `read` raises."""
        value = self._values.get(key)
        if value is not None:
            return value
        changes = self._changes
        value = await read()
        if changes == self._changes:  # else it may have been read before the change
            self._values[key] = value
        return value

    def forget(self, key: K) -> None:
        """After a change of the value; called once it is done."""
        self._changes += 1
        self._values.pop(key, None)
