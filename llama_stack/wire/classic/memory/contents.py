"""What goes into memory banks and comes out of them, in the memory API of 2024 (`memory` of `llama-stack-client`
0.0.63) with what every kind of bank has learned since.
"""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from llama_stack.api.common import JsonObject, Page
from llama_stack.api.filters import GivenFilter
from llama_stack.api.memory import BankStats, Chunk, Document, DocumentState, DocumentStatus, Facts, MemoryQuery
from llama_stack.errors import InvalidRequest
from llama_stack.wire.classic.body import ClassicBody, parse_body
from llama_stack.wire.classic.memory.documents import (
    MAX_DOCUMENTS,
    QueryBody,
    RagDocumentBody,
    decode_documents,
    decode_query,
    refuse_expiring,
)
from llama_stack.wire.classic.memory.rag import MAX_BANKS

MAX_DOCUMENTS_READ = 100
"""In one request; each comes with all its chunks."""


class InsertDocumentsBody(ClassicBody):
    """Body of POST /v1/memory/insert."""

    bank_id: str = Field(min_length=1)
    documents: list[RagDocumentBody] = Field(min_length=1, max_length=MAX_DOCUMENTS)
    ttl_seconds: int | None = None


def decode_insert(body: object) -> tuple[str, list[Document]]:
    """The bank's id and the documents. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(InsertDocumentsBody, body)
    refuse_expiring(parsed.ttl_seconds)
    return parsed.bank_id, decode_documents(parsed.documents)


def _without_nulls(params: Any) -> Any:
    return {key: value for key, value in params.items() if value is not None} if isinstance(params, dict) else params


class QueryMemoryBody(ClassicBody):
    """Body of POST /v1/memory/query. bank_id or bank_ids. query: may be left out where `params` name keys or entities,
    or have filters alone.

    params: everything else that a query can say.
    """

    bank_id: str | None = None
    bank_ids: list[str] | None = Field(None, min_length=1, max_length=MAX_BANKS)
    query: QueryBody | None = None
    params: Annotated[MemoryQuery, BeforeValidator(_without_nulls)] | None = None


def decode_memory_query(body: object) -> tuple[list[str], MemoryQuery]:
    """The banks' ids and what is looked for. Raises InvalidRequest naming the wrong field."""
    parsed = parse_body(QueryMemoryBody, body)
    if (not parsed.bank_id) == (parsed.bank_ids is None):
        raise InvalidRequest("bank_id: name the bank, or several of them in bank_ids", param="bank_id")
    params = parsed.params or MemoryQuery()
    if params.query is not None:
        raise InvalidRequest("params.query: stands beside params, not in them", param="params.query")
    question = None if parsed.query is None else decode_query(parsed.query)
    return parsed.bank_ids or [parsed.bank_id or ""], params.model_copy(update={"query": question})


def encode_found(chunks: Sequence[Chunk]) -> JsonObject:
    """Two lists side by side, best first."""
    return {"chunks": [chunk.model_dump() for chunk in chunks], "scores": [chunk.score for chunk in chunks]}


class ReadDocumentsBody(ClassicBody):
    """Body of POST /v1/memory/documents/get."""

    bank_id: str = Field(min_length=1)
    document_ids: list[str] = Field(min_length=1, max_length=MAX_DOCUMENTS_READ)


def decode_reading(body: object) -> tuple[str, list[str]]:
    parsed = parse_body(ReadDocumentsBody, body)
    return parsed.bank_id, parsed.document_ids


class DeleteDocumentsBody(ClassicBody):
    """Body of POST /v1/memory/documents/delete. document_ids, or filters for all whose metadata fulfil them."""

    bank_id: str = Field(min_length=1)
    document_ids: list[str] | None = Field(None, min_length=1, max_length=MAX_DOCUMENTS)
    filters: GivenFilter = None


def decode_deletion(body: object) -> DeleteDocumentsBody:
    parsed = parse_body(DeleteDocumentsBody, body)
    if (parsed.document_ids is None) == (parsed.filters is None):
        raise InvalidRequest("document_ids: name the documents, or select them with filters", param="document_ids")
    return parsed


class ListDocumentsBody(ClassicBody):
    """Body of POST /v1/memory/documents/list, and the query of GET /v1/memory/documents. after: a document id."""

    bank_id: str = Field(min_length=1)
    limit: int | None = Field(None, ge=1, le=1000)
    after: str | None = None
    state: DocumentState | None = Field(None, strict=False)


class InsertFactsBody(ClassicBody):
    """Body of POST /v1/memory/facts."""

    bank_id: str = Field(min_length=1)
    facts: list[Facts] = Field(min_length=1, max_length=MAX_DOCUMENTS)


def decode_facts(body: object) -> tuple[str, list[Facts]]:
    parsed = parse_body(InsertFactsBody, body)
    return parsed.bank_id, parsed.facts


def encode_status(status: DocumentStatus) -> JsonObject:
    return status.model_dump(mode="json")


def encode_statuses(page: Page[DocumentStatus]) -> JsonObject:
    return {"data": [encode_status(status) for status in page.entries], "next_after": page.next_after}


def encode_document(status: DocumentStatus, chunks: Sequence[Chunk]) -> JsonObject:
    return {"document": encode_status(status), "chunks": [chunk.model_dump(exclude={"score"}) for chunk in chunks]}


def encode_stats(stats: BankStats) -> JsonObject:
    return stats.model_dump(mode="json")
