"""What every memory backend refuses before it asks anybody."""

from llama_stack.api.chunk_index import BankPlace
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import FLOAT_BYTES, Vectors
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
    count, dimension = (0, 0) if vectors is None else (len(vectors), vectors.dimension)
    if dimension != bank.dimension and (chunks or vectors is not None):
        raise InvalidRequest(
            f"the bank keeps vectors of {bank.dimension} numbers; the chunks came with {dimension}", param="vectors"
        )
    if dimension and count != len(chunks):
        raise InvalidRequest(f"{len(chunks)} chunks came with {count} vectors", param="vectors")


def check_query_vector(bank: BankPlace, vector: bytes) -> None:
    if not bank.dimension or len(vector) != bank.dimension * FLOAT_BYTES:
        raise InvalidRequest(
            f"the bank keeps vectors of {bank.dimension} numbers; the query has {len(vector) // FLOAT_BYTES}",
            param="vector",
        )


def check_keyword(bank: BankPlace) -> None:
    if not bank.keyword:
        raise InvalidRequest("this bank keeps no words: search it by vector, or make it with keyword", param="mode")


def last_of_each_id(chunks: list[Chunk]) -> list[int]:
    """Positions of the chunks that count: of those with the same id the last one."""
    return list({chunk.chunk_id: position for position, chunk in enumerate(chunks)}.values())
