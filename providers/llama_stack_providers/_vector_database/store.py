"""What a database is asked for, and what makes its writes whole."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from llama_stack.api.chunk_index import BankPlace, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack_providers._vector_database.ranking import Fetch
from llama_stack_providers._vector_database.rows import Hit, Place, Rows


class Store(Protocol):
    """One database. What was put is found by the next call, whoever makes it.

    Every method raises NotFound for an unknown bank, except `create` and `drop`.
    """

    def abilities(self) -> IndexAbilities: ...

    async def create(self, bank: BankPlace) -> None: ...

    async def drop(self, bank: BankPlace) -> None: ...

    def nearest(self, bank: BankPlace, vector: list[float], rows: Rows, *, with_vectors: bool) -> Fetch:
        """A search among the rows, which asks when it is called."""
        ...

    def sharing_words(self, bank: BankPlace, stems: list[str], rows: Rows) -> Fetch: ...

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None: ...

    async def languages(self, bank: BankPlace) -> set[str]: ...

    async def stats(self, bank: BankPlace) -> IndexStats: ...


class Writes(Protocol):
    """How all that is written to a store is whole: `MarkedWrites` or `HeadWrites`."""

    async def write(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool
    ) -> None: ...

    async def seen(self, bank: BankPlace, rows: Rows, search: Callable[[Rows], Awaitable[list[Hit]]]) -> list[Hit]:
        """What the search finds of whole, current writes."""
        ...

    async def listed(self, bank: BankPlace, limit: int, rows: Rows, *, with_vectors: bool) -> list[Hit]:
        """The first of the rows, by place."""
        ...

    async def place_of(self, bank: BankPlace, chunk_id: str) -> Place | None: ...

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None: ...

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int: ...

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int: ...
