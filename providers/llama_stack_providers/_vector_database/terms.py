"""The words of chunks as sparse vectors: BM25 in databases that know only dot products.

The weight of a term in a chunk is BM25's saturated frequency (Robertson and Zaragoza, "The Probabilistic Relevance
Framework: BM25 and Beyond", 2009, section 3.4); the inverse document frequency is multiplied in where the database does
that, or by the query's side. The mean length is a constant, because the true one moves with every write.
"""

import math
from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b

K1 = 1.2
B = 0.75
MEAN_TERMS = 200
"""Terms of a middling chunk."""


def term_weights(stems: Iterable[str]) -> dict[int, float]:
    """Term number -> weight, in the order of the numbers."""
    counts = Counter(stems)
    length = sum(counts.values())
    weights: dict[int, float] = {}
    for stem, count in counts.items():
        number = term_number(stem)
        # Two stems of one number, one pair in billions, add up.
        weights[number] = weights.get(number, 0.0) + saturated(count, length)
    return dict(sorted(weights.items()))


def saturated(count: int, length: int) -> float:
    """What a term adds that stands `count` times among `length` terms, before its rarity is multiplied in."""
    return count * (K1 + 1) / (count + K1 * (1 - B + B * length / MEAN_TERMS))


def rarity(with_term: int, chunks: int) -> float:
    """Inverse document frequency, never negative. with_term: chunks that hold the term."""
    return math.log(1 + (max(chunks - with_term, 0) + 0.5) / (with_term + 0.5))


def term_number(stem: str) -> int:
    """32 bits; the same in every process and version."""
    return int.from_bytes(blake2b(stem.encode(), digest_size=4).digest(), "big")
