"""A chunk as a row, and back; the schema of a bank's collection; and the language of conditions.

Conditions are boolean expressions (Milvus documentation, "Filtering Explained"). Whatever text a condition compares
stands in its row as a digest of 24 hexadecimal digits too, so that nothing of a caller's ever gets into an expression.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from llama_stack.api.chunk_index import BankPlace, FoundChunk
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.errors import InvalidRequest
from llama_stack_providers._vector_database.conditions import Order
from llama_stack_providers._vector_database.facets import Facets, token_of
from llama_stack_providers._vector_database.records import Written, chunk_of, written
from llama_stack_providers._vector_database.terms import chunk_stems, term_number

if TYPE_CHECKING:
    from pymilvus import CollectionSchema

TEXTS = ("content", "details", "metadata")
"""Fields of any length: a text field ends at 65,535 bytes, so these are arrays of pieces."""
PIECE_CHARACTERS = 16_000
MAX_PIECES = 4096
MAX_FACETS = 4096
MAX_WORDS_BYTES = 65_535
MAX_ID_BYTES = 2048
DIGEST_CHARACTERS = 32

OUTPUT = ["id", "chunk_id", "document_id", "position", "language", *TEXTS]
SHOWN = "shown == true"
_ORDERS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_PLAIN = re.compile("[0-9a-z-]+")


class MilvusDialect:
    def all_of(self, parts: list[str]) -> str:
        return " and ".join(f"({part})" for part in parts)

    def any_of(self, parts: list[str]) -> str:
        return " or ".join(f"({part})" for part in parts)

    def has_any(self, tokens: list[str]) -> str:
        return f"array_contains_any(facets, {quoted(tokens)})"

    def has_none(self, tokens: list[str]) -> str:
        return f"not array_contains_any(facets, {quoted(tokens)})"

    def number(self, name: str, order: Order, value: float) -> str:
        return f'numbers["{name}"] {_ORDERS[order]} {value!r}'


def quoted(digests: Iterable[str]) -> str:
    """A list of digests or record ids in an expression; anything else would be a way into it."""
    listed = list(digests)
    assert all(_PLAIN.fullmatch(one) for one in listed)
    return "[" + ", ".join(f'"{one}"' for one in listed) + "]"


def key_of(field: str, text: str) -> str:
    """What stands in `<field>_key` for a text."""
    return token_of(field, text)


def is_one_of(field: str, texts: Iterable[str]) -> str:
    return f"{field}_key in {quoted(key_of(field, text) for text in texts)}"


def facet_fields(facets: Facets) -> dict[str, Any]:
    """Raises InvalidRequest for metadata with more keys than an array may have elements."""
    if len(facets.tokens) > MAX_FACETS:
        raise InvalidRequest(f"Milvus can filter by {MAX_FACETS - 1} keys of a chunk's metadata", param="metadata")
    return {"facets": facets.tokens, "numbers": facets.numbers}


def pieces(text: str, field: str) -> list[str]:
    """Raises InvalidRequest for a text that is too long for a row."""
    cut = [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)]
    if len(cut) > MAX_PIECES:
        raise InvalidRequest(f"a chunk's {field} may have {PIECE_CHARACTERS * MAX_PIECES} characters", param=field)
    return cut


def new_rows(write: UUID, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None) -> list[dict[str, Any]]:
    """Rows that no search sees yet. Raises InvalidRequest for vectors that do not fit."""
    return [_new_row(write, bank, row) for row in written(bank, chunks, vectors)]


def _new_row(write: UUID, bank: BankPlace, row: Written) -> dict[str, Any]:
    fields = row.fields()
    made = {
        # Not the chunk's id alone: the row that it replaces stays until this one is shown.
        "id": str(uuid5(write, row.chunk.chunk_id)),
        **{name: fields[name] for name in ("chunk_id", "document_id", "position", "language")},
        **{f"{name}_key": key_of(name, fields[name]) for name in ("chunk_id", "document_id", "language")},
        **{name: pieces(fields[name], name) for name in TEXTS},
        **facet_fields(row.facets()),
        "shown": False,
    }
    if row.vector is not None:
        made["dense"] = row.vector
    if bank.keyword:
        made["words"] = words(chunk_stems(row.chunk))
    return made


def words(stems: Iterable[str]) -> str:
    """Stems as a text whose words every tokenizer takes as they are; the most frequent ones where it gets too long."""
    counts = Counter(f"t{term_number(stem):08x}" for stem in stems)
    listed: list[str] = []
    room = MAX_WORDS_BYTES
    for word, count in counts.most_common():
        fitting = min(count, room // (len(word) + 1))
        listed += [word] * fitting
        room -= fitting * (len(word) + 1)
    return " ".join(listed)


def found_chunk(row: Mapping[str, Any], score: float = 0.0) -> FoundChunk:
    texts = {name: "".join(row[name]) for name in TEXTS}
    chunk = chunk_of({**{name: row[name] for name in ("chunk_id", "document_id", "position", "language")}, **texts})
    vector = row.get("dense")
    return FoundChunk(chunk=chunk, score=score, vector=None if vector is None else array("f", vector).tobytes())


def schema_of(bank: BankPlace) -> "CollectionSchema":
    from pymilvus import CollectionSchema, DataType, FieldSchema, Function, FunctionType

    def text(name: str, length: int, **more: Any) -> FieldSchema:
        return FieldSchema(name, DataType.VARCHAR, max_length=length, **more)

    def texts(name: str, length: int, count: int) -> FieldSchema:
        return FieldSchema(name, DataType.ARRAY, element_type=DataType.VARCHAR, max_length=length, max_capacity=count)

    fields = [
        text("id", DIGEST_CHARACTERS + 4, is_primary=True),
        *(text(name, MAX_ID_BYTES) for name in ("chunk_id", "document_id", "language")),
        *(text(f"{name}_key", DIGEST_CHARACTERS) for name in ("chunk_id", "document_id", "language")),
        FieldSchema("position", DataType.INT64),
        *(texts(name, MAX_WORDS_BYTES, MAX_PIECES) for name in TEXTS),
        texts("facets", DIGEST_CHARACTERS, MAX_FACETS),
        FieldSchema("numbers", DataType.JSON),
        FieldSchema("shown", DataType.BOOL),
    ]
    functions = []
    if bank.dimension:
        fields.append(FieldSchema("dense", DataType.FLOAT_VECTOR, dim=bank.dimension))
    if bank.keyword:
        fields += [
            text("words", MAX_WORDS_BYTES, enable_analyzer=True),
            FieldSchema("bm25", DataType.SPARSE_FLOAT_VECTOR),
        ]
        functions.append(Function("bm25", FunctionType.BM25, input_field_names=["words"], output_field_names=["bm25"]))
    return CollectionSchema(fields, functions=functions, enable_dynamic_field=False)
