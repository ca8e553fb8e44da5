"""Chunks made into the rows that a store keeps."""

import time
from secrets import token_hex

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors
from llama_stack.text.words import stems
from llama_stack_providers.remote._memory.checks import last_of_each_id
from llama_stack_providers.remote._memory.store import Row


def rows_of(bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None) -> dict[str, list[Row]]:
    """The rows of one write, by document. For a thread: finding stems is work."""
    now = int(time.time())
    writes: dict[str, str] = {}
    rows: dict[str, list[Row]] = {}
    for position in last_of_each_id(chunks):
        chunk = chunks[position]
        write = writes.setdefault(chunk.document_id, token_hex(8))
        vector = vectors.row_bytes(position) if vectors is not None and bank.dimension else None
        rows.setdefault(chunk.document_id, []).append(row_of(bank, chunk, write, now, vector))
    return rows


def row_of(bank: BankPlace, chunk: Chunk, write: str, now: int, vector: bytes | None) -> Row:
    words = " ".join(stems(chunk.indexed_text, chunk.language)) if bank.keyword else ""
    return Row(chunk, write, now, vector, words)
