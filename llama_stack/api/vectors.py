"""Vectors in bulk: float32, row after row in one buffer, so that a thousand of them are one object."""

from array import array
from collections.abc import Iterable, Sequence

FLOAT_BYTES = 4


class Vectors:
    """Rows of `dimension` float32 numbers in the machine's byte order. `buffer` holds them without gaps."""

    __slots__ = ("buffer", "dimension")

    def __init__(self, buffer: bytes | bytearray | memoryview, dimension: int) -> None:
        """Raises ValueError for a buffer that is not whole rows."""
        if dimension < 1 or len(memoryview(buffer).cast("B")) % (dimension * FLOAT_BYTES):
            raise ValueError(f"the buffer does not hold rows of {dimension} float32 numbers")
        self.buffer = memoryview(buffer).cast("B")
        self.dimension = dimension

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]], dimension: int) -> "Vectors":
        """Raises ValueError for a row of another width."""
        numbers = array("f")
        for row in rows:
            if len(row) != dimension:
                raise ValueError(f"a vector of {len(row)} numbers stands among vectors of {dimension}")
            numbers.extend(row)
        return cls(memoryview(numbers).cast("B"), dimension)

    def __len__(self) -> int:
        return len(self.buffer) // (self.dimension * FLOAT_BYTES)

    def row_bytes(self, position: int) -> bytes:
        size = self.dimension * FLOAT_BYTES
        return self.buffer[position * size : (position + 1) * size].tobytes()

    def row(self, position: int) -> list[float]:
        return floats_of(self.row_bytes(position))


def floats_of(buffer: bytes | memoryview) -> list[float]:
    """The numbers of one row."""
    numbers = array("f")
    numbers.frombytes(bytes(buffer))
    return numbers.tolist()
