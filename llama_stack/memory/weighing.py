"""How much chunks share of a question's words, weighed alike wherever the chunks come from.

BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, 3.3), with the candidates themselves as the
collection that tells how rare a word is.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from llama_stack.api.memory import Chunk
from llama_stack.text.words import query_stems, stems

SATURATION = 1.2
LENGTH_WEIGHT = 0.75
"""k1 and b of BM25, with the values that most search engines have."""

K = TypeVar("K", bound=Hashable)


@dataclass
class Weighed(Generic[K]):
    """Of the chunks that share words with the question. scores: BM25. shares: part of the words' weight, up to 1."""

    scores: dict[K, float] = field(default_factory=dict)
    shares: dict[K, float] = field(default_factory=dict)


def weighed(question: str, chunks: Mapping[K, Chunk]) -> Weighed[K]:
    terms = _terms(question, {chunk.language for chunk in chunks.values()})
    counts = {key: Counter(stems(chunk.indexed_text, chunk.language)) for key, chunk in chunks.items()}
    met = Counter(term for key, held in counts.items() for term in terms[chunks[key].language] & held.keys())
    weights = {
        term: math.log(1 + (len(chunks) - met[term] + 0.5) / (met[term] + 0.5))
        for some in terms.values()
        for term in some
    }
    usual = sum(held.total() for held in counts.values()) / max(len(chunks), 1)
    found = Weighed[K]()
    for key, held in counts.items():
        own = terms[chunks[key].language]
        shared = own & held.keys()
        if not shared:
            continue
        norm = SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * held.total() / usual)
        found.scores[key] = math.fsum(
            weights[term] * held[term] * (SATURATION + 1) / (held[term] + norm) for term in shared
        )
        found.shares[key] = math.fsum(weights[term] for term in shared) / math.fsum(weights[term] for term in own)
    return found


def _terms(question: str, languages: Set[str]) -> dict[str, frozenset[str]]:
    return {language: frozenset(query_stems(question, [language])) for language in languages}
