"""The vectors of one bank in memory, kept the same as its file.

They are loaded at the first search. A commit and the change in memory happen while nobody searches; a search holds
its transaction and the index at the same state. Changes of another process are seen by the number of changes in the
file, and are then taken over from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llama_stack_providers.inline._chunks.filters import Condition, Value
from llama_stack_providers.inline._chunks.keeper import Change, Scored, read_vectors
from llama_stack_providers.inline._chunks.rows import select
from llama_stack_providers.inline._chunks.schema import BankFacts, transaction
from llama_stack_providers.inline._faiss.kinds import (
    FlatIndex,
    HnswIndex,
    IvfPqIndex,
    Nearest,
    empty_index,
)
from llama_stack_providers.inline._faiss.lock import ReadWriteLock
from llama_stack_providers.inline._faiss.rows import Rows
from llama_stack_providers.inline._faiss.settings import Flat, Hnsw, IndexKind, IvfPq
from llama_stack_providers.inline._faiss.snapshot import load_snapshot, save_snapshot

if TYPE_CHECKING:
    import apsw
    from numpy.typing import NDArray

    from llama_stack_providers.inline._faiss.kinds import Floats
    from llama_stack_providers.inline._faiss.rows import Ids

SCORE_DECIMALS = 6
PAGE_ROWS = 512
"""Vectors that are read from the file at once."""
DEAD_SHARE = 4
"""One dead vector to so many in all, and the index is built anew without them."""
REMEMBERED_FILTERS = 8
"""Of one bank, as long as it does not change."""
FEW_ROWS = 1_000
"""Not worth a snapshot, nor building anew without the dead."""
QUICK_NUMBERS = 2_000_000
"""In all vectors of a bank; comparing so many takes a fraction of a millisecond. 5,000 vectors of 384 numbers."""
TRAINING_ROWS = 50_000
GROWTH = 4
"""So many times more vectors than it was trained with, and a compressed index is trained anew."""


class VectorsInMemory:
    """A VectorKeeper (`_chunks/keeper.py`)."""

    def __init__(self, facts: BankFacts, path: Path, kind: IndexKind) -> None:
        self._dimension = facts.dimension
        self._path = path
        self._kind = kind
        self._lock = ReadWriteLock()
        self._rows = Rows()
        self._index: Nearest | None = None
        self._changes = -1
        self._trained_with = 0
        self._saved_last_id = 0
        # What is being built anew.
        self._next: tuple[Nearest, Rows] | None = None
        self._filtered: dict[tuple[int, str, tuple[Value, ...]], Ids] = {}

    @contextmanager
    def reading(self, connection: "apsw.Connection") -> Iterator[None]:
        while True:
            with self._lock.shared(), transaction(connection, writing=False):
                if self._changes == _changes_of(connection):
                    yield
                    return
            with self._lock.exclusive(), transaction(connection, writing=False):
                self._follow(connection)

    @contextmanager
    def reading_quickly(self, connection: "apsw.Connection") -> Iterator[bool]:
        index = self._index
        if not isinstance(index, FlatIndex) or self._rows.count * self._dimension > QUICK_NUMBERS:
            yield False
            return
        with self._lock.shared_at_once() as is_free:
            if not is_free:
                yield False
                return
            with transaction(connection, writing=False):
                yield self._index is index and self._changes == _changes_of(connection)

    @contextmanager
    def committing(self, change: Change) -> Iterator[None]:
        with self._lock.exclusive():
            yield
            if self._index is None or self._changes != change.number - 1:
                # Not loaded, or another process was here, too: the next search takes it from the file.
                return
            if change.removed:
                _bury(self._index, self._rows, np.asarray(change.removed, dtype=np.int64))
            if change.vectors is not None:
                rows = np.frombuffer(change.vectors.buffer, dtype=np.float32).reshape(-1, self._dimension)
                self._append(self._index, self._rows, np.asarray(change.added, dtype=np.int64), rows)
            self._changes = change.number

    def nearest(self, connection: "apsw.Connection", query: bytes, limit: int, selected: Condition | None) -> Scored:
        assert self._index is not None, "nearest is asked within reading, which loads the index"
        wanted = _unit(np.frombuffer(query, dtype=np.float32).reshape(1, -1))[0]
        among = None if selected is None else self._selected(connection, selected)
        if among is not None and not len(among):
            return []
        positions = self._index.propose(wanted, limit, among)
        scores = self._exact_scores(connection, self._index, positions, wanted)
        # Equal scores are told apart by whoever asked; here the order only has to be the same every time.
        best = np.lexsort((positions, -scores))[:limit]
        ids = self._rows.ids[positions[best]]
        return list(zip(ids.tolist(), scores[best].tolist(), strict=True))

    @property
    def untidy(self) -> bool:
        return self._next is not None or self._is_worn() or self._is_to_be_trained() or self._fresh_rows() > self._much

    def tidy(self, connection: "apsw.Connection") -> bool:
        """An index is built anew page by page. Searches go on in the old one, and writes between the pages."""
        if self._index is None:
            return False
        if self._next is None and (self._is_worn() or self._is_to_be_trained()):
            self._next = self._begun_anew(connection), Rows()
            return True
        if self._next is not None:
            self._continue(connection, *self._next)
            return True
        if self._fresh_rows() > self._much:
            self._save()
        return False

    def close(self) -> None:
        if self._fresh_rows() > FEW_ROWS:
            self._save()

    def _selected(self, connection: "apsw.Connection", selected: Condition) -> "Ids":
        """Positions that a filter leaves. The same few filters come again and again, with each turn of an agent."""
        known = self._filtered
        name = (self._changes, selected[0], tuple(selected[1]))
        positions = known.get(name)
        if positions is None:
            keys = np.fromiter(chain.from_iterable(select(connection, *selected)), dtype=np.int64)
            positions = self._rows.positions(keys)
            if len(known) >= REMEMBERED_FILTERS:
                known.clear()
            known[name] = positions
        return positions

    def _follow(self, connection: "apsw.Connection") -> None:
        """Make the index what the file says."""
        if self._index is None:
            self._load()
        assert self._index is not None
        gone = np.setdiff1d(self._rows.ids[self._rows.alive], _ids_in(connection), assume_unique=True)
        _bury(self._index, self._rows, gone)
        for ids, rows in self._pages(connection, self._rows.last_id):
            self._append(self._index, self._rows, ids, rows)
        self._changes = _changes_of(connection)

    def _load(self) -> None:
        found = load_snapshot(self._path, self._dimension) if not isinstance(self._kind, Flat) else None
        self._rows = Rows()
        if found is None:
            self._index = empty_index(self._kind, self._dimension)
            return
        index, ids = found
        if isinstance(self._kind, Hnsw):
            self._index = HnswIndex(self._dimension, self._kind, index)
        else:
            assert isinstance(self._kind, IvfPq)
            self._index = IvfPqIndex(self._dimension, self._kind, index)
            self._trained_with = len(ids)
        self._rows.append(ids)
        self._saved_last_id = self._rows.last_id

    def _begun_anew(self, connection: "apsw.Connection") -> Nearest:
        alive = self._rows.count - self._rows.dead
        if not isinstance(self._kind, IvfPq) or alive < self._kind.train_from:
            return empty_index(self._kind, self._dimension)
        compressed = IvfPqIndex(self._dimension, self._kind)
        compressed.train(self._sample(connection, alive), alive)
        self._trained_with = alive
        return compressed

    def _continue(self, connection: "apsw.Connection", index: Nearest, rows: Rows) -> None:
        page = next(self._pages(connection, rows.last_id), None)
        if page is not None:
            self._append(index, rows, *page)
            return
        # All are in, those written meanwhile, too; what died meanwhile is not in the file any more.
        _bury(index, rows, np.setdiff1d(rows.ids, _ids_in(connection), assume_unique=True))
        with self._lock.exclusive():
            self._index, self._rows, self._next = index, rows, None
            # So that the next search compares it with the file, should another process have been there.
            self._changes = -1
            self._filtered.clear()
        self._saved_last_id = 0

    def _sample(self, connection: "apsw.Connection", alive: int) -> "Floats":
        every = max(1, alive // TRAINING_ROWS)
        blobs = select(connection, "SELECT vector FROM vectors WHERE id % ? = 0 LIMIT ?", (every, 2 * TRAINING_ROWS))
        return _unit(np.frombuffer(b"".join(blob for (blob,) in blobs), dtype=np.float32).reshape(-1, self._dimension))

    def _pages(self, connection: "apsw.Connection", after: int) -> "Iterator[tuple[Ids, Floats]]":
        statement = "SELECT id, vector FROM vectors WHERE id > ? ORDER BY id LIMIT ?"
        while page := select(connection, statement, (after, PAGE_ROWS)):
            after = page[-1][0]
            ids = np.fromiter((key for key, _ in page), dtype=np.int64, count=len(page))
            joined = b"".join(vector for _, vector in page)
            yield ids, np.frombuffer(joined, dtype=np.float32).reshape(-1, self._dimension)

    def _append(self, index: Nearest, rows: Rows, ids: "Ids", vectors: "Floats") -> None:
        index.add(_unit(vectors))
        rows.append(ids)

    def _exact_scores(
        self, connection: "apsw.Connection", index: Nearest, positions: "Ids", query: "Floats"
    ) -> "NDArray[np.float64]":
        """Cosines to as many decimals as float32 can tell apart, so equal vectors have equal scores."""
        chosen: Any = index.vectors(positions)
        if chosen is None:
            keys = self._rows.ids[positions].tolist()
            vectors = read_vectors(connection, keys)
            joined = b"".join(vectors[key] for key in keys)
            chosen = _unit(np.frombuffer(joined, dtype=np.float32).reshape(-1, self._dimension))
        products = chosen.astype(np.float64) * query.astype(np.float64)
        scores: NDArray[np.float64] = np.round(products.sum(axis=1), SCORE_DECIMALS)
        return scores

    def _is_worn(self) -> bool:
        return self._rows.dead > FEW_ROWS and self._rows.dead * DEAD_SHARE > self._rows.count

    def _is_to_be_trained(self) -> bool:
        if not isinstance(self._kind, IvfPq) or self._index is None:
            return False
        alive = self._rows.count - self._rows.dead
        return alive >= self._kind.train_from and alive >= GROWTH * self._trained_with

    def _fresh_rows(self) -> int:
        """How many no snapshot has; none where a snapshot is not worth it."""
        if self._index is None or isinstance(self._index, FlatIndex):
            return 0
        return self._rows.count - int(np.searchsorted(self._rows.ids, self._saved_last_id, side="right"))

    @property
    def _much(self) -> int:
        # A fifth of all, so that each vector is written a handful of times at most.
        return max(FEW_ROWS, self._rows.count // 5)

    def _save(self) -> None:
        assert isinstance(self._index, HnswIndex | IvfPqIndex)
        save_snapshot(self._path, self._index.index, self._rows.ids, self._rows.last_id)
        self._saved_last_id = self._rows.last_id


def _bury(index: Nearest, rows: Rows, ids: "Ids") -> None:
    index.bury(rows.bury(rows.positions(ids)))


def _ids_in(connection: "apsw.Connection") -> "Ids":
    return np.fromiter(chain.from_iterable(connection.execute("SELECT id FROM vectors")), dtype=np.int64)


def _changes_of(connection: "apsw.Connection") -> int:
    changes: int = connection.execute("SELECT changes FROM bank").get
    return changes


def _unit(rows: "Floats") -> "Floats":
    """Rows of length one; a row of zeros stays one."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = 1.0
    unit: Floats = rows / lengths[:, np.newaxis]
    return unit
