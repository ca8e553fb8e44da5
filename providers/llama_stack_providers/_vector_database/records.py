"""Chunks as the flat fields of a database's record, and back; and what may be written at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors, floats_of
from llama_stack.errors import InvalidRequest
from llama_stack_providers._vector_database.facets import Facets, facets_of

FIELDS = ("chunk_id", "document_id", "position", "content", "language", "details", "metadata")
"""Of every record. details: the rest of the chunk; it and the metadata are JSON, so that every value comes back as it
went in, whatever numbers and keys the database can hold."""

KEY_FIELDS = ("chunk_id", "document_id", "position")
"""What a listing is ordered by."""

_IN_DETAILS = set(Chunk.model_fields) - set(FIELDS)


@dataclass(frozen=True)
class Written:
    """A chunk on its way into a database; vector is None in a bank without vectors."""

    chunk: Chunk
    vector: list[float] | None
    norm: float

    def fields(self) -> dict[str, Any]:
        chunk = self.chunk
        return {
            "chunk_id": chunk.chunk_id,
            "document_id": chunk.document_id,
            "position": chunk.position,
            "content": chunk.content,
            "language": chunk.language,
            "details": orjson.dumps(chunk.model_dump(include=_IN_DETAILS)).decode(),
            "metadata": metadata_text(chunk.metadata),
        }

    def facets(self) -> Facets:
        return chunk_facets(self.chunk.metadata, self.chunk.document_id)


def metadata_text(metadata: JsonObject) -> str:
    import json

    # Not orjson: a whole number may be larger than its 64 bits.
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))


def metadata_of(text: str) -> JsonObject:
    import json

    parsed: JsonObject = json.loads(text)
    return parsed


def chunk_facets(metadata: JsonObject, document_id: str) -> Facets:
    """What filters see: the chunk's metadata with its document."""
    return facets_of({**metadata, "document_id": document_id})


def chunk_of(fields: Mapping[str, Any]) -> Chunk:
    return Chunk(
        chunk_id=fields["chunk_id"],
        document_id=fields["document_id"],
        position=int(fields["position"]),
        content=fields["content"],
        language=fields["language"],
        metadata=metadata_of(fields["metadata"]),
        **orjson.loads(fields["details"]),
    )


def check_bank(bank: BankPlace, max_dimension: int) -> None:
    """Raises InvalidRequest for what none of these backends can make room for."""
    if not 0 <= bank.dimension <= max_dimension:
        raise InvalidRequest(f"a vector's width is 0 to {max_dimension}, not {bank.dimension}", param="dimension")
    if bank.params:
        raise InvalidRequest(f"this provider has no settings for a bank, not {sorted(bank.params)}", param="params")
    if not bank.dimension and not bank.keyword:
        raise InvalidRequest("a bank needs vectors or keywords, or nothing in it can be found", param="dimension")


def written(bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None) -> list[Written]:
    """The chunks with their vectors; of chunks with one id the last.

    Raises InvalidRequest for vectors that do not fit the bank or the chunks.
    """
    _check_shape(bank, chunks, vectors)
    last = {chunk.chunk_id: position for position, chunk in enumerate(chunks)}
    rows: list[Written] = []
    for position, chunk in enumerate(chunks):
        if last[chunk.chunk_id] != position:
            continue
        row = vectors.row(position) if vectors is not None else None
        norm = math.hypot(*row) if row is not None else 0.0
        if not math.isfinite(norm):
            raise InvalidRequest(
                f"the vector of chunk {chunk.chunk_id!r} holds a number that is not finite", param="vectors"
            )
        rows.append(Written(chunk, row, norm))
    return rows


def _check_shape(bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None) -> None:
    if bank.dimension == 0:
        if vectors is not None and len(vectors):
            raise InvalidRequest("the bank keeps no vectors (its dimension is 0); write without them", param="vectors")
        return
    if vectors is None:
        if chunks:
            raise InvalidRequest(f"the bank needs a vector of {bank.dimension} numbers for each chunk", param="vectors")
        return
    if vectors.dimension != bank.dimension:
        raise InvalidRequest(
            f"the vectors have {vectors.dimension} numbers and the bank's have {bank.dimension}; embed with the bank's"
            " model",
            param="vectors",
        )
    if len(vectors) != len(chunks):
        raise InvalidRequest(f"{len(chunks)} chunks came with {len(vectors)} vectors", param="vectors")


def query_vector(bank: BankPlace, vector: bytes) -> list[float]:
    """Raises InvalidRequest for a vector that cannot be compared with the bank's."""
    if bank.dimension == 0:
        raise InvalidRequest("the bank keeps no vectors; search it by keyword", param="mode")
    if len(vector) != 4 * bank.dimension:
        raise InvalidRequest(
            f"the query's vector has {len(vector) // 4} numbers and the bank's have {bank.dimension}", param="vector"
        )
    numbers = floats_of(vector)
    norm = math.hypot(*numbers)
    if not math.isfinite(norm) or norm == 0:
        raise InvalidRequest("the query's vector must be finite and not all zero", param="vector")
    return numbers
