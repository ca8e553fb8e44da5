"""A row as flat fields, for databases that keep those, and back.

`details` is the rest of the chunk; it and the metadata are JSON, so that every value comes back as it went in, whatever
numbers and keys the database can hold.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound, matches
from llama_stack.api.memory import Chunk
from llama_stack_providers._vector_database.facets import DOCUMENT_ID
from llama_stack_providers._vector_database.listing import PlacedRow
from llama_stack_providers._vector_database.rows import Place, Row

FIELDS = ("chunk_id", "document_id", "position", "content", "language", "details", "metadata")
_IN_DETAILS = set(Chunk.model_fields) - set(FIELDS)


def fields_of(row: Row) -> dict[str, Any]:
    """By the names in FIELDS."""
    chunk = row.chunk
    return {
        "chunk_id": chunk.chunk_id,
        "document_id": chunk.document_id,
        "position": chunk.position,
        "content": chunk.content,
        "language": chunk.language,
        "details": orjson.dumps(chunk.model_dump(include=_IN_DETAILS)).decode(),
        "metadata": metadata_text(chunk.metadata),
    }


def metadata_text(metadata: JsonObject) -> str:
    # Not orjson: a whole number may be larger than its 64 bits.
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))


def chunk_of(fields: Mapping[str, Any]) -> Chunk:
    return Chunk(
        chunk_id=fields["chunk_id"],
        document_id=fields["document_id"],
        position=int(fields["position"]),
        content=fields["content"],
        language=fields["language"],
        metadata=json.loads(fields["metadata"]),
        **orjson.loads(fields["details"]),
    )


def fields_of_places(where: Comparison | Compound | None) -> list[str]:
    """What `placed_rows` reads."""
    return ["chunk_id", "document_id", "position", *(["metadata"] if where is not None else [])]


def placed_rows(rows: Iterable[tuple[str, Mapping[str, Any]]], where: Comparison | Compound | None) -> list[PlacedRow]:
    """Without those that the filter does not select, although their facets look like it. rows: ids and fields."""
    return [
        (Place(fields["document_id"], int(fields["position"]), fields["chunk_id"]), row_id)
        for row_id, fields in rows
        if where is None or matches(where, {**json.loads(fields["metadata"]), DOCUMENT_ID: fields["document_id"]})
    ]
