"""A row as Milvus keeps it, and back; and the schema of a bank's collection."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llama_stack.api.chunk_index import BankPlace, FoundChunk
from llama_stack.errors import InvalidRequest
from llama_stack_providers._milvus.conditions import MAX_FACETS, facet_fields, key_of
from llama_stack_providers._vector_database.fields import FIELDS, chunk_of, fields_of
from llama_stack_providers._vector_database.rows import Hit, Row
from llama_stack_providers._vector_database.terms import term_number

if TYPE_CHECKING:
    from pymilvus import CollectionSchema

TEXTS = ("content", "details", "metadata")
"""Fields of any length: a text field ends at 65,535 bytes, so these are arrays of pieces."""
PIECE_CHARACTERS = 16_000
MAX_PIECES = 4096
MAX_WORDS_BYTES = 65_535
MAX_ID_BYTES = 2048
DIGEST_CHARACTERS = 32

KEYED = ("chunk_id", "document_id", "language")
"""Fields of which a digest stands beside the text, for conditions."""
OUTPUT = ["id", *FIELDS]


def has_words(bank: BankPlace) -> bool:
    """Also where nothing asks for them: Milvus wants a vector in every row, dense or of words."""
    return bank.keyword or not bank.dimension


def pieces(text: str, field: str) -> list[str]:
    """Raises InvalidRequest for a text that is too long for a row."""
    cut = [text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS)]
    if len(cut) > MAX_PIECES:
        raise InvalidRequest(f"a chunk's {field} may have {PIECE_CHARACTERS * MAX_PIECES} characters", param=field)
    return cut


def joined(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the pieces of its texts put together."""
    return {name: "".join(value) if name in TEXTS else value for name, value in row.items()}


def new_row(bank: BankPlace, row: Row) -> dict[str, Any]:
    """A row that no search sees yet."""
    fields = fields_of(row)
    made = {
        "id": row.row_id,
        **{name: pieces(value, name) if name in TEXTS else value for name, value in fields.items()},
        **{f"{name}_key": key_of(name, fields[name]) for name in KEYED},
        **facet_fields(row.facets()),
        "shown": False,
    }
    if row.vector is not None:
        made["dense"] = row.vector
    if has_words(bank):
        made["words"] = words(row.stems)
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


def hit_of(row: Mapping[str, Any], score: float = 0.0) -> Hit:
    vector = row.get("dense")
    found = FoundChunk(
        chunk=chunk_of(joined(row)), score=score, vector=None if vector is None else array("f", vector).tobytes()
    )
    return Hit(row["id"], found)


def schema_of(bank: BankPlace) -> "CollectionSchema":
    from pymilvus import CollectionSchema, DataType, FieldSchema, Function, FunctionType

    def text(name: str, length: int, **more: Any) -> FieldSchema:
        return FieldSchema(name, DataType.VARCHAR, max_length=length, **more)

    def texts(name: str, length: int, count: int) -> FieldSchema:
        return FieldSchema(name, DataType.ARRAY, element_type=DataType.VARCHAR, max_length=length, max_capacity=count)

    fields = [
        text("id", DIGEST_CHARACTERS + 4, is_primary=True),
        *(text(name, MAX_ID_BYTES) for name in KEYED),
        *(text(f"{name}_key", DIGEST_CHARACTERS) for name in KEYED),
        FieldSchema("position", DataType.INT64),
        *(texts(name, MAX_WORDS_BYTES, MAX_PIECES) for name in TEXTS),
        texts("facets", DIGEST_CHARACTERS, MAX_FACETS),
        FieldSchema("numbers", DataType.JSON),
        FieldSchema("shown", DataType.BOOL),
    ]
    functions = []
    if bank.dimension:
        fields.append(FieldSchema("dense", DataType.FLOAT_VECTOR, dim=bank.dimension))
    if has_words(bank):
        fields += [
            text("words", MAX_WORDS_BYTES, enable_analyzer=True),
            FieldSchema("bm25", DataType.SPARSE_FLOAT_VECTOR),
        ]
        functions.append(Function("bm25", FunctionType.BM25, input_field_names=["words"], output_field_names=["bm25"]))
    return CollectionSchema(fields, functions=functions, enable_dynamic_field=False)
