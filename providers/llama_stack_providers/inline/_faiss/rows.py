"""Which chunk is at which position of an index in memory.

Ids of chunks only ever grow and are never used again (`_chunks/schema.py`), so they stand in order, a position is
found by bisection, and nine bytes a chunk are enough.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]
    Flags = NDArray[np.bool_]

_FIRST_CAPACITY = 1_024


class Rows:
    """Ids by position, and whether the chunk is still alive."""

    def __init__(self) -> None:
        self._ids: Ids = np.empty(_FIRST_CAPACITY, dtype=np.int64)
        self._alive: Flags = np.empty(_FIRST_CAPACITY, dtype=np.bool_)
        self.count = 0
        self.dead = 0

    @property
    def ids(self) -> "Ids":
        return self._ids[: self.count]

    @property
    def alive(self) -> "Flags":
        return self._alive[: self.count]

    @property
    def last_id(self) -> int:
        """0 where there is none; ids begin at 1."""
        return int(self._ids[self.count - 1]) if self.count else 0

    def append(self, ids: "Ids") -> None:
        """The ids are greater than all before."""
        needed = self.count + len(ids)
        if needed > len(self._ids):
            capacity = max(needed, len(self._ids) * 3 // 2)
            self._ids = _grown(self._ids, self.count, capacity)
            self._alive = _grown(self._alive, self.count, capacity)
        self._ids[self.count : needed] = ids
        self._alive[self.count : needed] = True
        self.count = needed

    def positions(self, ids: "Ids") -> "Ids":
        """Where the ids stand, in ascending order; ids that are not there are left out."""
        ids = np.sort(ids)
        found = np.searchsorted(self.ids, ids)
        there = found < self.count
        found, ids = found[there], ids[there]
        positions: Ids = found[self.ids[found] == ids].astype(np.int64, copy=False)
        return positions

    def bury(self, positions: "Ids") -> "Ids":
        """Mark as dead; gives those that were alive."""
        fresh = positions[self._alive[positions]]
        self._alive[fresh] = False
        self.dead += len(fresh)
        return fresh


def _grown(array: Any, count: int, capacity: int) -> Any:
    larger = np.empty(capacity, dtype=array.dtype)
    larger[:count] = array[:count]
    return larger
