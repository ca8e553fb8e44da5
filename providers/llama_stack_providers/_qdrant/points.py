"""A row as a point, and back."""

import math
from array import array
from typing import Any

from llama_stack.api.chunk_index import BankPlace, FoundChunk
from llama_stack_providers._qdrant.conditions import facet_fields
from llama_stack_providers._vector_database.fields import chunk_of, fields_of
from llama_stack_providers._vector_database.rows import Hit, Row
from llama_stack_providers._vector_database.terms import term_weights


def new_point(bank: BankPlace, row: Row) -> dict[str, Any]:
    """A point that no search sees yet."""
    vectors: dict[str, Any] = {}
    norm = 0.0
    if row.vector is not None:
        vectors["dense"] = row.vector
        norm = math.hypot(*row.vector)
    if bank.keyword:
        weights = term_weights(row.stems)
        vectors["terms"] = {"indices": list(weights), "values": list(weights.values())}
    payload = {**fields_of(row), **facet_fields(row.facets()), "norm": norm, "write": row.write, "shown": False}
    return {"id": row.row_id, "vector": vectors, "payload": payload}


def hit_of(point: dict[str, Any]) -> Hit:
    payload = point["payload"]
    vectors = point.get("vector") or {}
    vector = None
    if "dense" in vectors:
        vector = array("f", [number * payload["norm"] for number in vectors["dense"]]).tobytes()
    found = FoundChunk(chunk=chunk_of(payload), score=float(point.get("score") or 0.0), vector=vector)
    return Hit(point["id"], found)
