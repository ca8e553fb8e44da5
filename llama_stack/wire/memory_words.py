"""The memory's operations in the framework's own words: a body and an answer for each method of `api.memory.Memory`.

The fields of a body are named as the parameters of the method, so nothing that a caller says is lost between a stack
and its client. Other dialects (vector stores, the memory API of 2024) know less of them.
"""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from llama_stack.api.common import JsonObject, Page, Word
from llama_stack.api.filters import MetadataFilter
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
from llama_stack.wire.words import not_understood

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Operation(Generic[AnswerT]):
    """name: of the method, and the last part of the path."""

    name: str
    body: type[Word]
    answer: TypeAdapter[AnswerT]

    def read_answer(self, body: Any) -> AnswerT:
        """Raises ProviderFailed for what is not this answer: the other end is of another version."""
        try:
            return self.answer.validate_python(body)
        except ValidationError as error:
            raise not_understood(error) from error


class OfBankBody(Word):
    bank_id: str


class CreateBankBody(Word):
    bank: MemoryBank
    name: str = ""
    metadata: dict[str, str] | None = None
    expiry: Expiry | None = None


class BanksBody(Word):
    limit: int = 100
    after: str | None = None
    before: str | None = None
    order: ListedOrder = ListedOrder.NEWEST_FIRST
    kind: Literal["vector", "keyword", "keyvalue", "graph"] | None = None


class UpdateBankBody(Word):
    bank_id: str
    name: str | None = None
    metadata: dict[str, str] | None = None
    expiry: Expiry | Literal["never"] | None = None


class InsertDocumentsWordsBody(Word):
    bank_id: str
    documents: list[Document]
    sizes: ChunkSizes | None = None


class InsertChunksBody(Word):
    bank_id: str
    chunks: list[Embedded]


class InsertFactsWordsBody(Word):
    bank_id: str
    facts: list[Facts]


class AttachFileBody(Word):
    bank_id: str
    file_id: str
    metadata: JsonObject | None = None
    sizes: ChunkSizes | None = None


class AttachBatchBody(Word):
    bank_id: str
    files: list[BatchFile]


class OfBatchBody(Word):
    bank_id: str
    batch_id: str


class DocumentsBody(Word):
    bank_id: str
    limit: int = 100
    after: str | None = None
    before: str | None = None
    order: ListedOrder = ListedOrder.NEWEST_FIRST
    states: list[DocumentState] | None = None
    batch_id: str | None = None


class OfDocumentBody(Word):
    bank_id: str
    document_id: str


class SetMetadataBody(Word):
    bank_id: str
    document_id: str
    metadata: JsonObject


class DeleteDocumentsWordsBody(Word):
    bank_id: str
    document_ids: list[str]


class DeleteWhereBody(Word):
    bank_id: str
    where: MetadataFilter


class QueryWordsBody(Word):
    bank_ids: list[str]
    query: MemoryQuery


CREATE_BANK = Operation("create_bank", CreateBankBody, TypeAdapter(BankRecord))
BANK = Operation("bank", OfBankBody, TypeAdapter(BankRecord))
BANKS = Operation("banks", BanksBody, TypeAdapter(Page[BankRecord]))
UPDATE_BANK = Operation("update_bank", UpdateBankBody, TypeAdapter(BankRecord))
DROP_BANK = Operation("drop_bank", OfBankBody, TypeAdapter(None))
INSERT_DOCUMENTS = Operation("insert_documents", InsertDocumentsWordsBody, TypeAdapter(list[DocumentStatus]))
INSERT_CHUNKS = Operation("insert_chunks", InsertChunksBody, TypeAdapter(None))
INSERT_FACTS = Operation("insert_facts", InsertFactsWordsBody, TypeAdapter(None))
ATTACH_FILE = Operation("attach_file", AttachFileBody, TypeAdapter(DocumentStatus))
ATTACH_BATCH = Operation("attach_batch", AttachBatchBody, TypeAdapter(FileBatch))
BATCH = Operation("batch", OfBatchBody, TypeAdapter(FileBatch))
CANCEL_BATCH = Operation("cancel_batch", OfBatchBody, TypeAdapter(FileBatch))
DOCUMENTS = Operation("documents", DocumentsBody, TypeAdapter(Page[DocumentStatus]))
DOCUMENT = Operation("document", OfDocumentBody, TypeAdapter(DocumentStatus))
CHUNKS_OF = Operation("chunks_of", OfDocumentBody, TypeAdapter(list[Chunk]))
SET_METADATA = Operation("set_metadata", SetMetadataBody, TypeAdapter(DocumentStatus))
DELETE_DOCUMENTS = Operation("delete_documents", DeleteDocumentsWordsBody, TypeAdapter(int))
DELETE_WHERE = Operation("delete_where", DeleteWhereBody, TypeAdapter(int))
STATS = Operation("stats", OfBankBody, TypeAdapter(BankStats))
QUERY = Operation("query", QueryWordsBody, TypeAdapter(list[Chunk]))

_ALL: tuple[Operation[Any], ...] = (
    CREATE_BANK, BANK, BANKS, UPDATE_BANK, DROP_BANK, INSERT_DOCUMENTS, INSERT_CHUNKS, INSERT_FACTS, ATTACH_FILE,
    ATTACH_BATCH, BATCH, CANCEL_BATCH, DOCUMENTS, DOCUMENT, CHUNKS_OF, SET_METADATA, DELETE_DOCUMENTS, DELETE_WHERE,
    STATS, QUERY,
)  # fmt: skip
MEMORY_OPERATIONS: dict[str, Operation[Any]] = {operation.name: operation for operation in _ALL}
