"""The memory of a stack: fulfils `api.memory.Memory` over its providers, its models and its database."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.files import File, LocalFiles
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.inference import Inference
from llama_stack.api.memory import (
    BankRecord,
    BankStats,
    BatchFile,
    Chunk,
    ChunkSizes,
    Document,
    DocumentState,
    DocumentStatus,
    Embedded,
    Expiry,
    Facts,
    FileBatch,
    ListedOrder,
    MemoryQuery,
)
from llama_stack.api.resources import GraphBank, MemoryBank
from llama_stack.api.vectors import Vectors
from llama_stack.errors import InvalidRequest, NotFound, ProviderFailed
from llama_stack.gathering import gathered
from llama_stack.memory.arrivals import Arrivals
from llama_stack.memory.banks import Banks
from llama_stack.memory.cutting import sizes_of
from llama_stack.memory.embedding import Embedder
from llama_stack.memory.graph import chunks_of_facts
from llama_stack.memory.ingestion import Described, Ingestion, Share
from llama_stack.memory.jobs import FileJobs
from llama_stack.memory.searching import check_filter, search
from llama_stack.storage.banks import BankStore, StoredBatch
from llama_stack.storage.database import Database
from llama_stack.storage.documents import DocumentStore, NewDocument, Ready, StoredDocument, Working
from llama_stack.storage.pages import Between

DOCUMENTS_AT_ONCE = 16
MAX_BATCH_FILES = 2_000
CHUNKS_A_PAGE = 1_000
MAX_METADATA_KEYS = 64


class MemoryService:
    """Get one from `open_memory`."""

    def __init__(
        self,
        banks: Banks,
        store: BankStore,
        documents: DocumentStore,
        inference: Inference,
        embedder: Embedder,
        arrivals: Arrivals,
        files: LocalFiles,
    ) -> None:
        self._banks = banks
        self._store = store
        self._documents = documents
        self._inference = inference
        self._embedder = embedder
        self._arrivals = arrivals
        self._files = files
        self._ingestion = Ingestion(documents, inference, embedder)
        self.jobs = FileJobs(documents, self._read_file, self._empty_expired)

    # --- banks -------------------------------------------------------------------------------------------------------

    async def create_bank(
        self,
        bank: MemoryBank,
        caller: Caller,
        *,
        name: str = "",
        metadata: dict[str, str] | None = None,
        expiry: Expiry | None = None,
    ) -> BankRecord:
        return await self._banks.create(bank, caller, name=name, metadata=metadata or {}, expiry=expiry)

    async def bank(self, bank_id: str, caller: Caller) -> BankRecord:
        return (await self._with_counts([await self._banks.record(bank_id, caller)], caller))[0]

    async def _with_counts(self, records: Sequence[BankRecord], caller: Caller) -> list[BankRecord]:
        counted = await self._documents.counts([record.bank.identifier for record in records], caller)
        counts = [counted[record.bank.identifier] for record in records]
        return [
            record.model_copy(update={"documents": one.documents, "size_bytes": one.size_bytes})
            for record, one in zip(records, counts, strict=True)
        ]

    async def banks(
        self,
        caller: Caller,
        *,
        limit: int = 100,
        after: str | None = None,
        before: str | None = None,
        order: ListedOrder = ListedOrder.NEWEST_FIRST,
        kind: Literal["vector", "keyword", "keyvalue", "graph"] | None = None,
    ) -> Page[BankRecord]:
        page = await self._banks.page(caller, limit=limit, between=Between(after, before), order=order, kind=kind)
        return Page(entries=await self._with_counts(page.entries, caller), next_after=page.next_after)

    async def update_bank(
        self,
        bank_id: str,
        caller: Caller,
        *,
        name: str | None = None,
        metadata: dict[str, str] | None = None,
        expiry: Expiry | Literal["never"] | None = None,
    ) -> BankRecord:
        changed = await self._banks.update(bank_id, caller, name=name, metadata=metadata, expiry=expiry)
        return (await self._with_counts([changed], caller))[0]

    async def drop_bank(self, bank_id: str, caller: Caller) -> None:
        await self._banks.drop(bank_id, caller)

    async def stats(self, bank_id: str, caller: Caller) -> BankStats:
        share = await self._banks.share(bank_id, caller)
        counts = (await self._documents.counts([bank_id], caller))[bank_id]
        kept = await share.index.stats(share.place)
        return BankStats(bank_id=bank_id, documents=counts.documents, chunks=kept.chunks, size_bytes=kept.size_bytes)

    async def _empty_expired(self) -> None:
        for stored in await self._store.expired():
            owner = Caller(owner=stored.owner)
            try:
                share = await self._banks.share(stored.bank_id, owner)
            except (NotFound, ProviderFailed):
                continue
            await share.index.drop_bank(share.place)
            await share.index.create_bank(share.place)
            page = await self._documents.page(
                stored.bank_id, owner, limit=1000, between=Between(), order=ListedOrder.OLDEST_FIRST
            )
            await self._documents.forget(stored.bank_id, [one.document_id for one in page.entries], owner)

    # --- documents in ------------------------------------------------------------------------------------------------

    async def insert_documents(
        self, bank_id: str, documents: Sequence[Document], caller: Caller, *, sizes: ChunkSizes | None = None
    ) -> list[DocumentStatus]:
        share = await self._usable(bank_id, caller)
        _check_ids([document.document_id for document in documents])
        for document in documents:
            check_metadata(document.metadata)
        sizes_of(share.bank, sizes, share.window)
        new = [NewDocument(one.document_id, one.name, one.mime_type, one.metadata, sizes) for one in documents]
        workings = await self._documents.begin(bank_id, new, caller, is_held=True)
        left = set(workings)
        waiting = iter(zip(documents, workings, strict=True))

        async def work() -> None:
            for document, working in waiting:
                described = Described(document.document_id, document.name, document.metadata, sizes)
                await self._ingestion.remember(share, working, described, self._arrivals.of_document(document))
                left.discard(working)

        try:
            async with self._ingestion.held(left):
                await gathered(work() for _ in range(min(DOCUMENTS_AT_ONCE, len(documents))))
        except BaseException:
            # Nobody will hear how it went: what was not finished is not to look as if it were under way.
            await self._documents.forget(bank_id, [working.document_id for working in left], caller)
            raise
        stored = await self._documents.some(bank_id, [one.document_id for one in documents], caller)
        return [stored[one.document_id].status for one in documents if one.document_id in stored]

    async def insert_chunks(self, bank_id: str, chunks: Sequence[Embedded], caller: Caller) -> None:
        share = await self._usable(bank_id, caller)
        if isinstance(share.bank.bank, GraphBank):
            raise InvalidRequest("a graph bank takes documents and facts, not chunks", param="chunks")
        kept = [one.chunk for one in chunks]
        for chunk in kept:
            check_metadata(chunk.metadata)
        vectors = await self._vectors(share, chunks)
        await share.index.write_chunks(share.place, kept, vectors)
        await self._note_documents(share, kept, caller)

    async def _vectors(self, share: Share, chunks: Sequence[Embedded]) -> Vectors | None:
        dimension = share.place.dimension
        if not dimension:
            return None
        for position, one in enumerate(chunks):
            if one.vector is not None and len(one.vector) != dimension:
                raise InvalidRequest(
                    f"chunks.{position}.embedding has {len(one.vector)} numbers; vectors of "
                    f"{share.bank.identifier!r} have {dimension}",
                    param=f"chunks.{position}.embedding",
                )
        missing = [one.chunk for one in chunks if one.vector is None]
        made = await self._ingestion.vectors_of(share, missing) if missing else None
        if made is not None and len(missing) == len(chunks):
            return made
        rows, position = [], 0
        for one in chunks:
            if one.vector is not None:
                rows.append(one.vector)
            elif made is not None:
                rows.append(made.row(position))
                position += 1
        return Vectors.of(rows, dimension)

    async def _note_documents(self, share: Share, chunks: Sequence[Chunk], caller: Caller) -> None:
        """A row for each document whose chunks were brought one by one."""
        by_document: dict[str, list[Chunk]] = {}
        for chunk in chunks:
            by_document.setdefault(chunk.document_id, []).append(chunk)
        bank_id = share.bank.identifier
        known = await self._documents.some(bank_id, list(by_document), caller)
        new = [
            NewDocument(document_id, some[0].document_name, metadata=some[0].metadata)
            for document_id, some in by_document.items()
            if document_id not in known
        ]
        if not new:
            return
        ready = []
        for working in await self._documents.begin(bank_id, new, caller, is_held=True):
            some = by_document[working.document_id]
            size = sum(len(chunk.content.encode(errors="replace")) for chunk in some)
            ready.append((working, Ready(len(some), size, working.revision, "")))
        await self._documents.complete(ready)

    async def insert_facts(self, bank_id: str, facts: Sequence[Facts], caller: Caller) -> None:
        share = await self._usable(bank_id, caller)
        if not isinstance(share.bank.bank, GraphBank):
            raise InvalidRequest(f"{bank_id!r} is no graph bank; facts go into one of kind `graph`", param="bank_id")
        _check_ids([one.document_id for one in facts])
        for one in facts:
            chunks = chunks_of_facts(one)
            async with self._ingestion.alone(share.place, one.document_id):
                if chunks:
                    await share.index.write_chunks(share.place, chunks, None, replace_documents=True)
                await self._note_documents(share, chunks, caller)

    async def _usable(self, bank_id: str, caller: Caller) -> Share:
        share = await self._banks.share(bank_id, caller)
        await self._banks.require_live([bank_id], caller)
        await self._banks.note_activity(bank_id, caller)
        return share

    # --- files in ----------------------------------------------------------------------------------------------------

    async def attach_file(
        self,
        bank_id: str,
        file_id: str,
        caller: Caller,
        *,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> DocumentStatus:
        await self._attach(bank_id, [BatchFile(file_id=file_id, metadata=metadata or {}, sizes=sizes)], caller, None)
        return await self.document(bank_id, file_id, caller)

    async def attach_batch(self, bank_id: str, files: Sequence[BatchFile], caller: Caller) -> FileBatch:
        if not 1 <= len(files) <= MAX_BATCH_FILES:
            raise InvalidRequest(f"a batch has 1 to {MAX_BATCH_FILES} files, not {len(files)}", param="file_ids")
        await self._banks.share(bank_id, caller)
        for one in files:
            await self._files.file(one.file_id, caller)
        batch = await self._store.create_batch(bank_id, caller)
        await self._attach(bank_id, files, caller, batch.batch_id)
        return await self.batch(bank_id, batch.batch_id, caller)

    async def _attach(self, bank_id: str, files: Sequence[BatchFile], caller: Caller, batch_id: str | None) -> None:
        share = await self._usable(bank_id, caller)
        _check_ids([one.file_id for one in files])
        new = []
        for one in files:
            check_metadata(one.metadata)
            sizes = sizes_of(share.bank, one.sizes, share.window)
            file = await self._files.file(one.file_id, caller)
            new.append(
                NewDocument(
                    document_id=file.file_id,
                    name=file.filename,
                    mime_type=file.mime_type,
                    metadata=one.metadata,
                    sizes=sizes,
                    file_id=file.file_id,
                    batch_id=batch_id,
                    size_bytes=file.size_bytes,
                )
            )
        await self._documents.begin(bank_id, new, caller, is_held=False)
        self.jobs.wake()

    async def _read_file(self, working: Working, document: StoredDocument) -> None:
        """Work on what was claimed, as whom it belongs to."""
        status, caller = document.status, Caller(owner=working.owner)
        try:
            share = await self._banks.share(working.bank_id, caller)
        except NotFound:
            await self._documents.forget(working.bank_id, [working.document_id], caller)
            return
        described = Described(status.document_id, status.name, status.metadata, status.sizes)
        if status.file_id is None:
            fetch = self._arrivals.interrupted()
        else:
            fetch = self._arrivals.of_file(self._files, status.file_id, caller)
        async with self._ingestion.held([working]):
            await self._ingestion.remember(share, working, described, fetch)

    async def batch(self, bank_id: str, batch_id: str, caller: Caller) -> FileBatch:
        await self._banks.share(bank_id, caller)
        stored = await self._store.batch(bank_id, batch_id, caller)
        return await self._counted(stored, caller)

    async def cancel_batch(self, bank_id: str, batch_id: str, caller: Caller) -> FileBatch:
        await self._store.batch(bank_id, batch_id, caller)
        await self._store.cancel_batch(batch_id, caller)
        return await self.batch(bank_id, batch_id, caller)

    async def _counted(self, stored: StoredBatch, caller: Caller) -> FileBatch:
        counts = await self._documents.counts([stored.bank_id], caller, batch_id=stored.batch_id)
        return FileBatch(
            batch_id=stored.batch_id,
            bank_id=stored.bank_id,
            is_cancelled=stored.is_cancelled,
            counts=counts[stored.bank_id].documents,
            created_at=stored.created_at,
        )

    # --- what is there -----------------------------------------------------------------------------------------------

    async def documents(
        self,
        bank_id: str,
        caller: Caller,
        *,
        limit: int = 100,
        after: str | None = None,
        before: str | None = None,
        order: ListedOrder = ListedOrder.NEWEST_FIRST,
        states: Sequence[DocumentState] | None = None,
        batch_id: str | None = None,
    ) -> Page[DocumentStatus]:
        await self._banks.record(bank_id, caller)
        return await self._documents.page(
            bank_id, caller, limit=limit, between=Between(after, before), order=order, states=states, batch_id=batch_id
        )

    async def document(self, bank_id: str, document_id: str, caller: Caller) -> DocumentStatus:
        await self._banks.record(bank_id, caller)
        return (await self._documents.document(bank_id, document_id, caller)).status

    async def chunks_of(self, bank_id: str, document_id: str, caller: Caller) -> list[Chunk]:
        share = await self._banks.share(bank_id, caller)
        await self._documents.document(bank_id, document_id, caller)
        chunks: list[Chunk] = []
        after: str | None = None
        while True:
            page = await share.index.list_chunks(
                share.place, document_ids=[document_id], limit=CHUNKS_A_PAGE, after=after
            )
            chunks.extend(one.chunk for one in page)
            if len(page) < CHUNKS_A_PAGE:
                return chunks
            after = page[-1].chunk.chunk_id

    async def set_metadata(
        self, bank_id: str, document_id: str, metadata: JsonObject, caller: Caller
    ) -> DocumentStatus:
        check_metadata(metadata)
        share = await self._banks.share(bank_id, caller)
        await self._documents.document(bank_id, document_id, caller)
        async with self._ingestion.alone(share.place, document_id):
            await self._documents.set_metadata(bank_id, document_id, metadata, caller)
            await share.index.set_metadata(share.place, document_id, metadata)
        return await self.document(bank_id, document_id, caller)

    # --- going -------------------------------------------------------------------------------------------------------

    async def delete_documents(self, bank_id: str, document_ids: Sequence[str], caller: Caller) -> int:
        share = await self._banks.share(bank_id, caller)
        return await self._deleted(share, document_ids, caller)

    async def _deleted(self, share: Share, document_ids: Sequence[str], caller: Caller) -> int:
        """The row goes first, so that whoever works on the document does not write it again."""
        gone = 0
        for document_id in document_ids:
            async with self._ingestion.alone(share.place, document_id):
                gone += await self._documents.forget(share.bank.identifier, [document_id], caller)
                await share.index.delete_documents(share.place, [document_id])
        return gone

    async def delete_where(self, bank_id: str, where: Comparison | Compound, caller: Caller) -> int:
        check_filter(where)
        share = await self._banks.share(bank_id, caller)
        selected: set[str] = set()
        after: str | None = None
        while True:
            page = await share.index.list_chunks(share.place, where=where, limit=CHUNKS_A_PAGE, after=after)
            selected |= {one.chunk.document_id for one in page}
            if len(page) < CHUNKS_A_PAGE:
                break
            after = page[-1].chunk.chunk_id
        await share.index.delete_where(share.place, where)
        return await self._deleted(share, sorted(selected), caller)

    async def let_go_of_file(self, file: File, caller: Caller) -> None:
        """A file that is deleted goes out of every bank."""
        for document in await self._documents.with_file(file.file_id, caller):
            share = await self._banks.share(document.bank_id, caller)
            await self._deleted(share, [document.status.document_id], caller)

    # --- out ---------------------------------------------------------------------------------------------------------

    async def query(self, bank_ids: Sequence[str], query: MemoryQuery, caller: Caller) -> list[Chunk]:
        shares = [await self._banks.share(bank_id, caller) for bank_id in dict.fromkeys(bank_ids)]
        await self._banks.require_live([share.bank.identifier for share in shares], caller)
        found = await search(shares, query, caller, self._inference, self._embedder)
        for share in shares:
            await self._banks.note_activity(share.bank.identifier, caller)
        return found


@asynccontextmanager
async def open_memory(
    banks: Banks, database: Database, inference: Inference, arrivals: Arrivals, files: LocalFiles
) -> AsyncIterator[MemoryService]:
    """The memory, which reads attached files while it is open."""
    async with Embedder(inference).running() as embedder:
        service = MemoryService(
            banks, BankStore(database), DocumentStore(database), inference, embedder, arrivals, files
        )
        async with service.jobs.running():
            yield service


def check_metadata(metadata: JsonObject) -> None:
    """Raises InvalidRequest for more than what every backend keeps."""
    if len(metadata) > MAX_METADATA_KEYS:
        raise InvalidRequest(
            f"metadata has {len(metadata)} keys; at most {MAX_METADATA_KEYS} are kept", param="metadata"
        )


def _check_ids(document_ids: Sequence[str]) -> None:
    if not document_ids:
        raise InvalidRequest("documents: there are none", param="documents")
    twice = next((one for one, times in Counter(document_ids).items() if times > 1), None)
    if twice is not None:
        raise InvalidRequest(
            f"documents: {twice!r} stands twice; every document has an id of its own", param="documents"
        )
