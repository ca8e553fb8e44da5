"""Whole writes over a database that changes each object by itself.

Each write has an id of its own, and each of its rows is kept under an id that no other write uses, so nothing that
readers see is touched. Only then one small object is replaced, the document's head, which names the writes that count:
that is the step in which the new chunks appear and the replaced ones vanish. What does not count any more is deleted
afterwards. A crash leaves rows that no head names; they are found by nobody, and go with a later write to the document.

A reader searches, then reads the heads of the documents it found, and keeps what they show. It searches again when
something had to be left out, so that enough is found, and when it met a write for the first time, because that may have
been committed while the search ran and have been seen in part. A write that is known costs one lookup.

What this cannot do: the documents of one write appear within one request to the database, but not in one instant. And
where the database cannot replace a head on condition of its version, of two servers that write to one document at the
same moment one loses, even if both only add chunks; its rows stay, unseen, until that document is written again.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Protocol

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors, floats_of
from llama_stack.errors import Conflict, StackError
from llama_stack_providers._vector_database.banks import WriterLocks
from llama_stack_providers._vector_database.rows import Hit, Place, Row, Rows, place_of, row_of, rows_of, slices
from llama_stack_providers._vector_database.store import Store

ATTEMPTS = 12
"""Of a search amid writes, and of a head that others replace."""
MAX_FOUND = 10_000
"""What such databases give in one answer at most."""
MAX_WRITES = 256
"""Of one document. One more, and the document is written anew as a single write."""
MAX_KNOWN_WRITES = 100_000
LEFTOVER_AGE_S = 3600
"""A write that is not committed after this is taken for one that crashed."""
PAGE = 500


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


class HeadStore(Store, Protocol):
    """A store that keeps heads, too. Its searches see every row, at most MAX_FOUND, and tell its write."""

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

    async def in_order(self, bank: BankPlace, limit: int, rows: Rows, *, with_vectors: bool) -> list[Hit]:
        """By place."""
        ...

    async def delete(self, bank: BankPlace, rows: Sequence[Rows]) -> int:
        """Forget what is in any of these; tells how many rows."""
        ...


class HeadWrites:
    """write_chunks: how many rows one request to the store may carry."""

    def __init__(self, store: HeadStore, write_chunks: int) -> None:
        self._store = store
        self._write_chunks = write_chunks
        self._known: OrderedDict[str, None] = OrderedDict()
        self._locks = WriterLocks()
        self._finishing: set[asyncio.Task[None]] = set()

    async def write(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool
    ) -> None:
        # One id for each document, because documents are replaced one by one.
        writes = {chunk.document_id: token_hex(8) for chunk in chunks}
        rows: dict[str, list[Row]] = {}
        for row in await asyncio.to_thread(rows_of, bank, chunks, vectors, writes):
            rows.setdefault(row.chunk.document_id, []).append(row)
        async with self._alone(bank, rows):
            # Once begun, the last step is not to be cut in two by whoever stops waiting.
            committing = False
            try:
                await self._put(bank, rows.values())
                committing = True
                await self._finish(self._commit(bank, rows, replaces=replace_documents))
            except BaseException:
                if not committing:
                    await self._finish(self._forget(bank, rows))
                raise

    async def seen(self, bank: BankPlace, rows: Rows, search: Callable[[Rows], Awaitable[list[Hit]]]) -> list[Hit]:
        """See above."""
        whole: list[Hit] = []
        left_out: list[Hit] = []
        heads: dict[str, Head] = {}
        for _ in range(ATTEMPTS):
            hidden = {hit.row_id for hit in left_out if hit.write in _head_of(hit, heads).writes}
            void = {hit.write for hit in left_out if hit.row_id not in hidden}
            hits = await search(replace(rows, not_writes=sorted(void), not_rows=sorted(hidden)))
            documents = {hit.found.chunk.document_id for hit in (*hits, *left_out)}
            heads = await self._store.heads(bank, sorted(documents)) if documents else {}
            shown = [hit for hit in hits if _head_of(hit, heads).shows(hit)]
            new = {hit.write for hit in shown if hit.write not in self._known}
            still_left_out = [hit for hit in left_out if not _head_of(hit, heads).shows(hit)]
            if len(shown) == len(hits) and not new and len(still_left_out) == len(left_out):
                return shown
            whole = [hit for hit in shown if hit.write not in new]
            for write in new:
                self._know(write)
            left_out = still_left_out + [hit for hit in hits if not _head_of(hit, heads).shows(hit)]
        # Others write all the time. What is left out here would have been found; what is not is whole.
        return whole

    async def listed(self, bank: BankPlace, limit: int, rows: Rows, *, with_vectors: bool) -> list[Hit]:
        async def search(narrowed: Rows) -> list[Hit]:
            return await self._store.in_order(bank, limit, narrowed, with_vectors=with_vectors)

        return await self.seen(bank, rows, search)

    async def place_of(self, bank: BankPlace, chunk_id: str) -> Place | None:
        found = await self.listed(bank, 1, Rows(chunk_ids=[chunk_id]), with_vectors=False)
        return place_of(found[0].found.chunk) if found else None

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        async with self._alone(bank, [document_id]):
            await self._store.set_metadata(bank, document_id, metadata)

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        deleted = 0
        for start in range(0, len(document_ids), PAGE):
            part = document_ids[start : start + PAGE]
            async with self._alone(bank, part):
                deleted += await self._delete_documents(bank, part)
        return deleted

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        deleted = 0
        while hits := await self.listed(bank, PAGE, Rows(where=where), with_vectors=False):
            documents = sorted({hit.found.chunk.document_id for hit in hits})
            async with self._alone(bank, documents):
                heads = await self._store.heads(bank, documents)
                deleted += await self._store.delete(bank, [Rows(row_ids=[hit.row_id for hit in hits])])
                while left := await self._store.in_order(bank, PAGE, Rows(documents=list(heads)), with_vectors=False):
                    for hit in left:
                        heads.pop(hit.found.chunk.document_id, None)
                # Where another server wrote meanwhile, the head is another one and stays.
                await self._store.drop_heads(bank, heads)
        return deleted

    async def close(self) -> None:
        """Waits for what was begun."""
        while self._finishing:
            await asyncio.wait(self._finishing)

    def _alone(self, bank: BankPlace, documents: Iterable[str]) -> AbstractAsyncContextManager[None]:
        """This server's only writer of the documents."""
        return self._locks.of_all(f"{bank.key} {document}" for document in documents)

    async def _delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        """Without a head nothing of a document is found. What others are about to write is left alone."""
        deleted, left = 0, document_ids
        for _ in range(ATTEMPTS):
            heads = await self._store.heads(bank, left)
            left = await self._store.drop_heads(bank, heads)
            writes = [write for document, head in heads.items() if document not in left for write in head.writes]
            leftovers = Rows(documents=document_ids, written_before=int(time.time()) - LEFTOVER_AGE_S)
            deleted += await self._store.delete(bank, [Rows(writes=writes), replace(leftovers, not_writes=writes)])
            if not left:
                return deleted
        raise Conflict(f"others write to {left[0]!r} all the time; try again")

    async def _finish(self, work: Awaitable[None]) -> None:
        """Does the work even if the caller is cancelled, who then waits no longer; its failure is still raised here."""
        task = asyncio.ensure_future(work)
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # Others may write to the document only after it; a failure of it has nobody left to be told.
            await asyncio.wait([task])
            task.cancelled() or task.exception()
            raise

    async def _put(self, bank: BankPlace, rows: Iterable[list[Row]]) -> None:
        parts = list(slices([row for of_document in rows for row in of_document], self._write_chunks))
        for number, part in enumerate(parts, start=1):
            await self._store.put_rows(bank, part, last=number == len(parts))

    async def _forget(self, bank: BankPlace, rows: dict[str, list[Row]]) -> None:
        """After a write that failed. Where this fails, too, a later write to the document does it."""
        try:
            await self._store.put_rows(bank, [], last=True)
            writes = [of_document[0].write for of_document in rows.values()]
            await self._store.delete(bank, [Rows(writes=writes)])
        except StackError:
            return

    async def _commit(self, bank: BankPlace, rows: dict[str, list[Row]], *, replaces: bool) -> None:
        waiting = dict(rows)
        for _ in range(ATTEMPTS):
            heads = await self._store.heads(bank, list(waiting))
            older = await self._older_rows(bank, waiting)
            # A server that crashed may not have come to it; once out of the head they would be seen again.
            hidden = [row_id for head in heads.values() for row_id in head.hidden]
            if hidden:
                await self._store.delete(bank, [Rows(row_ids=hidden)])
            new: dict[str, Head] = {}
            for document, of_document in waiting.items():
                before = heads.get(document, Head())
                replaced = tuple(hit.row_id for hit in older if hit.found.chunk.document_id == document)
                kept = () if replaces else before.writes
                new[document] = Head((*kept, of_document[0].write), () if replaces else replaced, before.version)
            lost = await self._store.put_heads(bank, new)
            done = {document: head for document, head in new.items() if document not in lost}
            await self._sweep(bank, heads, done, [hit for hit in older if hit.found.chunk.document_id not in lost])
            for document in done:
                self._know(waiting.pop(document)[0].write)
            if not waiting:
                return
        await self._forget(bank, waiting)
        raise Conflict(f"others write to {next(iter(waiting))!r} all the time; try again")

    async def _older_rows(self, bank: BankPlace, rows: dict[str, list[Row]]) -> list[Hit]:
        """What counts until now under the ids of the new chunks, wherever it stands."""
        chunk_ids = [row.chunk.chunk_id for of_document in rows.values() for row in of_document]
        own = [of_document[0].write for of_document in rows.values()]
        found: list[Hit] = []
        for start in range(0, len(chunk_ids), PAGE):
            wanted = Rows(chunk_ids=chunk_ids[start : start + PAGE], not_writes=own)
            found += await self._store.in_order(bank, MAX_FOUND, wanted, with_vectors=False)
        heads = await self._store.heads(bank, list({hit.found.chunk.document_id for hit in found}))
        return [hit for hit in found if _head_of(hit, heads).shows(hit)]

    async def _sweep(
        self, bank: BankPlace, before: dict[str, Head], now: dict[str, Head], older: Sequence[Hit]
    ) -> None:
        """Deletes what these commits made void, and what crashed writes to the same documents left."""
        if not now:
            return
        counting = {write for head in now.values() for write in head.writes}
        superseded = sorted({write for document in now for write in before.get(document, Head()).writes} - counting)
        leftovers = Rows(
            documents=list(now), not_writes=sorted(counting), written_before=int(time.time()) - LEFTOVER_AGE_S
        )
        void = [hit.row_id for hit in older]
        await self._store.delete(bank, [Rows(row_ids=void), Rows(writes=superseded), leftovers])
        for document, head in now.items():
            if len(head.writes) > MAX_WRITES:
                await self._write_anew(bank, document)

    async def _write_anew(self, bank: BankPlace, document: str) -> None:
        """A document of many small writes becomes one write, so that its head stays small.

        Where another server writes to it meanwhile nothing is changed; the next write tries again.
        """
        before = await self._store.heads(bank, [document])
        if document not in before:
            return
        rows: list[Row] = []
        write, last = token_hex(8), None
        every, with_vectors = Rows(documents=[document]), bank.dimension > 0
        while hits := await self.listed(bank, PAGE, replace(every, after=last), with_vectors=with_vectors):
            rows += await asyncio.to_thread(_rows_anew, bank, hits, write)
            last = place_of(hits[-1].found.chunk)
        await self._put(bank, [rows])
        after = {document: Head((write,), (), before[document].version)}
        if await self._store.put_heads(bank, after):
            await self._forget(bank, {document: rows})
        else:
            await self._sweep(bank, before, after, [])

    def _know(self, write: str) -> None:
        """Remembers that the write was committed, so that any search from now on sees all of it."""
        self._known[write] = None
        if len(self._known) > MAX_KNOWN_WRITES:
            self._known.popitem(last=False)


def _rows_anew(bank: BankPlace, hits: list[Hit], write: str) -> list[Row]:
    now = int(time.time())
    return [
        row_of(bank, found.chunk, write, now, None if found.vector is None else floats_of(found.vector))
        for found in (hit.found for hit in hits)
    ]


def _head_of(hit: Hit, heads: dict[str, Head]) -> Head:
    return heads.get(hit.found.chunk.document_id, Head())
