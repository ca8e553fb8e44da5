"""A chunk as a point, and back."""

from array import array
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid5

from llama_stack.api.chunk_index import BankPlace, FoundChunk
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack_providers._qdrant.conditions import facet_fields
from llama_stack_providers._vector_database.listing import Place
from llama_stack_providers._vector_database.ranking import selected_metadata
from llama_stack_providers._vector_database.records import Written, chunk_of, metadata_of, written
from llama_stack_providers._vector_database.terms import chunk_stems, term_weights

ROWS_PER_REQUEST = 256
SIZE_PER_REQUEST = 8_000_000
"""Bytes, roughly: far below what a server takes at once (32 MB unless told otherwise)."""
_NUMBER_BYTES = 20


def new_points(write: UUID, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None) -> list[dict[str, Any]]:
    """Points that no search sees yet. Raises InvalidRequest for vectors that do not fit."""
    return [_new_point(write, bank, row) for row in written(bank, chunks, vectors)]


def slices(points: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The points in requests of a size that every server takes."""
    some: list[dict[str, Any]] = []
    size = 0
    for point in points:
        # A character may take twelve bytes of JSON.
        own = len(point["vector"].get("dense", ())) * _NUMBER_BYTES + len(point["payload"]["content"]) * 12
        if some and (len(some) >= ROWS_PER_REQUEST or size + own > SIZE_PER_REQUEST):
            yield some
            some, size = [], 0
        some.append(point)
        size += own
    if some:
        yield some


def _new_point(write: UUID, bank: BankPlace, row: Written) -> dict[str, Any]:
    vectors: dict[str, Any] = {}
    if row.vector is not None:
        vectors["dense"] = row.vector
    if bank.keyword:
        weights = term_weights(chunk_stems(row.chunk))
        vectors["terms"] = {"indices": list(weights), "values": list(weights.values())}
    payload = {**row.fields(), **facet_fields(row.facets()), "norm": row.norm, "write": str(write), "shown": False}
    # Not the chunk's id alone: the point that it replaces stays until this one is shown.
    return {"id": str(uuid5(write, row.chunk.chunk_id)), "vector": vectors, "payload": payload}


def found_chunk(point: dict[str, Any]) -> FoundChunk:
    payload = point["payload"]
    vectors = point.get("vector") or {}
    vector = None
    if "dense" in vectors:
        vector = array("f", [number * payload["norm"] for number in vectors["dense"]]).tobytes()
    return FoundChunk(chunk=chunk_of(payload), score=float(point.get("score") or 0.0), vector=vector)


def place_of(point: dict[str, Any], where: Comparison | Compound | None) -> Place | None:
    """None for a point that the filter does not select."""
    payload = point["payload"]
    document_id = payload["document_id"]
    if where is not None and not selected_metadata(where, metadata_of(payload["metadata"]), document_id):
        return None
    return Place(document_id, int(payload["position"]), payload["chunk_id"], point["id"])
