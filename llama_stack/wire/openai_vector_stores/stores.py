"""Vector stores: what creates and changes one, and the object that shows it.

A vector store is a memory bank of the kind `vector`. Beside OpenAI's fields, creation takes those that a stack with
several models and providers needs: `embedding_model`, `embedding_dimension`, `provider_id`, `provider_vector_db_id`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import BankRecord, BatchFile, ChunkSizes, DocumentState, Expiry
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.errors import InvalidRequest
from llama_stack.wire.validation import Body, invalid_request

MAX_NAME_CHARACTERS = 256
MAX_STORE_FILES = 500
"""Named at creation; more go in by batches."""

Attributes = dict[str, str | bool | int | float]
BodyT = TypeVar("BodyT", bound=Body)


class StaticSizes(Body):
    max_chunk_size_tokens: int = Field(ge=16, le=4096)
    chunk_overlap_tokens: int = Field(ge=0)


class AutoChunking(Body):
    type: Literal["auto"]


class StaticChunking(Body):
    type: Literal["static"]
    static: StaticSizes


Chunking = Annotated[AutoChunking | StaticChunking, Field(discriminator="type")]


class ExpiresAfter(Body):
    anchor: Literal["last_active_at"]
    days: int = Field(ge=1, le=365)


class CreateStoreBody(Body):
    name: str | None = Field(None, max_length=MAX_NAME_CHARACTERS)
    description: str | None = None
    file_ids: list[str] | None = Field(None, max_length=MAX_STORE_FILES)
    metadata: dict[str, str] | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Chunking | None = None
    embedding_model: str | None = None
    embedding_dimension: int | None = Field(None, ge=1)
    provider_id: str | None = None
    provider_vector_db_id: str | None = None


class UpdateStoreBody(Body):
    name: str | None = Field(None, max_length=MAX_NAME_CHARACTERS)
    metadata: dict[str, str] | None = None
    expires_after: ExpiresAfter | None = None


@dataclass(frozen=True)
class NewStore:
    bank: MemoryBank
    name: str
    metadata: dict[str, str]
    expiry: Expiry | None
    files: list[BatchFile]


@dataclass(frozen=True)
class ChangedStore:
    """None is what stays as it is."""

    name: str | None
    metadata: dict[str, str] | None
    expiry: Expiry | Literal["never"] | None


DESCRIPTION = "openai:description"
"""Kept among the metadata under this name, which no client's key is likely to have, and shown as a field of its own."""


def decode_new_store(body: Any) -> NewStore:
    """Raises InvalidRequest, naming the field."""
    said = _validated(CreateStoreBody, body)
    sizes = sizes_of(said.chunking_strategy)
    bank = MemoryBank(
        identifier="",
        provider_id=said.provider_id or "",
        provider_resource_id=said.provider_vector_db_id or "",
        bank=VectorBank(
            embedding_model=said.embedding_model or "",
            embedding_dimension=said.embedding_dimension,
            chunk_size_tokens=None if sizes is None else sizes.chunk_size_tokens,
            overlap_size_tokens=None if sizes is None else sizes.overlap_size_tokens,
        ),
    )
    metadata = read_metadata(said.metadata)
    if said.description is not None:
        metadata[DESCRIPTION] = said.description
    return NewStore(
        bank=bank,
        name=said.name or "",
        metadata=metadata,
        expiry=None if said.expires_after is None else Expiry(days=said.expires_after.days),
        files=[BatchFile(file_id=file_id) for file_id in dict.fromkeys(said.file_ids or [])],
    )


def decode_changed_store(body: Any) -> ChangedStore:
    said = _validated(UpdateStoreBody, body)
    expiry: Expiry | Literal["never"] | None = None
    if "expires_after" in said.model_fields_set:
        expiry = "never" if said.expires_after is None else Expiry(days=said.expires_after.days)
    return ChangedStore(
        name=said.name,
        metadata=None if said.metadata is None else read_metadata(said.metadata),
        expiry=expiry,
    )


def with_description(metadata: dict[str, str] | None, kept: Mapping[str, str]) -> dict[str, str] | None:
    """New metadata, with the description that stands in those that are kept: no change names it."""
    if metadata is None or DESCRIPTION not in kept:
        return metadata
    return {**metadata, DESCRIPTION: kept[DESCRIPTION]}


def read_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Up to 16 pairs with keys of 64 and values of 512 characters, as OpenAI has it."""
    pairs = dict(metadata or {})
    if len(pairs) > 16:
        raise InvalidRequest(f"metadata: has {len(pairs)} pairs; at most 16 are kept", param="metadata")
    for key, value in pairs.items():
        if len(key) > 64 or len(value) > 512:
            raise InvalidRequest(
                f"metadata.{key[:64]}: keys have up to 64 characters and values up to 512", param=f"metadata.{key[:64]}"
            )
    return pairs


def sizes_of(chunking: AutoChunking | StaticChunking | None) -> ChunkSizes | None:
    """Raises InvalidRequest for an overlap of more than half a chunk."""
    if not isinstance(chunking, StaticChunking):
        return None
    size, overlap = chunking.static.max_chunk_size_tokens, chunking.static.chunk_overlap_tokens
    if overlap > size // 2:
        raise InvalidRequest(
            f"chunking_strategy.static.chunk_overlap_tokens: {overlap} is more than half of a chunk's {size} tokens",
            param="chunking_strategy.static.chunk_overlap_tokens",
        )
    return ChunkSizes(chunk_size_tokens=size, overlap_size_tokens=overlap)


def encode_store(record: BankRecord, now: datetime) -> JsonObject:
    """The object. now: tells whether it has expired."""
    counts = encode_counts(record.documents)
    is_expired = record.expires_at is not None and record.expires_at <= now
    metadata = dict(record.metadata)
    description = metadata.pop(DESCRIPTION, None)
    kind = record.bank.bank
    assert isinstance(kind, VectorBank)
    return {
        "id": record.bank.identifier,
        "object": "vector_store",
        "created_at": int(record.created_at.timestamp()),
        "name": record.name or record.bank.identifier,
        "description": description,
        "usage_bytes": record.size_bytes,
        "file_counts": counts,
        "status": "expired" if is_expired else "in_progress" if counts["in_progress"] else "completed",
        "expires_after": None if record.expiry is None else {"anchor": "last_active_at", "days": record.expiry.days},
        "expires_at": None if record.expires_at is None else int(record.expires_at.timestamp()),
        "last_active_at": int(record.last_active_at.timestamp()),
        "metadata": metadata,
        "embedding_model": kind.embedding_model,
        "embedding_dimension": kind.embedding_dimension,
        "provider_id": record.bank.provider_id,
    }


def encode_counts(counts: Mapping[DocumentState, int]) -> dict[str, int]:
    """Files by OpenAI's states, and all of them."""
    shown = {
        "in_progress": counts.get(DocumentState.PENDING, 0) + counts.get(DocumentState.RUNNING, 0),
        "completed": counts.get(DocumentState.COMPLETED, 0),
        "failed": counts.get(DocumentState.FAILED, 0),
        "cancelled": counts.get(DocumentState.CANCELLED, 0),
    }
    return {**shown, "total": sum(shown.values())}


def encode_page(objects: Sequence[JsonObject], *, has_more: bool) -> JsonObject:
    return {
        "object": "list",
        "data": list(objects),
        "first_id": objects[0]["id"] if objects else None,
        "last_id": objects[-1]["id"] if objects else None,
        "has_more": has_more,
    }


def _validated(model: type[BodyT], body: Any) -> BodyT:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise invalid_request(error, body) from error
