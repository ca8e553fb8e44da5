"""Several rankings become one."""

from collections.abc import Mapping, Sequence

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.memory import Fusion, ReciprocalRankFusion, WeightedFusion

Ranking = Sequence[FoundChunk]
"""Best first."""


def fuse(vector: Ranking, keyword: Ranking, manner: Fusion) -> list[FoundChunk]:
    """One ranking of all chunks in either, best first, with scores from 0 to 1; equal scores in order of chunk ids."""
    match manner:
        case ReciprocalRankFusion():
            scores = _by_rank([vector, keyword], manner.impact_factor)
        case WeightedFusion():
            scores = _by_score(vector, keyword, manner.alpha)
    found = {one.chunk.chunk_id: one for one in (*keyword, *vector)}
    fused = [
        FoundChunk(chunk=found[name].chunk, score=score, vector=found[name].vector) for name, score in scores.items()
    ]
    return sorted(fused, key=lambda one: (-one.score, one.chunk.chunk_id))


def _by_rank(rankings: Sequence[Ranking], impact_factor: float) -> dict[str, float]:
    """1 for what is first in every ranking: the sum is divided by the most that can be reached."""
    best = len(rankings) / (impact_factor + 1)
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, start=1):
            name = one.chunk.chunk_id
            scores[name] = scores.get(name, 0.0) + 1 / (impact_factor + rank) / best
    return scores


def _by_score(vector: Ranking, keyword: Ranking, alpha: float) -> dict[str, float]:
    by_meaning, by_words = _scaled(vector), _scaled(keyword)
    return {
        name: alpha * by_meaning.get(name, 0.0) + (1 - alpha) * by_words.get(name, 0.0)
        for name in by_meaning.keys() | by_words.keys()
    }


def _scaled(ranking: Ranking) -> Mapping[str, float]:
    """The best becomes 1, and what was not found at all is 0, so the last of a ranking must stay above that."""
    if not ranking:
        return {}
    best, worst = ranking[0].score, min(ranking[-1].score, 0.0)
    if best <= worst:
        return {one.chunk.chunk_id: 1.0 for one in ranking}
    return {one.chunk.chunk_id: (one.score - worst) / (best - worst) for one in ranking}
