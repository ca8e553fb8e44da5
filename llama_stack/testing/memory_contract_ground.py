"""What the tests of the memory contract stand on: how a backend is opened, banks of their own, known vectors."""

import random
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from llama_stack.api.chunk_index import BankPlace, ChunkIndex, FoundChunk
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors

DIMENSION = 8
LIMIT_S = 60.0
"""How long anything that the contract waits for may take."""


class OpensIndexes:
    """How the backend under test is opened, and how exact it promises to be.

    params: settings of every bank that the tests make. vector_tolerance: how far a number of a vector may be off when
    it is given back. score_tolerance: how far a cosine may be off.
    """

    params: ClassVar[JsonObject] = {}
    vector_tolerance: ClassVar[float] = 1e-6
    score_tolerance: ClassVar[float] = 1e-3

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        """The backend. home: a folder of the test's own; opened again with it, everything is found again."""
        raise NotImplementedError

    def place(self, dimension: int = DIMENSION, *, keyword: bool = True) -> BankPlace:
        """Where a bank lies that no other test knows, for backends whose server outlives a test."""
        return BankPlace(key=f"b{uuid4().hex[:24]}", dimension=dimension, keyword=keyword, params=dict(self.params))


def chunk(
    document_id: str, position: int = 0, content: str = "", *, language: str = "", metadata: JsonObject | None = None
) -> Chunk:
    """A chunk whose id follows from document and position."""
    return Chunk(
        chunk_id=f"{document_id}-{position:04}",
        document_id=document_id,
        position=position,
        content=content or f"piece {position} of {document_id}",
        language=language,
        metadata=metadata or {},
    )


def random_rows(count: int, dimension: int = DIMENSION, seed: int = 7) -> Vectors:
    """Vectors of many directions and lengths, the same every time."""
    numbers = random.Random(seed)  # noqa: S311  no secret hangs on it
    return Vectors.of(([numbers.gauss(0, 1) for _ in range(dimension)] for _ in range(count)), dimension)


def axis(number: int, length: float = 1.0, dimension: int = DIMENSION) -> list[float]:
    """A vector along one axis."""
    row = [0.0] * dimension
    row[number] = length
    return row


def one(row: list[float]) -> bytes:
    """A query vector."""
    return Vectors.of([row], len(row)).row_bytes(0)


def of_document(document_id: str) -> Comparison:
    return Comparison(type="eq", key="document_id", value=document_id)


def ids(found: list[FoundChunk]) -> list[str]:
    return [one.chunk.chunk_id for one in found]


async def everything(index: ChunkIndex, bank: BankPlace) -> list[Chunk]:
    """All chunks of the bank, by pages of the default size."""
    chunks: list[Chunk] = []
    after: str | None = None
    while page := await index.list_chunks(bank, after=after):
        chunks += [found.chunk for found in page]
        after = page[-1].chunk.chunk_id
    return chunks
