"""The memory of a stack: fulfils `api.memory.Memory` over its providers, its models and its database."""

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
from llama_stack.api.resources import MemoryBank
from llama_stack.api.sent_files import SentFiles
from llama_stack.errors import NotFound, ProviderFailed
from llama_stack.memory.arrivals import Arrivals
from llama_stack.memory.attaching import Attaching
from llama_stack.memory.banks import Banks
from llama_stack.memory.checks import check_metadata, check_mode
from llama_stack.memory.deleting import Deleting
from llama_stack.memory.embedding import Embedder
from llama_stack.memory.ingestion import CHUNKS_A_PAGE, Ingestion, Share
from llama_stack.memory.inserting import Inserting
from llama_stack.memory.jobs import FileJobs
from llama_stack.memory.searching import check_filter, search
from llama_stack.memory.selecting import Looked, is_filter_alone, selected
from llama_stack.storage.banks import BankStore
from llama_stack.storage.columns import now
from llama_stack.storage.database import Database
from llama_stack.storage.deletions import DeletionStore
from llama_stack.storage.documents import DocumentStore
from llama_stack.storage.pages import Between

DELETED_AT_ONCE = 100
"""Documents, which nobody else writes or deletes meanwhile."""


class MemoryService:
    """Get one from `open_memory`."""

    def __init__(
        self,
        banks: Banks,
        store: BankStore,
        documents: DocumentStore,
        deletions: DeletionStore,
        inference: Inference,
        embedder: Embedder,
        arrivals: Arrivals,
        files: LocalFiles,
        sent_files: SentFiles,
    ) -> None:
        self.sent_files = sent_files
        self._banks = banks
        self._store = store
        self._documents = documents
        self._inference = inference
        self._embedder = embedder
        self._ingestion = Ingestion(documents, inference, embedder)
        self._inserting = Inserting(banks, documents, self._ingestion, arrivals)
        self._attaching = Attaching(banks, store, documents, self._ingestion, arrivals, files, self._wake)
        self.deleting = Deleting(banks, deletions, documents, self._ingestion)
        self.jobs = FileJobs(documents, self._attaching.read_file, self._empty_expired)

    def _wake(self) -> None:
        self.jobs.wake()

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
        if bank.identifier:
            await self.deleting.finish_dropping(bank.identifier, caller)
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
        await self.deleting.drop(bank_id, caller)

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
            await self._documents.forget_all(stored.bank_id, owner)

    # --- in ----------------------------------------------------------------------------------------------------------

    async def insert_documents(
        self, bank_id: str, documents: Sequence[Document], caller: Caller, *, sizes: ChunkSizes | None = None
    ) -> list[DocumentStatus]:
        return await self._inserting.insert_documents(bank_id, documents, caller, sizes=sizes)

    async def insert_chunks(self, bank_id: str, chunks: Sequence[Embedded], caller: Caller) -> None:
        await self._inserting.insert_chunks(bank_id, chunks, caller)

    async def insert_facts(self, bank_id: str, facts: Sequence[Facts], caller: Caller) -> None:
        await self._inserting.insert_facts(bank_id, facts, caller)

    async def attach_file(
        self,
        bank_id: str,
        file_id: str,
        caller: Caller,
        *,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> DocumentStatus:
        return await self._attaching.attach_file(bank_id, file_id, caller, metadata=metadata, sizes=sizes)

    async def attach_batch(self, bank_id: str, files: Sequence[BatchFile], caller: Caller) -> FileBatch:
        return await self._attaching.attach_batch(bank_id, files, caller)

    async def batch(self, bank_id: str, batch_id: str, caller: Caller) -> FileBatch:
        return await self._attaching.batch(bank_id, batch_id, caller)

    async def cancel_batch(self, bank_id: str, batch_id: str, caller: Caller) -> FileBatch:
        return await self._attaching.cancel_batch(bank_id, batch_id, caller)

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
        return await self._ingestion.chunks_of(share, document_id)

    async def set_metadata(
        self, bank_id: str, document_id: str, metadata: JsonObject, caller: Caller
    ) -> DocumentStatus:
        check_metadata(metadata)
        share = await self._banks.share(bank_id, caller)
        await self._documents.document(bank_id, document_id, caller)
        async with self._ingestion.alone(share.place, document_id):
            await self._documents.set_metadata(bank_id, document_id, metadata, caller)
            await self._ingestion.set_metadata(share, document_id, metadata)
        return await self.document(bank_id, document_id, caller)

    # --- going -------------------------------------------------------------------------------------------------------

    async def delete_documents(self, bank_id: str, document_ids: Sequence[str], caller: Caller) -> int:
        share = await self._banks.share(bank_id, caller)
        return await self._deleted(share, document_ids, caller)

    async def _deleted(
        self, share: Share, document_ids: Sequence[str], caller: Caller, looked: Looked | None = None
    ) -> int:
        """The rows go first, so that whoever works on the documents does not write them again.

        looked: spares what no longer fulfils the filter.
        """
        gone, bank_id = 0, share.bank.identifier
        for first in range(0, len(document_ids), DELETED_AT_ONCE):
            part = list(document_ids[first : first + DELETED_AT_ONCE])
            async with self._ingestion.alone(share.place, *part):
                known = await self._documents.some(bank_id, part, caller)
                replaced: set[str] = set()
                if looked is not None and (changed := {one for one in part if looked.is_old(one, known.get(one))}):
                    changed -= await self._selected(share, looked.where, sorted(changed))
                    part = [one for one in part if one not in changed]
                    known = {one: stored for one, stored in known.items() if one not in changed}
                    replaced = {one for one, stored in known.items() if looked.is_replaced(stored)}
                if part:
                    going = [one for one in part if one not in replaced]
                    async with self.deleting.of_documents(share.bank, going, caller):
                        await self._documents.forget(bank_id, [one for one in known if one not in replaced], caller)
                        await share.index.delete_documents(share.place, part)
                gone += len(known)
        return gone

    async def delete_where(self, bank_id: str, where: Comparison | Compound, caller: Caller) -> int:
        check_filter(where)
        share = await self._banks.share(bank_id, caller)
        with self._ingestion.watching(share.place) as touched:
            looked = Looked(where, touched, now())
            return await self._deleted(share, sorted(await self._selected(share, where)), caller, looked)

    async def _selected(
        self, share: Share, where: Comparison | Compound, document_ids: list[str] | None = None
    ) -> set[str]:
        """The documents, of these or of all, that have chunks which fulfil the filter."""
        found: set[str] = set()
        after: str | None = None
        while True:
            page = await share.index.list_chunks(
                share.place, document_ids=document_ids, where=where, limit=CHUNKS_A_PAGE, after=after
            )
            found |= {one.chunk.document_id for one in page}
            if len(page) < CHUNKS_A_PAGE:
                return found
            after = page[-1].chunk.chunk_id

    async def let_go_of_file(self, file: File, caller: Caller) -> None:
        """A file that is deleted goes out of every bank."""
        for document in await self._documents.with_file(file.file_id, caller):
            share = await self._banks.share(document.bank_id, caller)
            await self._deleted(share, [document.status.document_id], caller)

    # --- out ---------------------------------------------------------------------------------------------------------

    async def require_live(self, bank_ids: Sequence[str], caller: Caller) -> None:
        for bank_id in bank_ids:
            await self._banks.share(bank_id, caller)
        await self._banks.require_live(bank_ids, caller)

    async def query(self, bank_ids: Sequence[str], query: MemoryQuery, caller: Caller) -> list[Chunk]:
        shares = [await self._banks.share(bank_id, caller) for bank_id in dict.fromkeys(bank_ids)]
        live = await self._banks.require_live([share.bank.identifier for share in shares], caller)
        check_mode([share.bank for share in shares], query.mode)
        if is_filter_alone(query):
            found = await selected(shares, query)
        else:
            found = await search(shares, query, caller, self._inference, self._embedder)
        await self._banks.note_activity(live, caller)
        return found


@asynccontextmanager
async def open_memory(
    banks: Banks,
    database: Database,
    inference: Inference,
    arrivals: Arrivals,
    files: LocalFiles,
    sent_files: SentFiles,
) -> AsyncIterator[MemoryService]:
    """The memory, which reads attached files, and finishes deletions that were broken off, while it is open."""
    async with Embedder(inference).running() as embedder:
        service = MemoryService(
            banks,
            BankStore(database),
            DocumentStore(database),
            DeletionStore(database),
            inference,
            embedder,
            arrivals,
            files,
            sent_files,
        )
        async with service.deleting.running(), service.jobs.running():
            yield service
