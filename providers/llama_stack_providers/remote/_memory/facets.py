"""Metadata as words of one field, for search engines, such that filters select exactly what `api.filters.matches` says.

Engines give each key of a JSON object a field of one type, so that a key with a number here and a string there is
refused, and a key with a dot is taken for a path. Here each scalar becomes one word instead, the facet:

    digest of the key, kind (b, n or s), ":", value

whose value is written such that the words of one key and kind sort as the values do. Equality is to have the word, an
order is a range of words, and nothing that a caller sends is ever part of a query's syntax.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Scalar

DOCUMENT_ID = "document_id"
MAX_STRING_BYTES = 4096
"""Of longer strings the rest counts for equality, but not for order. The longest word has three times this."""
_REMAINDER = 2**63


@dataclass(frozen=True)
class Facet:
    """A word in its parts. group: digest of the key, and the kind; value: sorts as the values do."""

    group: str
    value: str

    @property
    def word(self) -> str:
        return f"{self.group}:{self.value}"


def facets_of(metadata: JsonObject, document_id: str) -> list[Facet]:
    """One for each scalar of the metadata, with `document_id` added."""
    found = (facet_of(key, value) for key, value in {**metadata, DOCUMENT_ID: document_id}.items())
    return [facet for facet in found if facet is not None]


def facet_of(key: str, value: Any) -> Facet | None:
    """None for what is no scalar."""
    match value:
        case bool():
            kind, shown = "b", "1" if value else "0"
        case int() | float():
            kind, shown = "n", _sortable_number(value)
        case str():
            kind, shown = "s", _sortable_string(value)
        case _:
            return None
    return Facet(_digest(key) + kind, shown)


def scalar_facet(key: str, value: Scalar) -> Facet:
    """Of a filter's value, which always is one."""
    facet = facet_of(key, value)
    assert facet is not None
    return facet


@lru_cache(maxsize=4096)
def _digest(key: str) -> str:
    return blake2b(key.encode(errors="surrogatepass"), digest_size=10).hexdigest()


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
    if len(encoded) <= MAX_STRING_BYTES:
        return encoded.hex()
    return f"{encoded[:MAX_STRING_BYTES].hex()}~{sha256(encoded).hexdigest()}"


def sortable_place(document_id: str, position: int, chunk_id: str) -> str:
    """Sorts as document id, position, chunk id do."""
    return f"{_hex(document_id)}!{position + _REMAINDER:016x}!{_hex(chunk_id)}"


def _hex(text: str) -> str:
    return text.encode(errors="surrogatepass").hex()
