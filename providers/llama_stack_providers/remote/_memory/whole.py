"""Whole writes over a database that has no transactions.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from secrets import token_hex
from zlib import crc32

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.errors import Conflict, StackError
from llama_stack.text.words import query_stems
from llama_stack_providers.remote._memory.checks import (
    check_keyword,
    check_query_vector,
    check_vectors,
)
from llama_stack_providers.remote._memory.facets import sortable_place
from llama_stack_providers.remote._memory.rows import row_of, rows_of
from llama_stack_providers.remote._memory.store import Head, Hit, Row, Rows, Store

ATTEMPTS = 12
"""Of a search amid writes, and of a head that others replace."""
MAX_FOUND = 10_000
"""What such databases give in one answer at most."""
MAX_WRITES = 256
"""Of one document. One more, and the document is written anew as a single write."""
MAX_KNOWN_WRITES = 100_000
MAX_KNOWN_BANKS = 1_000
LEFTOVER_AGE_S = 3600
"""A write that is not committed after this is taken for one that crashed."""
LANGUAGES_AGE_S = 30.0
STRIPES = 64
PAGE = 500


@dataclass
class Languages:
    """Of the chunks of one bank. read_at: by time.monotonic."""

    found: set[str]
    read_at: float


class WholeWrites:
    """A `ChunkIndex` over a `Store`. write_chunks: how many rows one request to it may carry."""

    def __init__(self, store: Store, write_chunks: int) -> None:
        self._store = store
        self._write_chunks = write_chunks
        self._known: OrderedDict[str, None] = OrderedDict()
        self._languages: OrderedDict[str, Languages] = OrderedDict()
        self._locks = [asyncio.Lock() for _ in range(STRIPES)]
        self._finishing: set[asyncio.Task[None]] = set()

    def abilities(self) -> IndexAbilities:
        return self._store.abilities()

    async def create_bank(self, bank: BankPlace) -> None:
        await self._store.create(bank)
        self._languages.pop(bank.key, None)

    async def drop_bank(self, bank: BankPlace) -> None:
        await self._store.drop(bank)
        self._languages.pop(bank.key, None)

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        check_vectors(bank, chunks, vectors)
        if not chunks:
            return
        rows = await asyncio.to_thread(rows_of, bank, chunks, vectors)
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
        languages = self._languages.get(bank.key)
        if languages is not None:
            languages.found.update(chunk.language for chunk in chunks)

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Comparison | Compound | None = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        check_query_vector(bank, vector)

        async def search(rows: Rows) -> list[Hit]:
            return await _with_equals(
                limit, lambda most: self._store.nearest(bank, vector, most, rows, with_vectors=with_vectors)
            )

        return [hit.found for hit in await self._settled(bank, Rows(where=where), search)]

    async def search_keyword(
        self, bank: BankPlace, query: str, limit: int, where: Comparison | Compound | None = None
    ) -> list[FoundChunk]:
        check_keyword(bank)
        words = await asyncio.to_thread(query_stems, query, await self._languages_of(bank))
        if not words:
            return []

        async def search(rows: Rows) -> list[Hit]:
            return await _with_equals(limit, lambda most: self._store.sharing_words(bank, words, most, rows))

        return [hit.found for hit in await self._settled(bank, Rows(where=where), search)]

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
            last = await self._list(bank, Rows(chunk_ids=[after]), 1, with_vectors=False)
            if not last:
                return []
            found = last[0].found.chunk
            place = sortable_place(found.document_id, found.position, found.chunk_id)
        rows = Rows(where=where, documents=document_ids, after=place)
        with_vectors = with_vectors and bank.dimension > 0
        return [hit.found for hit in await self._list(bank, rows, limit, with_vectors=with_vectors)]

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        async with self._locks[_stripe(bank, document_id)]:
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
        while hits := await self._list(bank, Rows(where=where), PAGE, with_vectors=False):
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

    async def stats(self, bank: BankPlace) -> IndexStats:
        return await self._store.stats(bank)

    async def close(self) -> None:
        """Waits for what was begun."""
        while self._finishing:
            await asyncio.wait(self._finishing)

    @asynccontextmanager
    async def _alone(self, bank: BankPlace, documents: Iterable[str]) -> AsyncIterator[None]:
        """This server's only writer of the documents."""
        async with AsyncExitStack() as held:
            for stripe in sorted({_stripe(bank, document) for document in documents}):
                await held.enter_async_context(self._locks[stripe])
            yield

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
        every = [row for of_document in rows for row in of_document]
        for start in range(0, len(every), self._write_chunks):
            part = every[start : start + self._write_chunks]
            await self._store.put_rows(bank, part, last=start + len(part) == len(every))

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
        write, place = token_hex(8), None
        while hits := await self._list(bank, Rows(documents=[document], after=place), PAGE, with_vectors=True):
            for hit in hits:
                chunk = hit.found.chunk
                place = sortable_place(chunk.document_id, chunk.position, chunk.chunk_id)
                rows.append(row_of(bank, chunk, write, int(time.time()), hit.found.vector))
        await self._put(bank, [rows])
        after = {document: Head((write,), (), before[document].version)}
        if await self._store.put_heads(bank, after):
            await self._forget(bank, {document: rows})
        else:
            await self._sweep(bank, before, after, [])

    async def _list(self, bank: BankPlace, rows: Rows, limit: int, *, with_vectors: bool) -> list[Hit]:
        async def search(narrowed: Rows) -> list[Hit]:
            return await self._store.in_order(bank, limit, narrowed, with_vectors=with_vectors)

        return await self._settled(bank, rows, search)

    async def _settled(self, bank: BankPlace, rows: Rows, search: Callable[[Rows], Awaitable[list[Hit]]]) -> list[Hit]:
        """What the search finds of whole, current writes; see above."""
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

    def _know(self, write: str) -> None:
        """Remembers that the write was committed, so that any search from now on sees all of it."""
        self._known[write] = None
        if len(self._known) > MAX_KNOWN_WRITES:
            self._known.popitem(last=False)

    async def _languages_of(self, bank: BankPlace) -> list[str]:
        known = self._languages.get(bank.key)
        if known is None or time.monotonic() - known.read_at >= LANGUAGES_AGE_S:
            read_at = time.monotonic()
            known = self._languages[bank.key] = Languages(set(await self._store.languages(bank)), read_at)
            while len(self._languages) > MAX_KNOWN_BANKS:
                self._languages.popitem(last=False)
        return sorted(known.found)


@asynccontextmanager
async def open_whole_writes(store: Store, write_chunks: int) -> AsyncIterator[WholeWrites]:
    index = WholeWrites(store, write_chunks)
    try:
        yield index
    finally:
        await index.close()


async def _with_equals(limit: int, search: Callable[[int], Awaitable[list[Hit]]]) -> list[Hit]:
    """The best `limit` hits, equals in the order of chunk ids also where the limit falls among them."""
    most = min(limit + 1, MAX_FOUND)
    while True:
        hits = await search(most)
        cut = len(hits) == most > limit and hits[-1].found.score == hits[limit - 1].found.score
        if not cut or most == MAX_FOUND:
            return sorted(hits, key=lambda hit: (-hit.found.score, hit.found.chunk.chunk_id))[:limit]
        most = min(most * 8, MAX_FOUND)


def _head_of(hit: Hit, heads: dict[str, Head]) -> Head:
    return heads.get(hit.found.chunk.document_id, Head())


def _stripe(bank: BankPlace, document_id: str) -> int:
    return crc32(f"{bank.key} {document_id}".encode(errors="replace")) % STRIPES
