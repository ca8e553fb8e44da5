"""What a memory provider keeps: the chunks of banks, found by vector, by words, by key.

Everything above it is the same for all providers: reading files, cutting them, embedding, fusing ranks, citing. So a
backend is one file that implements `ChunkIndex`.
"""

from typing import Protocol

from pydantic import Field

from llama_stack.api.common import JsonObject, Word
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors


class BankPlace(Word):
    """Where a bank lies in its provider.

    key: names the bank among all owners' banks, 1 to 48 of `a-z0-9_`, a letter first: fit for a table, a collection
        or a folder, and never to be guessed by another owner, because it is a digest of owner and bank.
    dimension: numbers of each vector; 0 for a bank without vectors.
    keyword: whether the bank's chunks are to be found by their words, too.
    params: the provider's own settings of this bank, such as the kind of index.
    """

    key: str = Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")
    dimension: int = 0
    keyword: bool = True
    params: JsonObject = {}


class FoundChunk(Word):
    """A chunk that a search found. score: higher is better; cosine similarity for vectors, BM25 or the like for words.

    vector: float32 bytes where the search was asked for vectors.
    """

    chunk: Chunk
    score: float
    vector: bytes | None = None


class IndexStats(Word):
    """Of one bank. size_bytes: on disk, where the provider can tell."""

    chunks: int
    documents: int
    size_bytes: int | None = None


class IndexAbilities(Word):
    """keyword: `search_keyword` works. max_dimension: widest vector."""

    keyword: bool = True
    max_dimension: int = 65_536


class ChunkIndex(Protocol):
    """Keeps chunks with their vectors. Duties of whoever implements it:

    - a write is whole or not there: no search sees a part of `write_chunks`, not after a crash either;
    - what a finished write wrote is found at once by the next search of this process, and after a restart;
    - a filter selects exactly what `api.filters.matches` says, before the limit is applied: when enough chunks match,
      `limit` of them are found. The metadata it sees is the chunk's, with `document_id` added;
    - equal scores come in the order of chunk ids, so the same search gives the same answer;
    - after a delete nothing of the text is left in any search or listing, and its space is used again or given back;
    - nothing blocks the event loop; operations may be called many times at once;
    - a backend that cannot be reached is ProviderUnavailable; what it refuses is an error that names the field.
    """

    def abilities(self) -> IndexAbilities: ...

    async def create_bank(self, bank: BankPlace) -> None:
        """Make room for the bank; nothing happens where it is there already.

        Raises InvalidRequest for a dimension or params it cannot serve, Conflict where it is there with another
        dimension.
        """
        ...

    async def drop_bank(self, bank: BankPlace) -> None:
        """Forget the bank with all its chunks. An unknown bank is no error."""
        ...

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        """Keep the chunks, each in place of an earlier one with its id; vectors stand in the order of the chunks.

        replace_documents: all earlier chunks of the documents that these chunks belong to go, in the same step.
        Raises NotFound for an unknown bank.
        """
        ...

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Comparison | Compound | None = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        """The chunks whose vectors are nearest by cosine, best first. vector: float32 bytes, not all zero."""
        ...

    async def search_keyword(
        self, bank: BankPlace, query: str, limit: int, where: Comparison | Compound | None = None
    ) -> list[FoundChunk]:
        """The chunks that share words with the query, best first; words are compared by their stems."""
        ...

    async def list_chunks(
        self,
        bank: BankPlace,
        *,
        document_ids: list[str] | None = None,
        where: Comparison | Compound | None = None,
        limit: int = 1000,
        after: str | None = None,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        """Chunks by document id, then position, then chunk id; `after` is the last chunk id of the page before.

        Raises InvalidRequest for an `after` that is not there (any more).
        """
        ...

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        """Replace the metadata of every chunk of the document. An unknown document is no error."""
        ...

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        """Forget every chunk of the documents; tells how many. Unknown ids are no error."""
        ...

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        """Forget every chunk that the filter selects; tells how many."""
        ...

    async def stats(self, bank: BankPlace) -> IndexStats: ...
