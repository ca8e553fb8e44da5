"""What is kept in memory about a provider's banks, a little for each and bounded."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

MAX_BANKS = 4096
MAX_LANGUAGES = 256
LANGUAGES_FOR_S = 30.0
"""Another server may write a language that this one has not seen."""


class WriterLocks:
    """One writer at a time for each key in this process; readers do not wait."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: str) -> asyncio.Lock:
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    @asynccontextmanager
    async def of_all(self, keys: Iterable[str]) -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            # Always in the same order, so that no two wait for each other.
            for key in sorted(set(keys)):
                await held.enter_async_context(self.of(key))
            yield


class BankLanguages:
    """The languages of each bank's chunks, by which the words of a query are stemmed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    async def of(self, key: str, read: Callable[[], Awaitable[set[str]]]) -> list[str]:
        """read: asks the database."""
        known = self._known.get(key)
        if known is None or self._clock() - known[0] > LANGUAGES_FOR_S:
            known = self._keep(key, frozenset(await read()))
        return sorted(known[1])

    def add(self, key: str, languages: set[str]) -> None:
        """Of what was just written; a bank that was not asked about yet stays so."""
        known = self._known.get(key)
        if known is not None:
            self._known[key] = (known[0], known[1] | languages)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)

    def _keep(self, key: str, languages: frozenset[str]) -> tuple[float, frozenset[str]]:
        self._known[key] = (self._clock(), languages)
        self._known.move_to_end(key)
        if len(self._known) > MAX_BANKS:
            self._known.popitem(last=False)
        return self._known[key]


async def languages_one_by_one(another: Callable[[set[str]], Awaitable[str | None]]) -> set[str]:
    """For a database that does not group. another: the language of a chunk in none of these; None for no such chunk."""
    seen: set[str] = set()
    while len(seen) < MAX_LANGUAGES and (found := await another(seen)) is not None:
        seen.add(found)
    return seen
