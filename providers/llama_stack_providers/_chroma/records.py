"""A chunk as a record, and back; and the language of conditions (Chroma documentation, "Metadata filtering").

Metadata of a record: the fields of `records` but the content; `facets`, an array of tokens; a number for each facet
that has an order; and `shown`, false until the write that the record belongs to is whole. The document is the content
and after it the number of its words and the stems with how often they stand there: Chroma indexes documents for
`$contains`, so that a stem between its marks is found exactly.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid5

from llama_stack.api.chunk_index import BankPlace, FoundChunk
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack_providers._vector_database.conditions import Order
from llama_stack_providers._vector_database.facets import Facets
from llama_stack_providers._vector_database.records import FIELDS, Written, chunk_of, written
from llama_stack_providers._vector_database.terms import chunk_stems

Condition = dict[str, Any]

NO_VECTOR = [1.0]
"""Chroma wants a vector of every record; a bank without vectors gets these."""
TAIL = "\n\u241d"
STEM = "\u241f"
COUNT = "\u241e"
"""Marks that no stem holds, because stems are letters and digits."""


class ChromaDialect:
    def all_of(self, parts: list[Condition]) -> Condition:
        return {"$and": parts} if len(parts) > 1 else parts[0]

    def any_of(self, parts: list[Condition]) -> Condition:
        return {"$or": parts} if len(parts) > 1 else parts[0]

    def has_any(self, tokens: list[str]) -> Condition:
        return self.any_of([{"facets": {"$contains": token}} for token in tokens])

    def has_none(self, tokens: list[str]) -> Condition:
        return self.all_of([{"facets": {"$not_contains": token}} for token in tokens])

    def number(self, name: str, order: Order, value: float) -> Condition:
        return {name: {f"${order}": value}}


def facet_fields(facets: Facets) -> dict[str, Any]:
    return {"facets": facets.tokens, **facets.numbers}


def is_facet_field(name: str) -> bool:
    """Whether a field of the metadata goes when other facets come: a letter, perhaps a level, then the digest."""
    return len(name) > 24 and name not in FIELDS


def new_records(write: UUID, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None) -> list[dict[str, Any]]:
    """Records that no search sees yet, each with id, embedding, metadata and document.

    Raises InvalidRequest for vectors that do not fit.
    """
    return [_new_record(write, bank, row) for row in written(bank, chunks, vectors)]


def _new_record(write: UUID, bank: BankPlace, row: Written) -> dict[str, Any]:
    metadata = {**row.fields(), **facet_fields(row.facets()), "shown": False}
    content = metadata.pop("content")
    stems = Counter(chunk_stems(row.chunk)) if bank.keyword else Counter[str]()
    tail = "".join(f"{stem}{COUNT}{count}{STEM}" for stem, count in stems.items())
    return {
        # Not the chunk's id alone: the record that it replaces stays until this one is shown.
        "id": str(uuid5(write, row.chunk.chunk_id)),
        "embedding": row.vector if row.vector is not None else NO_VECTOR,
        "metadata": metadata,
        "document": f"{content}{TAIL}{stems.total()}{STEM}{tail}",
    }


def columns(records: list[dict[str, Any]]) -> dict[str, Any]:
    """As `add` takes them."""
    return {
        "ids": [record["id"] for record in records],
        "embeddings": [record["embedding"] for record in records],
        "metadatas": [record["metadata"] for record in records],
        "documents": [record["document"] for record in records],
    }


def holds_any(stems: list[str]) -> Condition:
    """The condition on documents that hold at least one of the stems."""
    parts = [{"$contains": f"{STEM}{stem}{COUNT}"} for stem in stems]
    return {"$or": parts} if len(parts) > 1 else parts[0]


def stem_counts(document: str, stems: list[str]) -> tuple[int, dict[int, int]]:
    """How many words the document has, and how often it holds which of the stems, by their place in the list."""
    tail = document.rpartition(TAIL)[2]
    counts: dict[int, int] = {}
    for number, stem in enumerate(stems):
        _, found, after = tail.partition(f"{STEM}{stem}{COUNT}")
        if found:
            counts[number] = int(after.partition(STEM)[0])
    return int(tail.partition(STEM)[0]), counts


def found_chunk(
    metadata: Mapping[str, Any], document: str, score: float, embedding: Iterable[float] | None = None
) -> FoundChunk | None:
    """None for a record that may not be seen."""
    if not metadata.get("shown"):
        return None
    chunk = chunk_of({**metadata, "content": document.rpartition(TAIL)[0]})
    vector = None if embedding is None else array("f", embedding).tobytes()
    return FoundChunk(chunk=chunk, score=score, vector=vector)
