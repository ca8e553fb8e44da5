"""Facets of metadata: what filters compare, in forms that every database compares exactly.

Databases give each key a field of one type, so that a key with a number here and a string there is refused, and take a
key with a dot for a path. So each scalar of the metadata becomes a facet instead, of which nothing is ever part of a
query's syntax. It can be written in two ways:

- `token` and `numbers`, for databases that put nothing but numbers in order. To have a token is to have the value. A
  number stands for itself, a string for the numbers of its first 24 bytes, six bytes each, because 48 bits fit a
  float64 exactly and the order of UTF-8 is that of code points;
- `word`, for engines that put words in order: digest of the key, kind (b, n or s), ":", and the value, such that the
  words of one key and kind sort as the values do. To have a word is to have the value, and an order is a range of them.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Any

from llama_stack.api.filters import Scalar

DOCUMENT_ID = "document_id"
STRING_LEVELS = 4
LEVEL_BYTES = 6
MAX_WORD_BYTES = 4096
"""Of longer strings the rest counts for a word's equality, but not for its order. The longest word has three times
this."""
_LARGEST = 1.7976931348623157e308
_REMAINDER = 2**63


@dataclass(frozen=True)
class Facet:
    """A key with a scalar that it has."""

    key: str
    value: Scalar

    @property
    def token(self) -> str:
        """24 hexadecimal digits; equal numbers have one token, be they whole or not."""
        match self.value:
            case bool():
                return _digest(self.key, "boolean", str(self.value))
            case str():
                return _digest(self.key, "string", self.value)
            case _:
                # Python compares whole and other numbers by value, so both need one spelling.
                whole = isinstance(self.value, int) or self.value.is_integer()
                return _digest(self.key, "number", str(int(self.value)) if whole else repr(self.value))

    @property
    def numbers(self) -> dict[str, float]:
        """By names that `number_name` and `level_name` give; a boolean has no order."""
        match self.value:
            case bool():
                return {}
            case str():
                return {level_name(self.key, level): number for level, number in enumerate(levels_of(self.value))}
            case _:
                return {number_name(self.key): as_float(self.value)}

    @property
    def group(self) -> str:
        """What all words of this key and kind begin with."""
        kind = "b" if isinstance(self.value, bool) else "s" if isinstance(self.value, str) else "n"
        return _short_digest(self.key) + kind

    @property
    def sortable(self) -> str:
        """The value, sorting as the values of one group do."""
        match self.value:
            case bool():
                return "1" if self.value else "0"
            case str():
                return _sortable_string(self.value)
            case _:
                return _sortable_number(self.value)

    @property
    def word(self) -> str:
        return f"{self.group}:{self.sortable}"


def facets_of(metadata: Mapping[str, Any], document_id: str) -> list[Facet]:
    """One for each scalar of the metadata, with `document_id` added. By other values no filter selects."""
    found = {**metadata, DOCUMENT_ID: document_id}
    return [Facet(key, value) for key, value in found.items() if _is_scalar(value)]


def numbers_of(facets: list[Facet]) -> dict[str, float]:
    return {name: number for facet in facets for name, number in facet.numbers.items()}


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | str) or (isinstance(value, float) and not math.isnan(value))


def number_name(key: str) -> str:
    """Name of the number of a key: a letter, then hexadecimal digits."""
    return f"n{_key_digest(key)}"


def level_name(key: str, level: int) -> str:
    """Name of a six-byte piece of a key's string: a letter, the level, then hexadecimal digits."""
    return f"s{level}{_key_digest(key)}"


def levels_of(text: str) -> list[float]:
    """The first 24 bytes as STRING_LEVELS numbers; what is shorter is filled up with zeros."""
    size = STRING_LEVELS * LEVEL_BYTES
    start = text.encode(errors="surrogatepass")[:size].ljust(size, b"\0")
    return [
        float(int.from_bytes(start[position : position + LEVEL_BYTES], "big"))
        for position in range(0, size, LEVEL_BYTES)
    ]


def as_float(value: int | float) -> float:
    """The nearest finite float64; the order of two numbers never turns round by it."""
    try:
        return min(max(float(value), -_LARGEST), _LARGEST)
    except OverflowError:
        return math.copysign(_LARGEST, 1 if value > 0 else -1)


def _sortable_number(value: float) -> str:
    """The bits of the nearest double, turned such that they sort, and what an integer is more than that double.

    The sign bit is flipped for positive numbers and all bits for negative ones (IEEE 754's own order, section 5.10).
    """
    try:
        nearest = float(value)
    except OverflowError:
        nearest = float("inf") if value > 0 else float("-inf")
    finite = nearest - nearest == 0
    rest = int(value) - int(nearest) if isinstance(value, int) and finite else 0
    bits = int.from_bytes(struct.pack(">d", nearest + 0.0), "big")
    bits = bits ^ (2**64 - 1) if bits >> 63 else bits | 2**63
    return f"{bits:016x}{max(0, min(2 * _REMAINDER - 1, rest + _REMAINDER)):016x}"


def _sortable_string(value: str) -> str:
    """In hexadecimal, because engines trim, fold and split what looks like text. UTF-8 sorts by code point."""
    encoded = value.encode(errors="surrogatepass")
    if len(encoded) <= MAX_WORD_BYTES:
        return encoded.hex()
    return f"{encoded[:MAX_WORD_BYTES].hex()}~{sha256(encoded).hexdigest()}"


@lru_cache(maxsize=4096)
def _key_digest(key: str) -> str:
    return _digest(key)


@lru_cache(maxsize=4096)
def _short_digest(key: str) -> str:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=10).hexdigest()


def _digest(*parts: str) -> str:
    digest = blake2b(digest_size=12)
    for part in parts:
        # With its length first, no two lists of parts are one text.
        encoded = part.encode(errors="surrogatepass")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.hexdigest()
