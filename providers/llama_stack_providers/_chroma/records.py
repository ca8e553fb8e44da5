"""A row as a record, and back.

Metadata of a record: the flat fields of a row but the content; the facets; and `shown`, false until the write that the
record belongs to is whole. The document is the content and after it the number of its words and the stems with how
often they stand there: Chroma indexes documents for `$contains`, so that a stem between its marks is found exactly.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from llama_stack.api.chunk_index import FoundChunk
from llama_stack_providers._chroma.conditions import COUNT, STEM, facet_fields
from llama_stack_providers._vector_database.fields import chunk_of, fields_of
from llama_stack_providers._vector_database.rows import Hit, Row

NO_VECTOR = [1.0]
"""Chroma wants a vector of every record; a bank without vectors gets these."""
TAIL = "\n\u241d"
"""Where the content ends; no stem holds it."""


def columns(rows: list[Row]) -> dict[str, Any]:
    """Records that no search sees yet, as `add` takes them."""
    return {
        "ids": [row.row_id for row in rows],
        "embeddings": [row.vector if row.vector is not None else NO_VECTOR for row in rows],
        "metadatas": [_metadata_of(row) for row in rows],
        "documents": [_document_of(row) for row in rows],
    }


def _metadata_of(row: Row) -> dict[str, Any]:
    fields = {**fields_of(row), **facet_fields(row.facets()), "shown": False}
    del fields["content"]
    return fields


def _document_of(row: Row) -> str:
    counts = Counter(row.stems)
    tail = "".join(f"{stem}{COUNT}{count}{STEM}" for stem, count in counts.items())
    return f"{row.chunk.content}{TAIL}{counts.total()}{STEM}{tail}"


def stem_counts(document: str, stems: list[str]) -> tuple[int, dict[int, int]]:
    """How many words the document has, and how often it holds which of the stems, by their place in the list."""
    tail = document.rpartition(TAIL)[2]
    counts: dict[int, int] = {}
    for number, stem in enumerate(stems):
        _, found, after = tail.partition(f"{STEM}{stem}{COUNT}")
        if found:
            counts[number] = int(after.partition(STEM)[0])
    return int(tail.partition(STEM)[0]), counts


def hit_of(
    row_id: str, metadata: Mapping[str, Any], document: str, score: float, embedding: Iterable[float] | None
) -> Hit:
    chunk = chunk_of({**metadata, "content": document.rpartition(TAIL)[0]})
    vector = None if embedding is None else array("f", embedding).tobytes()
    return Hit(row_id, FoundChunk(chunk=chunk, score=score, vector=vector))
