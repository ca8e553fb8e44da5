"""The shape of answers about vector stores, for the OpenAPI document."""

from typing import Any, Literal

from llama_stack.server.schema import Answer


class FileCounts(Answer):
    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


class VectorStoreObject(Answer):
    """A vector store (OpenAI API reference, "The vector store object")."""

    id: str
    object: Literal["vector_store"]
    created_at: int
    name: str
    description: str | None = None
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: dict[str, Any] | None = None
    expires_at: int | None = None
    last_active_at: int | None = None
    metadata: dict[str, str]
    embedding_model: str
    embedding_dimension: int
    provider_id: str


class VectorStoreList(Answer):
    object: Literal["list"]
    data: list[VectorStoreObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VectorStoreFileError(Answer):
    code: Literal["server_error", "unsupported_file", "invalid_file"]
    message: str


class VectorStoreFileObject(Answer):
    """A file in a vector store (OpenAI API reference, "The vector store file object").

    warnings: not of OpenAI's: what was left out of a completed file.
    """

    id: str
    object: Literal["vector_store.file"]
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "failed", "cancelled"]
    usage_bytes: int
    last_error: VectorStoreFileError | None = None
    chunking_strategy: dict[str, Any]
    attributes: dict[str, Any]
    warnings: list[str]


class VectorStoreFileList(Answer):
    object: Literal["list"]
    data: list[VectorStoreFileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileBatchObject(Answer):
    """Files attached together (OpenAI API reference, "The vector store files batch object")."""

    id: str
    object: Literal["vector_store.files_batch"]
    created_at: int
    vector_store_id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    file_counts: FileCounts


class SearchResultPage(Answer):
    object: Literal["vector_store.search_results.page"]
    search_query: list[str]
    data: list[dict[str, Any]]
    has_more: bool
    next_page: str | None


class FileContentPage(Answer):
    object: Literal["vector_store.file_content.page"]
    data: list[dict[str, Any]]
    has_more: bool
    next_page: str | None
