"""What a database without transactions is asked for, so that `whole.py` can make whole writes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol
from uuid import UUID

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack_providers.remote._memory.facets import sortable_place


def named_id(*parts: str) -> str:
    """The same UUID for the same parts."""
    digest = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode(errors="surrogatepass")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return str(UUID(bytes=digest.digest(), version=4))


@dataclass(frozen=True)
class Row:
    """A chunk as it is kept. write: whose write it belongs to. stems: joined by spaces. written_at: Unix time."""

    chunk: Chunk
    write: str
    written_at: int
    vector: bytes | None
    stems: str

    @property
    def row_id(self) -> str:
        return named_id("chunk", self.write, self.chunk.chunk_id)

    @property
    def place(self) -> str:
        return sortable_place(self.chunk.document_id, self.chunk.position, self.chunk.chunk_id)


@dataclass(frozen=True)
class Hit:
    """A row that a search found."""

    row_id: str
    write: str
    found: FoundChunk


@dataclass(frozen=True)
class Head:
    """What counts of a document: the rows of these writes, except the hidden ones.

    version: by what the store knows whether the head is still the one that was read; None where it cannot tell.
    """

    writes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    version: Any = None

    def shows(self, hit: Hit) -> bool:
        return hit.write in self.writes and hit.row_id not in self.hidden


@dataclass(frozen=True)
class Rows:
    """Rows to be found: those that fulfil all that is said here. An empty list of wanted ones selects nothing.

    after: a place, of which only later ones are wanted. written_before: Unix time. not_writes, not_rows: left out.
    """

    where: Comparison | Compound | None = None
    documents: Sequence[str] | None = None
    chunk_ids: Sequence[str] | None = None
    writes: Sequence[str] | None = None
    row_ids: Sequence[str] | None = None
    after: str | None = None
    written_before: int | None = None
    not_writes: Sequence[str] = field(default=())
    not_rows: Sequence[str] = field(default=())


class Store(Protocol):
    """One database. What was put is found by the next call, whoever makes it.

    Every method raises NotFound for an unknown bank, except `create` and `drop`.
    """

    def abilities(self) -> IndexAbilities: ...

    async def create(self, bank: BankPlace) -> None: ...

    async def drop(self, bank: BankPlace) -> None: ...

    async def put_rows(self, bank: BankPlace, rows: Sequence[Row], *, last: bool) -> None:
        """Keep the rows; some of them may be there when it fails. They need not be found before the last ones are.

        last: with these, or with none, all that was put is to be found.
        """
        ...

    async def heads(self, bank: BankPlace, documents: Sequence[str]) -> dict[str, Head]:
        """Those of the documents that have one, as they are now."""
        ...

    async def put_heads(self, bank: BankPlace, heads: dict[str, Head]) -> list[str]:
        """Keep the heads, each in place of the one with its version; gives the documents whose head is another now."""
        ...

    async def drop_heads(self, bank: BankPlace, heads: dict[str, Head]) -> list[str]:
        """Forget the heads that still have their version; gives the documents whose head is another now."""
        ...

    async def nearest(
        self, bank: BankPlace, vector: bytes, limit: int, rows: Rows, *, with_vectors: bool
    ) -> list[Hit]: ...

    async def sharing_words(self, bank: BankPlace, stems: Sequence[str], limit: int, rows: Rows) -> list[Hit]: ...

    async def in_order(self, bank: BankPlace, limit: int, rows: Rows, *, with_vectors: bool) -> list[Hit]:
        """By place."""
        ...

    async def delete(self, bank: BankPlace, rows: Sequence[Rows]) -> int:
        """Forget what is in any of these; tells how many rows."""
        ...

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None: ...

    async def languages(self, bank: BankPlace) -> list[str]: ...

    async def stats(self, bank: BankPlace) -> IndexStats: ...
