"""Several rankings become one."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.memory import Fusion, ReciprocalRankFusion, WeightedFusion

K = TypeVar("K", bound=Hashable)

Ranking = Sequence[FoundChunk]
"""Best first."""

WEAK_WORDS = 0.5
"""Of the best keyword score: below it a chunk shares some words with the question and is hardly about it."""
WEAK_RANKS = 100
"""So many ranks further down such a chunk counts: it is still found where nothing better is."""
LEAST_SCALED = 0.01


def fuse(vector: Ranking, keyword: Ranking, manner: Fusion) -> list[FoundChunk]:
    """One ranking of all chunks in either, best first, with scores from 0 to 1; equal scores in order of chunk ids."""
    match manner:
        case ReciprocalRankFusion():
            scores = _by_rank(vector, keyword, manner.impact_factor)
        case WeightedFusion():
            scores = _by_score(vector, keyword, manner.alpha)
    found = {one.chunk.chunk_id: one for one in (*keyword, *vector)}
    return [
        FoundChunk(chunk=found[name].chunk, score=score, vector=found[name].vector)
        for name, score in sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
    ]


def _by_rank(vector: Ranking, keyword: Ranking, impact_factor: float) -> dict[str, float]:
    """1 for what is first in both rankings: the sum is divided by the most that can be reached."""
    strong = sum(1 for one in keyword if one.score >= WEAK_WORDS * keyword[0].score)
    ranks = [(one, rank) for rank, one in enumerate(vector, start=1)]
    ranks += [(one, rank if rank <= strong else rank + WEAK_RANKS) for rank, one in enumerate(keyword, start=1)]
    best = 2 / (impact_factor + 1)
    scores: dict[str, float] = {}
    for one, rank in ranks:
        name = one.chunk.chunk_id
        scores[name] = scores.get(name, 0.0) + 1 / (impact_factor + rank) / best
    return scores


def _by_score(vector: Ranking, keyword: Ranking, alpha: float) -> dict[str, float]:
    by_meaning, by_words = (
        scaled([(one.chunk.chunk_id, one.score) for one in ranking]) for ranking in (vector, keyword)
    )
    return {
        name: alpha * by_meaning.get(name, 0.0) + (1 - alpha) * by_words.get(name, 0.0)
        for name in by_meaning.keys() | by_words.keys()
    }


def scaled(ranking: Sequence[tuple[K, float]]) -> dict[K, float]:
    """Scores, best first, from 0 to 1; the last becomes nearly 0, which is what a chunk that was not found has."""
    if not ranking:
        return {}
    best, worst = ranking[0][1], ranking[-1][1]
    if best <= worst:
        return dict.fromkeys((name for name, _ in ranking), 1.0)
    room = 1 - LEAST_SCALED
    return {name: LEAST_SCALED + room * (score - worst) / (best - worst) for name, score in ranking}
