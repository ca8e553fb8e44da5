"""Facets of metadata: what a filter compares, in a form that every vector database can compare exactly.

Tokens stand for "this key has this value": equality of kind and value, whatever characters key and value hold, is
equality of tokens. Numbers stand for an order: a number as itself, a string as the numbers of its first 24 bytes, six
bytes each, because 48 bits fit a float64 exactly and the order of UTF-8 is that of code points.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from llama_stack.api.filters import Scalar

STRING_LEVELS = 4
LEVEL_BYTES = 6
EXACT_BELOW = 2**53
"""Whole numbers up to here are exact as float64."""
_LARGEST = 1.7976931348623157e308


@dataclass(frozen=True)
class Facets:
    """tokens: of every scalar of the metadata. numbers: by names that `number_name` and `level_name` give."""

    tokens: list[str]
    numbers: dict[str, float]


def facets_of(metadata: Mapping[str, Any]) -> Facets:
    """Values that are no scalars have none: no filter selects by them."""
    tokens: list[str] = []
    numbers: dict[str, float] = {}
    for key, value in metadata.items():
        if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and math.isnan(value)):
            continue
        tokens.append(token_of(key, value))
        if isinstance(value, str):
            numbers.update({level_name(key, level): number for level, number in enumerate(levels_of(value))})
        elif not isinstance(value, bool):
            numbers[number_name(key)] = as_float(value)
    return Facets(tokens, numbers)


def token_of(key: str, value: Scalar) -> str:
    """24 hexadecimal digits; equal numbers have one token, be they whole or not."""
    return _digest(key, *_kind_and_text(value))


def tokens_of(key: str, values: Iterable[Scalar]) -> list[str]:
    return [token_of(key, value) for value in values]


def number_name(key: str) -> str:
    """Name of the number of a key: a letter, then hexadecimal digits."""
    return f"n{_digest(key)}"


def level_name(key: str, level: int) -> str:
    """Name of a six-byte piece of a key's string: a letter, then hexadecimal digits."""
    return f"s{level}{_digest(key)}"


def levels_of(text: str) -> list[float]:
    """The first 24 bytes as STRING_LEVELS numbers; what is shorter is filled up with zeros."""
    size = STRING_LEVELS * LEVEL_BYTES
    start = text.encode()[:size].ljust(size, b"\0")
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


def _kind_and_text(value: Scalar) -> tuple[str, str]:
    if isinstance(value, bool):
        return "boolean", str(value)
    if isinstance(value, str):
        return "string", value
    # Python compares whole and other numbers by value, so both need one spelling.
    whole = isinstance(value, int) or value.is_integer()
    return "number", str(int(value)) if whole else repr(value)


def _digest(*parts: str) -> str:
    digest = blake2b(digest_size=12)
    for part in parts:
        # With its length first, no two lists of parts are one text.
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.hexdigest()
