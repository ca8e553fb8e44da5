"""How each kind of index (`settings.py`) is built and searched. Whatever one proposes is scored anew, exactly."""

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from llama_stack_providers.inline._faiss.settings import Hnsw, IndexKind, IvfPq

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llama_stack_providers.inline._faiss.rows import Ids

    Floats = NDArray[np.float32]

_BITS = 8
_CANDIDATES = 8
"""So many times more of the compressed vectors are proposed than are wanted."""
_FEW = 2_000
"""Chunks that are scored one by one rather than looked for in an index."""


class Nearest(Protocol):
    """An index over positions 0, 1, 2, ... of unit vectors. Many may search at once; changes are made alone."""

    def add(self, rows: "Floats") -> None: ...

    def bury(self, positions: "Ids") -> None:
        """Never propose them again."""
        ...

    def propose(self, query: "Floats", count: int, among: "Ids | None") -> "Ids":
        """Positions that are the nearest, or likely to. among: only these; None: all that are alive.

        At least `count`, where there are so many.
        """
        ...

    def vectors(self, positions: "Ids") -> "Floats | None":
        """The unit vectors; None where they are not in memory."""
        ...


class FlatIndex:
    """Exact, and the vectors of the other kinds until they are worth an index."""

    def __init__(self, dimension: int) -> None:
        import faiss

        self._faiss: Any = faiss
        self.index: Any = faiss.IndexFlatIP(dimension)

    def add(self, rows: "Floats") -> None:
        self.index.add(rows)

    def bury(self, positions: "Ids") -> None:
        # Nothing is smaller or greater than NaN, so it never gets among the best; a selector costs half a search more.
        self._memory()[positions] = np.nan

    def propose(self, query: "Floats", count: int, among: "Ids | None") -> "Ids":
        parameters = None
        if among is not None:
            # Held by a name, because FAISS does not keep what it is given alive.
            selector = self._faiss.IDSelectorArray(among)
            parameters = self._faiss.SearchParameters(sel=selector)
        return _search(self.index, query, count, parameters)

    def vectors(self, positions: "Ids") -> "Floats":
        chosen: Floats = self._memory()[positions]
        return chosen

    def _memory(self) -> Any:
        pointer = self._faiss.rev_swig_ptr(self.index.get_xb(), self.index.ntotal * self.index.d)
        return pointer.reshape(self.index.ntotal, self.index.d)


class HnswIndex:
    """A graph over a flat index, which answers where a filter leaves so few that the graph would not lead to them."""

    def __init__(self, dimension: int, kind: Hnsw, index: Any = None) -> None:
        import faiss

        self._faiss: Any = faiss
        self._kind = kind
        if index is None:
            index = faiss.IndexHNSWFlat(dimension, kind.m, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = kind.ef_construction
        self.index = index
        self._storage = FlatIndex(dimension)
        self._storage.index = faiss.downcast_index(index.storage)
        self._alive = np.ones(index.ntotal, dtype=np.bool_)

    def add(self, rows: "Floats") -> None:
        self.index.add(rows)
        self._alive = np.concatenate([self._alive, np.ones(len(rows), dtype=np.bool_)])

    def bury(self, positions: "Ids") -> None:
        self._alive[positions] = False

    def propose(self, query: "Floats", count: int, among: "Ids | None") -> "Ids":
        if among is not None and len(among) <= max(_FEW, len(self._alive) // 20):
            return self._storage.propose(query, count, among)
        allowed = self._alive if among is None else _flags(len(self._alive), among)
        selector = self._faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        parameters = self._faiss.SearchParametersHNSW(efSearch=max(self._kind.ef_search, 2 * count), sel=selector)
        found = _search(self.index, query, count, parameters)
        if len(found) < count:
            found = self._storage.propose(query, count, np.flatnonzero(allowed) if among is None else among)
        return found

    def vectors(self, positions: "Ids") -> "Floats":
        return self._storage.vectors(positions)


class IvfPqIndex:
    """Compressed; trained on the vectors it begins with."""

    def __init__(self, dimension: int, kind: IvfPq, index: Any = None) -> None:
        import faiss

        self._faiss: Any = faiss
        self._kind = kind
        self._dimension = dimension
        self.index = index
        self._alive = np.ones(0 if index is None else index.ntotal, dtype=np.bool_)

    def train(self, sample: "Floats", expected: int) -> None:
        """expected: how many vectors there are now."""
        faiss = self._faiss
        lists = self._kind.lists or max(1, int(4 * math.sqrt(expected)))
        # FAISS wants about forty vectors for each centre, and at least one for each code of a subvector.
        lists = max(1, min(lists, len(sample) // 39))
        quantizer = faiss.IndexFlatIP(self._dimension)
        self.index = faiss.IndexIVFPQ(
            quantizer,
            self._dimension,
            lists,
            self._kind.subvectors_of(self._dimension),
            _BITS,
            faiss.METRIC_INNER_PRODUCT,
        )
        self.index.own_fields = True
        quantizer.this.disown()
        # Whoever sets `train_from` low knows that the centres are coarse; FAISS would say so on stderr each time.
        self.index.cp.min_points_per_centroid = self.index.pq.cp.min_points_per_centroid = 1
        self.index.train(sample)

    def add(self, rows: "Floats") -> None:
        self.index.add(rows)
        self._alive = np.concatenate([self._alive, np.ones(len(rows), dtype=np.bool_)])

    def bury(self, positions: "Ids") -> None:
        self._alive[positions] = False

    def propose(self, query: "Floats", count: int, among: "Ids | None") -> "Ids":
        if among is not None and len(among) <= _FEW:
            # Scoring them from the file is as fast and exact.
            return among
        allowed = self._alive if among is None else _flags(len(self._alive), among)
        selector = self._faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        found = np.empty(0, dtype=np.int64)
        for probes in (self._kind.probes, self.index.nlist):
            parameters = self._faiss.SearchParametersIVF(sel=selector, nprobe=min(probes, self.index.nlist))
            found = _search(self.index, query, count * _CANDIDATES, parameters)
            if len(found) >= count:
                break
        return found

    def vectors(self, positions: "Ids") -> None:
        return None


def empty_index(kind: IndexKind, dimension: int) -> Nearest:
    """An index of the kind; for one that must be trained, the flat one that comes before."""
    return HnswIndex(dimension, kind) if isinstance(kind, Hnsw) else FlatIndex(dimension)


def _search(index: Any, query: "Floats", count: int, parameters: Any) -> "Ids":
    if not index.ntotal:
        return np.empty(0, dtype=np.int64)
    _, labels = index.search(query.reshape(1, -1), min(count, index.ntotal), params=parameters)
    found: Ids = labels[0]
    return found[found >= 0]


def _flags(count: int, positions: "Ids") -> Any:
    flags = np.zeros(count, dtype=np.bool_)
    flags[positions] = True
    return flags
