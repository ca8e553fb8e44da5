"""The table of a bank: its columns, its indexes, its rows.

What a bank was made with stands as JSON in the table's comment, so it comes and goes with the table. Where a value
lies matters more than anything else for speed: vectors and words stay in the row, the text is what moves out of it.
"""

import json
import sys
from decimal import Decimal
from typing import Any

from llama_stack.api.chunk_index import BankPlace, FoundChunk
from llama_stack.api.memory import Chunk
from llama_stack.errors import InvalidRequest
from llama_stack_providers._vector_database.bank_settings import check_record, record_of
from llama_stack_providers.remote._pgvector.settings import FORMAT, BankSettings

MAX_INLINE_DIMENSION = 1_536
"""A row lies in one page of 8 kB; wider vectors are kept beside it."""

COLUMNS = """
    chunk_id text collate "C" primary key,
    document_id text collate "C" not null,
    document_name text not null,
    position bigint not null,
    start_character bigint not null,
    end_character bigint not null,
    page bigint,
    headings text[] not null,
    token_count bigint not null,
    language text collate "C" not null,
    content text not null,
    metadata jsonb not null
"""
KEYWORD_COLUMNS = """,
    word_count integer not null,
    words bigint[] not null,
    word_counts bytea not null
"""
CHUNK_COLUMNS = (
    "chunk_id", "document_id", "document_name", "position", "start_character", "end_character", "page", "headings",
    "token_count", "language", "content", "metadata",
)  # fmt: skip
WORD_COLUMNS = ("word_count", "words", "word_counts")
"""How many words the chunk has; digests of its different words; how often each of these occurs, a byte, at most 255."""


def name_of(bank: BankPlace) -> str:
    """The longest name of an index, this and `_document`, has the 63 bytes that PostgreSQL allows."""
    return f"bank_{bank.key}"


def creation(table: str, name: str, bank: BankPlace, settings: BankSettings) -> str:
    """The statements that make the table. table: with its schema, quoted; name: without."""
    record = json.dumps({**record_of(bank, FORMAT), "index": settings.model_dump()})
    columns = COLUMNS + (KEYWORD_COLUMNS if bank.keyword else "")
    if bank.dimension:
        columns += f", embedding vector({bank.dimension}) not null"
    statements = [
        f"create table {table} ({columns})",
        f'create index "{name}_document" on {table} (document_id, position, chunk_id)',
        f'create index "{name}_metadata" on {table} using gin (metadata jsonb_path_ops)',
        f"alter table {table} alter column metadata set storage main",
        f"comment on table {table} is {_literal(record)}",
    ]
    if bank.keyword:
        statements += [
            f'create index "{name}_words" on {table} using gin (words)',
            f"alter table {table} alter column words set storage main",
            f"alter table {table} alter column word_counts set storage main",
        ]
    if 0 < bank.dimension <= MAX_INLINE_DIMENSION:
        statements.append(f"alter table {table} alter column embedding set storage plain")
    if bank.dimension and settings.index == "hnsw":
        statements.append(
            f'create index "{name}_vectors" on {table} using hnsw (embedding vector_cosine_ops)'
            f" with (m = {settings.m}, ef_construction = {settings.ef_construction})"
        )
    return ";\n".join(statements)


def check_comment(comment: str | None, name: str, bank: BankPlace) -> None:
    """Holds a table that is there already against the bank that is asked for."""
    try:
        record = json.loads(comment or "")
    except ValueError:
        record = None
    check_record(record, FORMAT, f"the table {name}", bank)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def chunk_row(chunk: Chunk) -> tuple[Any, ...]:
    """The chunk's values in the order of CHUNK_COLUMNS. Raises InvalidRequest for what no JSON can say."""
    try:
        metadata = json.dumps(chunk.metadata, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"the metadata of {chunk.chunk_id!r} is no JSON: {error}", param="metadata") from error
    return (
        chunk.chunk_id, chunk.document_id, chunk.document_name, chunk.position, chunk.start, chunk.end, chunk.page,
        chunk.headings, chunk.token_count, chunk.language, chunk.content, metadata,
    )  # fmt: skip


def found_chunk(row: Any, *, with_vectors: bool) -> FoundChunk:
    score = float(row["score"])
    # A vector of zeros has no direction; PostgreSQL sorts its distance, which is no number, behind all others.
    score = score if score == score else -1.0
    chunk = Chunk.model_construct(
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        content=row["content"],
        document_name=row["document_name"],
        position=row["position"],
        start=row["start_character"],
        end=row["end_character"],
        page=row["page"],
        headings=row["headings"],
        token_count=row["token_count"],
        language=row["language"],
        metadata=json.loads(row["metadata"], parse_int=_number),
    )
    return FoundChunk(chunk=chunk, score=score, vector=row["embedding"] if with_vectors else None)


def _number(digits: str) -> int | float:
    """jsonb writes out all digits of a large number, so that 1e22 looks like an integer of more than 64 bits."""
    number = int(digits)
    if number.bit_length() < 64 or abs(number) > sys.float_info.max:
        return number
    return float(number) if Decimal(repr(float(number))) == number else number
