"""Whole writes over a database that can change many rows in one step.

Each write has an id of its own, and each of its rows is kept under an id that no other write uses, with a mark that
says that no search sees it. One step then shows all of them and hides the rows that they replace, which are deleted
afterwards. A crash leaves hidden rows; those of a document go with the next write to it.

What this cannot do: two servers that write the same document at the same moment may each remove the other's hidden
rows; the later one should be asked to write again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from secrets import token_hex
from typing import Protocol

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack_providers._vector_database.listing import PlacedRow, first_places
from llama_stack_providers._vector_database.rows import Hit, Place, Row, Rows, rows_of, slices
from llama_stack_providers._vector_database.store import Store

LISTING_TRIES = 5


class MarkedStore(Store, Protocol):
    """A store that shows and hides rows in one step. Its searches see what is shown."""

    def writing(self, bank: BankPlace) -> AbstractAsyncContextManager[None]:
        """Entered around all that changes a bank's rows, by one of this process at a time."""
        ...

    async def marked(self, bank: BankPlace, rows: Rows) -> tuple[list[str], list[str]]:
        """Ids of those of the rows that are shown, and of those that are hidden."""
        ...

    async def put_rows(self, bank: BankPlace, rows: list[Row]) -> None:
        """Keep them hidden."""
        ...

    async def show(self, bank: BankPlace, rows: list[Row], replaced: list[str]) -> None:
        """Show the rows, which are one write, and hide the replaced ones, given by their ids, in one step."""
        ...

    async def delete(self, bank: BankPlace, row_ids: list[str]) -> None: ...

    def places(self, bank: BankPlace, rows: Rows) -> AsyncIterator[list[PlacedRow]]:
        """Page by page, the places of exactly those of the rows that are shown; `after` is not looked at."""
        ...

    async def hits(self, bank: BankPlace, row_ids: list[str], *, with_vectors: bool) -> dict[str, Hit]:
        """By row id, those of the rows that are there."""
        ...


class MarkedWrites:
    """write_chunks: how many rows one request to the store may carry."""

    def __init__(self, store: MarkedStore, write_chunks: int) -> None:
        self._store = store
        self._write_chunks = write_chunks

    async def write(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool
    ) -> None:
        documents = sorted({chunk.document_id for chunk in chunks})
        # One id for all documents, because all of them are shown in one step.
        rows = await asyncio.to_thread(rows_of, bank, chunks, vectors, dict.fromkeys(documents, token_hex(8)))
        earlier = (
            Rows(documents=documents) if replace_documents else Rows(chunk_ids=[one.chunk.chunk_id for one in rows])
        )
        async with self._store.writing(bank):
            replaced = await self._clear_remains(bank, earlier)
            for some in slices(rows, self._write_chunks):
                await self._store.put_rows(bank, some)
            await self._store.show(bank, rows, replaced)
            await self._delete(bank, replaced)

    async def seen(self, bank: BankPlace, rows: Rows, search: Callable[[Rows], Awaitable[list[Hit]]]) -> list[Hit]:
        return await search(rows)

    async def listed(self, bank: BankPlace, limit: int, rows: Rows, *, with_vectors: bool) -> list[Hit]:
        found: list[Hit] = []
        for _ in range(LISTING_TRIES):
            first = await first_places(self._store.places(bank, rows), limit, rows.after)
            hits = await self._store.hits(bank, [row_id for _, row_id in first], with_vectors=with_vectors)
            found = [hits[row_id] for _, row_id in first if row_id in hits]
            # What a write replaced in the meantime is listed anew.
            if len(found) == len(first):
                break
        return found

    async def place_of(self, bank: BankPlace, chunk_id: str) -> Place | None:
        first = await first_places(self._store.places(bank, Rows(chunk_ids=[chunk_id])), 1, None)
        return first[0][0] if first else None

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        async with self._store.writing(bank):
            await self._store.set_metadata(bank, document_id, metadata)

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        async with self._store.writing(bank):
            shown = await self._clear_remains(bank, Rows(documents=document_ids))
            await self._delete(bank, shown)
            return len(shown)

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        async with self._store.writing(bank):
            row_ids = [row_id async for page in self._store.places(bank, Rows(where=where)) for _, row_id in page]
            await self._delete(bank, row_ids)
            return len(row_ids)

    async def _clear_remains(self, bank: BankPlace, rows: Rows) -> list[str]:
        """Ids of those of the rows that are shown; the hidden ones are deleted."""
        shown, hidden = await self._store.marked(bank, rows)
        await self._delete(bank, hidden)
        return shown

    async def _delete(self, bank: BankPlace, row_ids: list[str]) -> None:
        if row_ids:
            await self._store.delete(bank, row_ids)
