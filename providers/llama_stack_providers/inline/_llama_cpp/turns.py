"""Who may use a model when: as many at once as it has slots, and who asks for little before who asks for much."""

import asyncio
from bisect import insort
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

BULK_AT_ONCE = 1
"""Parts of long work in the worker at once. It answers what it was given in the order of arrival, so whatever lies
there is ahead of the next question; a second part would not make a small model faster, which has but one thread."""


@dataclass(order=True)
class _Waiting:
    precedence: int
    arrival: int
    is_bulk: bool = field(compare=False)
    granted: "asyncio.Future[None]" = field(compare=False)


class Turns:
    """The slots of a model. waiting: how many wait for one."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._bulk_free = BULK_AT_ONCE
        self._queue: list[_Waiting] = []
        self._arrivals = count()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def is_free(self, *, is_bulk: bool = False) -> bool:
        return self._free > 0 and (not is_bulk or self._bulk_free > 0)

    @asynccontextmanager
    async def turn(self, precedence: int = 0, *, is_bulk: bool = False) -> AsyncIterator[None]:
        """Wait for a slot and hold it. The lowest precedence comes first; of equal ones, who came first.

        is_bulk: a part of long work, of which only BULK_AT_ONCE are held at the same time.
        """
        one = _Waiting(precedence, next(self._arrivals), is_bulk, asyncio.get_running_loop().create_future())
        insort(self._queue, one)
        self._grant()
        try:
            await one.granted
        except asyncio.CancelledError:
            if one in self._queue:
                self._queue.remove(one)
            else:
                self._give_back(one)
            raise
        try:
            yield
        finally:
            self._give_back(one)

    def _give_back(self, one: _Waiting) -> None:
        self._free += 1
        self._bulk_free += one.is_bulk
        self._grant()

    def _grant(self) -> None:
        while (first := next((one for one in self._queue if self.is_free(is_bulk=one.is_bulk)), None)) is not None:
            self._queue.remove(first)
            self._free -= 1
            self._bulk_free -= first.is_bulk
            first.granted.set_result(None)
