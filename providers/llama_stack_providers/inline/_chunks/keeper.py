"""What a provider adds to a bank: where its vectors are kept, and how the nearest are found.

The file always holds them as they were written, in the table `vectors`, so providers can be changed without embedding
anew: another one finds what it needs to build its own index from.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llama_stack.api.vectors import Vectors
from llama_stack_providers.inline._chunks.filters import Condition
from llama_stack_providers.inline._chunks.rows import json_list, select
from llama_stack_providers.inline._chunks.schema import transaction

if TYPE_CHECKING:
    import apsw

VECTORS_TABLE = "CREATE TABLE vectors (id INTEGER PRIMARY KEY, vector BLOB NOT NULL)"
TIE_MARGIN = 8
"""How many more than the limit are looked for, to see whether the last one has equals."""

ROUNDING = 1e-6
"""Share of a score by which two that ought to be equal may differ for the search."""

Scored = list[tuple[int, float]]
"""Ids of chunks with their cosine."""


@dataclass(frozen=True)
class Change:
    """What one transaction did. added: ids in the order of the vectors. number: of all changes that the bank saw."""

    added: Sequence[int] = ()
    vectors: Vectors | None = None
    removed: Sequence[int] = ()
    number: int = 0


class VectorKeeper(Protocol):
    """The vectors of one open bank. Threads may read at once; only one writes."""

    def reading(self, connection: "apsw.Connection") -> AbstractContextManager[None]:
        """A read transaction, in which `nearest` knows the same chunks as the file."""
        ...

    def reading_quickly(self, connection: "apsw.Connection") -> AbstractContextManager[bool]:
        """As `reading`, where one `nearest` without a filter takes well under a millisecond and neither this nor that
        waits for anybody; else False, and nothing can be read.
        """
        ...

    def committing(self, change: Change) -> AbstractContextManager[None]:
        """Around a commit: once the commit succeeded, and only then, `nearest` knows of the change."""
        ...

    def nearest(self, connection: "apsw.Connection", query: bytes, limit: int, selected: Condition | None) -> Scored:
        """The `limit` chunks nearest by cosine, best first. selected: SELECT of the ids of those that count."""
        ...

    @property
    def untidy(self) -> bool:
        """Whether changes have left work for `tidy`."""
        ...

    def tidy(self, connection: "apsw.Connection") -> bool:
        """Do a part of that work; tells whether there is more. Nobody writes meanwhile."""
        ...

    def close(self) -> None: ...


class NothingKept:
    """Keeps nothing beside the file, so what a transaction sees is all there is. Enough for banks without vectors."""

    @contextmanager
    def reading(self, connection: "apsw.Connection") -> Iterator[None]:
        with transaction(connection, writing=False):
            yield

    @contextmanager
    def reading_quickly(self, connection: "apsw.Connection") -> Iterator[bool]:
        yield False

    @contextmanager
    def committing(self, change: Change) -> Iterator[None]:
        yield

    def nearest(self, connection: "apsw.Connection", query: bytes, limit: int, selected: Condition | None) -> Scored:
        return []

    @property
    def untidy(self) -> bool:
        return False

    def tidy(self, connection: "apsw.Connection") -> bool:
        return False

    def close(self) -> None:
        pass


def store_vectors(connection: "apsw.Connection", change: Change) -> None:
    """Make the change in the file."""
    if change.removed:
        connection.execute(
            "DELETE FROM vectors WHERE id IN (SELECT value FROM json_each(?))", (json_list(change.removed),)
        )
    if change.vectors is not None:
        rows = change.vectors
        connection.executemany(
            "INSERT INTO vectors (id, vector) VALUES (?, ?)",
            ((key, rows.row_bytes(position)) for position, key in enumerate(change.added)),
        )


def read_vectors(connection: "apsw.Connection", keys: Sequence[int]) -> dict[int, bytes]:
    """The vectors as they were written."""
    statement = "SELECT id, vector FROM vectors WHERE id IN (SELECT value FROM json_each(?))"
    return dict(select(connection, statement, (json_list(keys),)))


def with_equals(search: Callable[[int], Scored], limit: int) -> Scored:
    """At least the best `limit`, and with the last of them all that score the same. search: finds so many.

    Which of equal chunks a search finds first is chance; who has all of them can choose the same ones every time.
    """
    wanted = limit + TIE_MARGIN
    while (best := best_of(search(wanted), wanted, limit)) is None:
        wanted *= 4
    return best


def best_of(found: Scored, wanted: int, limit: int) -> Scored | None:
    """Of the best `wanted`: the best `limit`, and all that score as the last of them; None where more may do so."""
    if len(found) <= limit:
        return found
    last = found[limit - 1][1]
    if len(found) < wanted or found[-1][1] < last - abs(last) * ROUNDING:
        return [entry for entry in found if entry[1] >= last]
    return None
