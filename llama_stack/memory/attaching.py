"""Uploaded files go into banks: accepted at once, read in the background, counted by batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from llama_stack.api.common import Caller, JsonObject
from llama_stack.api.files import LocalFiles
from llama_stack.api.memory import BatchFile, ChunkSizes, DocumentStatus, FileBatch
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.memory.arrivals import Arrivals
from llama_stack.memory.banks import Banks
from llama_stack.memory.checks import check_ids, check_metadata
from llama_stack.memory.cutting import sizes_of
from llama_stack.memory.ingestion import Described, Ingestion
from llama_stack.storage.banks import BankStore, StoredBatch
from llama_stack.storage.documents import DocumentStore, NewDocument, StoredDocument, Working

MAX_BATCH_FILES = 2_000


class Attaching:
    """The part of `api.memory.Memory` that takes in files. wake: tells that there is something to read."""

    def __init__(
        self,
        banks: Banks,
        store: BankStore,
        documents: DocumentStore,
        ingestion: Ingestion,
        arrivals: Arrivals,
        files: LocalFiles,
        wake: Callable[[], None],
    ) -> None:
        self._banks = banks
        self._store = store
        self._documents = documents
        self._ingestion = ingestion
        self._arrivals = arrivals
        self._files = files
        self._wake = wake

    async def attach_file(
        self,
        bank_id: str,
        file_id: str,
        caller: Caller,
        *,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> DocumentStatus:
        file = BatchFile(file_id=file_id, metadata=metadata or {}, sizes=sizes)
        await self._accept(bank_id, await self._described(bank_id, [file], caller), caller)
        return (await self._documents.document(bank_id, file_id, caller)).status

    async def attach_batch(self, bank_id: str, files: Sequence[BatchFile], caller: Caller) -> FileBatch:
        if not 1 <= len(files) <= MAX_BATCH_FILES:
            raise InvalidRequest(f"a batch has 1 to {MAX_BATCH_FILES} files, not {len(files)}", param="file_ids")
        new = await self._described(bank_id, files, caller)
        batch = await self._store.create_batch(bank_id, caller)
        await self._accept(bank_id, [replace(one, batch_id=batch.batch_id) for one in new], caller)
        return await self._counted(batch, caller)

    async def _described(self, bank_id: str, files: Sequence[BatchFile], caller: Caller) -> list[NewDocument]:
        """Raises NotFound for a file that is not there; then nothing of the batch is."""
        share = await self._banks.usable(bank_id, caller)
        check_ids([one.file_id for one in files])
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
                    size_bytes=file.size_bytes,
                )
            )
        return new

    async def _accept(self, bank_id: str, new: Sequence[NewDocument], caller: Caller) -> None:
        await self._documents.begin(bank_id, new, caller, is_held=False)
        self._wake()

    async def read_file(self, working: Working, document: StoredDocument) -> None:
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
            await self._ingestion.remember(share, working, described, fetch, in_background=True)

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
