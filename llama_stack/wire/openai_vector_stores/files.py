"""Files in a vector store, and batches of them."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import BatchFile, Chunk, ChunkSizes, DocumentState, DocumentStatus, FileBatch
from llama_stack.errors import InvalidRequest
from llama_stack.wire.openai_vector_stores.stores import Attributes, Chunking, encode_counts, sizes_of
from llama_stack.wire.validation import Body, invalid_request

MAX_BATCH_FILES = 2000
MAX_ATTRIBUTES = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512

STATES = {
    "in_progress": (DocumentState.PENDING, DocumentState.RUNNING),
    "completed": (DocumentState.COMPLETED,),
    "failed": (DocumentState.FAILED,),
    "cancelled": (DocumentState.CANCELLED,),
}
_SHOWN_STATES = {state: shown for shown, states in STATES.items() for state in states}

_UNSUPPORTED = frozenset({"unsupported_file", "file_type_mismatch"})
_INVALID = frozenset(
    {"encrypted", "empty", "no_text", "too_large", "too_complex", "damaged", "missing_library", "file_not_found"}
)


class AttachBody(Body):
    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class BatchBody(Body):
    file_ids: list[str] | None = None
    files: list[AttachBody] | None = Field(None, max_length=MAX_BATCH_FILES)
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class AttributesBody(Body):
    attributes: Attributes | None


def decode_attach(body: Any) -> BatchFile:
    try:
        said = AttachBody.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from error
    return _file_of(said, "")


def decode_batch(body: Any) -> list[BatchFile]:
    """Raises InvalidRequest where the files are named in neither way or in both."""
    try:
        said = BatchBody.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from error
    if (said.file_ids is None) == (said.files is None):
        raise InvalidRequest("file_ids: give either file_ids or files", param="file_ids")
    if said.files is not None:
        if said.attributes is not None or said.chunking_strategy is not None:
            raise InvalidRequest(
                "files: each has attributes and chunking_strategy of its own; leave out those of the batch",
                param="files",
            )
        files = [_file_of(one, f"files.{position}.") for position, one in enumerate(said.files)]
    else:
        attributes = read_attributes(said.attributes, "attributes")
        sizes = sizes_of(said.chunking_strategy)
        files = [
            BatchFile(file_id=file_id, metadata=attributes, sizes=sizes)
            for file_id in dict.fromkeys(said.file_ids or [])
        ]
    if not 1 <= len(files) <= MAX_BATCH_FILES:
        raise InvalidRequest(f"file_ids: a batch has 1 to {MAX_BATCH_FILES} files", param="file_ids")
    return files


def _file_of(said: AttachBody, under: str) -> BatchFile:
    return BatchFile(
        file_id=said.file_id,
        metadata=read_attributes(said.attributes, f"{under}attributes"),
        sizes=sizes_of(said.chunking_strategy),
    )


def decode_attributes(body: Any) -> JsonObject:
    try:
        said = AttributesBody.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from error
    return read_attributes(said.attributes, "attributes")


def read_attributes(attributes: Attributes | None, param: str) -> JsonObject:
    """Up to 16 pairs with keys of 64 and texts of 512 characters, as OpenAI has it."""
    pairs = dict(attributes or {})
    if len(pairs) > MAX_ATTRIBUTES:
        raise InvalidRequest(f"{param}: has {len(pairs)} pairs; at most {MAX_ATTRIBUTES} are kept", param=param)
    for key, value in pairs.items():
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS or (isinstance(value, str) and len(value) > MAX_VALUE_CHARACTERS):
            raise InvalidRequest(
                f"{param}: keys have 1 to {MAX_KEY_CHARACTERS} characters and texts up to {MAX_VALUE_CHARACTERS}; "
                f"{key[:MAX_KEY_CHARACTERS]!r} has more",
                param=param,
            )
    return pairs


def encode_file(status: DocumentStatus) -> JsonObject:
    """The object `vector_store.file`, and `warnings`, for which OpenAI has no field."""
    return {
        "id": status.document_id,
        "object": "vector_store.file",
        "created_at": int(status.created_at.timestamp()),
        "vector_store_id": status.bank_id,
        "status": _SHOWN_STATES[status.state],
        "usage_bytes": status.size_bytes if status.state is DocumentState.COMPLETED else 0,
        "last_error": None if status.error is None else encode_error(status),
        "chunking_strategy": encode_chunking(status.sizes),
        "attributes": status.metadata,
        "warnings": status.warnings,
    }


def encode_error(status: DocumentStatus) -> JsonObject:
    """OpenAI knows three codes; the exact one stands at the head of the message."""
    assert status.error is not None
    code = "server_error"
    if status.error.code in _UNSUPPORTED:
        code = "unsupported_file"
    elif status.error.code in _INVALID:
        code = "invalid_file"
    return {"code": code, "message": f"{status.error.code}: {status.error.message}"}


def encode_chunking(sizes: ChunkSizes | None) -> JsonObject:
    if sizes is None or sizes.chunk_size_tokens is None:
        return {"type": "other"}
    return {
        "type": "static",
        "static": {
            "max_chunk_size_tokens": sizes.chunk_size_tokens,
            "chunk_overlap_tokens": sizes.overlap_size_tokens or 0,
        },
    }


def encode_batch(batch: FileBatch) -> JsonObject:
    counts = encode_counts(batch.counts)
    status = "in_progress" if counts["in_progress"] else "completed"
    if batch.is_cancelled:
        status = "cancelled"
    elif status == "completed" and counts["failed"] and counts["failed"] == counts["total"]:
        status = "failed"
    return {
        "id": batch.batch_id,
        "object": "vector_store.files_batch",
        "created_at": int(batch.created_at.timestamp()),
        "vector_store_id": batch.bank_id,
        "status": status,
        "file_counts": counts,
    }


def encode_content(chunks: Sequence[Chunk]) -> JsonObject:
    """The text of a file as it was taken in, chunk by chunk."""
    return {
        "object": "vector_store.file_content.page",
        "data": [{"type": "text", "text": chunk.content} for chunk in chunks],
        "has_more": False,
        "next_page": None,
    }
