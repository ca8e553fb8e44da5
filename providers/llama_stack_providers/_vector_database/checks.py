"""What every memory backend refuses before it asks anybody."""

import math

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import FLOAT_BYTES, Vectors, floats_of
from llama_stack.errors import InvalidRequest


def check_dimension(bank: BankPlace, most: int, who: str) -> None:
    if not 0 <= bank.dimension <= most:
        raise InvalidRequest(
            f"{who} keeps vectors of up to {most} numbers, not {bank.dimension}: take an embedding model of fewer"
            " dimensions, or another provider",
            param="dimension",
        )


def check_vectors(bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None) -> None:
    """One vector of the bank's width for each chunk; none where the bank keeps none."""
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
    """The numbers of a vector that is to be searched for."""
    if bank.dimension == 0:
        raise InvalidRequest("the bank keeps no vectors; search it by keyword", param="mode")
    if len(vector) != FLOAT_BYTES * bank.dimension:
        raise InvalidRequest(
            f"the query's vector has {len(vector) // FLOAT_BYTES} numbers and the bank's have {bank.dimension}",
            param="vector",
        )
    numbers = floats_of(vector)
    length = math.hypot(*numbers)
    if not math.isfinite(length) or length == 0:
        raise InvalidRequest("the query's vector must be finite and not all zero", param="vector")
    return numbers


def check_keyword(bank: BankPlace) -> None:
    if not bank.keyword:
        raise InvalidRequest("this bank keeps no words: search it by vector, or make it with keyword", param="mode")


def missing_after(chunk_id: str) -> InvalidRequest:
    return InvalidRequest(f"there is no chunk {chunk_id!r} to list after", param="after")
