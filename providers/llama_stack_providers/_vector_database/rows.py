"""Chunks made into the rows that a store keeps, and rows that are looked for."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, TypeVar
from uuid import UUID

from llama_stack.api.chunk_index import BankPlace, FoundChunk
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.errors import InvalidRequest
from llama_stack.text.words import stems
from llama_stack_providers._vector_database.facets import Facet, facets_of

ValueT = TypeVar("ValueT")

SIZE_PER_REQUEST = 16_000_000
"""Bytes, roughly: far below what a server takes at once (32 MB is the least, unless it is told otherwise)."""
_NUMBER_BYTES = 20
_CHARACTER_BYTES = 12
_FIRST_POSITION = 2**63


class Place(NamedTuple):
    """Where a chunk stands in a listing. Places sort as they are listed."""

    document_id: str
    position: int
    chunk_id: str

    @property
    def sortable(self) -> str:
        """A text that sorts as the place does."""
        return f"{_hex(self.document_id)}!{self.position + _FIRST_POSITION:016x}!{_hex(self.chunk_id)}"


def _hex(text: str) -> str:
    return text.encode(errors="surrogatepass").hex()


def place_of(chunk: Chunk) -> Place:
    return Place(chunk.document_id, chunk.position, chunk.chunk_id)


def named_id(*parts: str) -> str:
    """The same UUID for the same parts."""
    digest = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode(errors="surrogatepass")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return str(UUID(bytes=digest.digest(), version=4))


@dataclass(frozen=True)
class Row:
    """A chunk as it is kept. write: whose write it belongs to. written_at: Unix time. vector: None in a bank without.

    stems: none in a bank without keywords.
    """

    chunk: Chunk
    write: str
    written_at: int
    vector: list[float] | None
    stems: list[str]

    @property
    def row_id(self) -> str:
        """Not the chunk's id alone: the row that it replaces stays until this one counts."""
        return named_id("chunk", self.write, self.chunk.chunk_id)

    def facets(self) -> list[Facet]:
        return facets_of(self.chunk.metadata, self.chunk.document_id)


@dataclass(frozen=True)
class Hit:
    """A row that was found. write: where the store can tell, and is asked for it."""

    row_id: str
    found: FoundChunk
    write: str = ""


@dataclass(frozen=True)
class Rows:
    """Rows to be found: those that fulfil all that is said here. An empty list of wanted ones selects nothing.

    after: of which only later ones are wanted. The rest is asked of stores with heads alone. written_before: Unix time.
    not_writes, not_rows: left out.
    """

    where: Comparison | Compound | None = None
    documents: Sequence[str] | None = None
    chunk_ids: Sequence[str] | None = None
    after: Place | None = None
    writes: Sequence[str] | None = None
    row_ids: Sequence[str] | None = None
    written_before: int | None = None
    not_writes: Sequence[str] = field(default=())
    not_rows: Sequence[str] = field(default=())


def rows_of(bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, writes: Mapping[str, str]) -> list[Row]:
    """The rows of one write; of chunks with one id the last. writes: the id of the write, by document.

    For a thread: finding stems is work. Raises InvalidRequest for a vector that is not finite.
    """
    now = int(time.time())
    rows: list[Row] = []
    for position in last_of_each_id(chunks):
        chunk = chunks[position]
        vector = vectors.row(position) if vectors is not None and bank.dimension else None
        if vector is not None and not math.isfinite(math.hypot(*vector)):
            raise InvalidRequest(
                f"the vector of chunk {chunk.chunk_id!r} holds a number that is not finite", param="vectors"
            )
        rows.append(row_of(bank, chunk, writes[chunk.document_id], now, vector))
    return rows


def row_of(bank: BankPlace, chunk: Chunk, write: str, now: int, vector: list[float] | None) -> Row:
    return Row(chunk, write, now, vector, stems(chunk.indexed_text, chunk.language) if bank.keyword else [])


def last_of_each_id(chunks: list[Chunk]) -> list[int]:
    """Positions of the chunks that count: of those with the same id the last one."""
    return list({chunk.chunk_id: position for position, chunk in enumerate(chunks)}.values())


def in_parts(values: list[ValueT], most: int) -> list[list[ValueT]]:
    return [values[start : start + most] for start in range(0, len(values), most)]


def slices(rows: list[Row], most: int) -> Iterator[list[Row]]:
    """The rows in requests of at most so many, and of a size that every server takes."""
    some: list[Row] = []
    size = 0
    for row in rows:
        own = len(row.vector or ()) * _NUMBER_BYTES + len(row.chunk.content) * _CHARACTER_BYTES
        if some and (len(some) >= most or size + own > SIZE_PER_REQUEST):
            yield some
            some, size = [], 0
        some.append(row)
        size += own
    if some:
        yield some
