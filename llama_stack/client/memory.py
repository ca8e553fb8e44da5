"""The memory of a stack at the other end of a connection."""

from collections.abc import Sequence
from typing import Any, Literal

from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.filters import Comparison, Compound
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
from llama_stack.client.exchange import Exchange
from llama_stack.wire import memory_words as words
from llama_stack.wire.words import MEDIA_TYPE

PATIENCE_S = 600.0
"""Least patience with an operation: documents are read and embedded before it is answered."""


class RemoteMemory:
    """Fulfils `api.memory.Memory` over /v1/memory, in the framework's own words."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange.asking_for(MEDIA_TYPE)

    async def _ask(self, operation: words.Operation[words.AnswerT], caller: Caller, **fields: Any) -> words.AnswerT:
        body = operation.body.model_construct(**fields).model_dump(mode="json")
        answer = await self._exchange.post(f"v1/memory/{operation.name}", body, caller, patience_s=PATIENCE_S)
        return operation.read_answer(answer)

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
        return await self._ask(words.CREATE_BANK, caller, bank=bank, name=name, metadata=metadata, expiry=expiry)

    async def bank(self, bank_id: str, caller: Caller) -> BankRecord:
        return await self._ask(words.BANK, caller, bank_id=bank_id)

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
        return await self._ask(words.BANKS, caller, limit=limit, after=after, before=before, order=order, kind=kind)

    async def update_bank(
        self,
        bank_id: str,
        caller: Caller,
        *,
        name: str | None = None,
        metadata: dict[str, str] | None = None,
        expiry: Expiry | Literal["never"] | None = None,
    ) -> BankRecord:
        return await self._ask(words.UPDATE_BANK, caller, bank_id=bank_id, name=name, metadata=metadata, expiry=expiry)

    async def drop_bank(self, bank_id: str, caller: Caller) -> None:
        await self._ask(words.DROP_BANK, caller, bank_id=bank_id)

    async def stats(self, bank_id: str, caller: Caller) -> BankStats:
        return await self._ask(words.STATS, caller, bank_id=bank_id)

    # --- in ----------------------------------------------------------------------------------------------------------

    async def insert_documents(
        self, bank_id: str, documents: Sequence[Document], caller: Caller, *, sizes: ChunkSizes | None = None
    ) -> list[DocumentStatus]:
        return await self._ask(words.INSERT_DOCUMENTS, caller, bank_id=bank_id, documents=list(documents), sizes=sizes)

    async def insert_chunks(self, bank_id: str, chunks: Sequence[Embedded], caller: Caller) -> None:
        await self._ask(words.INSERT_CHUNKS, caller, bank_id=bank_id, chunks=list(chunks))

    async def insert_facts(self, bank_id: str, facts: Sequence[Facts], caller: Caller) -> None:
        await self._ask(words.INSERT_FACTS, caller, bank_id=bank_id, facts=list(facts))

    async def attach_file(
        self,
        bank_id: str,
        file_id: str,
        caller: Caller,
        *,
        metadata: JsonObject | None = None,
        sizes: ChunkSizes | None = None,
    ) -> DocumentStatus:
        return await self._ask(
            words.ATTACH_FILE, caller, bank_id=bank_id, file_id=file_id, metadata=metadata, sizes=sizes
        )

    async def attach_batch(self, bank_id: str, files: Sequence[BatchFile], caller: Caller) -> FileBatch:
        return await self._ask(words.ATTACH_BATCH, caller, bank_id=bank_id, files=list(files))

    async def batch(self, bank_id: str, batch_id: str, caller: Caller) -> FileBatch:
        return await self._ask(words.BATCH, caller, bank_id=bank_id, batch_id=batch_id)

    async def cancel_batch(self, bank_id: str, batch_id: str, caller: Caller) -> FileBatch:
        return await self._ask(words.CANCEL_BATCH, caller, bank_id=bank_id, batch_id=batch_id)

    # --- there, and going --------------------------------------------------------------------------------------------

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
        return await self._ask(
            words.DOCUMENTS,
            caller,
            bank_id=bank_id,
            limit=limit,
            after=after,
            before=before,
            order=order,
            states=None if states is None else list(states),
            batch_id=batch_id,
        )

    async def document(self, bank_id: str, document_id: str, caller: Caller) -> DocumentStatus:
        return await self._ask(words.DOCUMENT, caller, bank_id=bank_id, document_id=document_id)

    async def chunks_of(self, bank_id: str, document_id: str, caller: Caller) -> list[Chunk]:
        return await self._ask(words.CHUNKS_OF, caller, bank_id=bank_id, document_id=document_id)

    async def set_metadata(
        self, bank_id: str, document_id: str, metadata: JsonObject, caller: Caller
    ) -> DocumentStatus:
        return await self._ask(words.SET_METADATA, caller, bank_id=bank_id, document_id=document_id, metadata=metadata)

    async def delete_documents(self, bank_id: str, document_ids: Sequence[str], caller: Caller) -> int:
        return await self._ask(words.DELETE_DOCUMENTS, caller, bank_id=bank_id, document_ids=list(document_ids))

    async def delete_where(self, bank_id: str, where: Comparison | Compound, caller: Caller) -> int:
        return await self._ask(words.DELETE_WHERE, caller, bank_id=bank_id, where=where)

    # --- out ---------------------------------------------------------------------------------------------------------

    async def query(self, bank_ids: Sequence[str], query: MemoryQuery, caller: Caller) -> list[Chunk]:
        return await self._ask(words.QUERY, caller, bank_ids=list(bank_ids), query=query)
