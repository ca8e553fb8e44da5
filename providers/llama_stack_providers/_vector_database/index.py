"""A `ChunkIndex` over a store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.text.words import query_stems
from llama_stack_providers._vector_database.banks import BankLanguages
from llama_stack_providers._vector_database.checks import check_keyword, check_vectors, missing_after, query_vector
from llama_stack_providers._vector_database.heads import HeadStore, HeadWrites
from llama_stack_providers._vector_database.marks import MarkedStore, MarkedWrites
from llama_stack_providers._vector_database.ranking import best_of
from llama_stack_providers._vector_database.rows import Hit, Rows
from llama_stack_providers._vector_database.store import Store, Writes

WRITE_CHUNKS = 250


class DatabaseIndex:
    def __init__(self, store: Store, writes: Writes) -> None:
        self._store = store
        self._writes = writes
        self._languages = BankLanguages()

    def abilities(self) -> IndexAbilities:
        return self._store.abilities()

    async def create_bank(self, bank: BankPlace) -> None:
        await self._store.create(bank)
        self._languages.forget(bank.key)

    async def drop_bank(self, bank: BankPlace) -> None:
        await self._store.drop(bank)
        self._languages.forget(bank.key)

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        check_vectors(bank, chunks, vectors)
        if not chunks:
            return
        try:
            await self._writes.write(bank, chunks, vectors, replace_documents=replace_documents)
        finally:
            # A write that failed at its end may be seen; to look for a language too many does no harm.
            self._languages.add(bank.key, {chunk.language for chunk in chunks})

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Comparison | Compound | None = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        numbers = query_vector(bank, vector)

        async def search(rows: Rows) -> list[Hit]:
            return await best_of(limit, where, self._store.nearest(bank, numbers, rows, with_vectors=with_vectors))

        return [hit.found for hit in await self._writes.seen(bank, Rows(where=where), search)]

    async def search_keyword(
        self, bank: BankPlace, query: str, limit: int, where: Comparison | Compound | None = None
    ) -> list[FoundChunk]:
        check_keyword(bank)
        languages = await self._languages.of(bank.key, lambda: self._store.languages(bank))
        stems = await asyncio.to_thread(query_stems, query, languages)
        if not stems:
            return []

        async def search(rows: Rows) -> list[Hit]:
            return await best_of(limit, where, self._store.sharing_words(bank, stems, rows))

        return [hit.found for hit in await self._writes.seen(bank, Rows(where=where), search)]

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
        place = None
        if after is not None:
            place = await self._writes.place_of(bank, after)
            if place is None:
                raise missing_after(after)
        if document_ids == []:
            return []
        rows = Rows(where=where, documents=document_ids, after=place)
        with_vectors = with_vectors and bank.dimension > 0
        return [hit.found for hit in await self._writes.listed(bank, limit, rows, with_vectors=with_vectors)]

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        await self._writes.set_metadata(bank, document_id, metadata)

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        return await self._writes.delete_documents(bank, document_ids) if document_ids else 0

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        return await self._writes.delete_where(bank, where)

    async def stats(self, bank: BankPlace) -> IndexStats:
        return await self._store.stats(bank)


def marked_index(store: MarkedStore, write_chunks: int = WRITE_CHUNKS) -> DatabaseIndex:
    """write_chunks: how many rows one request to the store may carry."""
    return DatabaseIndex(store, MarkedWrites(store, write_chunks))


@asynccontextmanager
async def open_index_with_heads(store: HeadStore, write_chunks: int) -> AsyncIterator[DatabaseIndex]:
    """Waits at its end for writes that were begun. write_chunks: how many rows one request to the store may carry."""
    writes = HeadWrites(store, write_chunks)
    try:
        yield DatabaseIndex(store, writes)
    finally:
        await writes.close()
