"""The shape of memory's answers, classic and native, for the OpenAPI document; see `llama_stack.server.schema`."""

from typing import Any, Literal

from llama_stack.server.schema import Answer

DocumentStateName = Literal["pending", "running", "completed", "failed", "cancelled"]


class ClassicVectorDb(Answer):
    identifier: str
    provider_id: str
    provider_resource_id: str
    type: Literal["vector_db"]
    embedding_model: str
    embedding_dimension: int


class ClassicVectorDbList(Answer):
    data: list[ClassicVectorDb]


class ClassicChunk(Answer):
    """metadata: the document's own, with `document_id` and `token_count`, and where in the document it stands."""

    content: str
    metadata: dict[str, Any]
    embedding: None


class ClassicChunks(Answer):
    """Two lists side by side, best first."""

    chunks: list[ClassicChunk]
    scores: list[float]


class Inserted(Answer):
    """inserted: how many."""

    inserted: int


class RagMetadata(Answer):
    """Lists side by side, in the order of the chunks in the content."""

    document_ids: list[str]
    chunks: list[str]
    scores: list[float]


class RagText(Answer):
    type: Literal["text"]
    text: str


class RagContext(Answer):
    """content: null when nothing was found."""

    content: list[RagText] | None
    metadata: RagMetadata


class MemoryBankAnswer(Answer):
    """What only some kinds have is there for those."""

    identifier: str
    provider_id: str
    provider_resource_id: str
    type: Literal["memory_bank"]
    memory_bank_type: Literal["vector", "keyword", "keyvalue", "graph"]
    provider_params: dict[str, Any]
    embedding_model: str | None = None
    embedding_dimension: int | None = None
    chunk_size_in_tokens: int | None = None
    overlap_size_in_tokens: int | None = None
    extraction_model: str | None = None


class MemoryBankAnswerList(Answer):
    data: list[MemoryBankAnswer]


class UnreadReason(Answer):
    code: str
    message: str


class DocumentSizes(Answer):
    chunk_size_tokens: int | None
    overlap_size_tokens: int | None


class DocumentStatusAnswer(Answer):
    """What a bank knows of a document. error: why it failed, with the remedy. warnings: what was left out of it."""

    document_id: str
    bank_id: str
    name: str
    mime_type: str
    state: DocumentStateName
    error: UnreadReason | None
    warnings: list[str]
    chunks: int
    size_bytes: int
    metadata: dict[str, Any]
    sizes: DocumentSizes | None
    file_id: str | None
    batch_id: str | None
    created_at: str


class DocumentStatusAnswerList(Answer):
    """next_after: what to pass as `after` for the next page; null where the list ends."""

    data: list[DocumentStatusAnswer]
    next_after: str | None


class ChunkAnswer(Answer):
    """A piece of a document with its place in it: `start` and `end` are characters of its text, pages are from 1."""

    chunk_id: str
    document_id: str
    content: str
    document_name: str
    position: int
    start: int
    end: int
    page: int | None
    headings: list[str]
    token_count: int
    language: str
    metadata: dict[str, Any]


class FoundChunkAnswer(ChunkAnswer):
    score: float


class FoundChunks(Answer):
    """Two lists side by side, best first."""

    chunks: list[FoundChunkAnswer]
    scores: list[float]


class DocumentAnswer(Answer):
    document: DocumentStatusAnswer
    chunks: list[ChunkAnswer]


class DocumentAnswerList(Answer):
    data: list[DocumentAnswer]


class DeletedDocuments(Answer):
    """deleted: how many there were."""

    deleted: int


class BankStatsAnswer(Answer):
    """documents: how many are in each state. size_bytes: on the provider's disk, where it can tell."""

    bank_id: str
    documents: dict[str, int]
    chunks: int
    size_bytes: int | None
