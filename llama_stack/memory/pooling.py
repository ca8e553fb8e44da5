"""What several banks found becomes one ranking, in which every chunk is measured by the same measure.

- Vectors of one embedding model are compared by their cosines, whatever bank they are in. Cosines of different models
  say nothing to each other, so each model has a ranking of its own, and the words decide between them.
- Words are weighed anew over all candidates together (BM25: Robertson and Zaragoza, "The Probabilistic Relevance
  Framework", 2009, 3.3). A bank's own scores weigh a word by how rare it is in that bank, so in a bank about kettles
  `kettle` counts next to nothing, and where it is met once by chance it counts most.
- A chunk of a bank without vectors has no rank by meaning, which is no fault of the chunk: what it would get for it, it
  gets for its words instead, by the part of the question's words that it has.
- What was asked for by its name, the value of a key or the facts about an entity, is beyond comparison: it keeps its
  score, 1 or the nearness to the entity, beside scores that go up to 1.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.memory import Chunk, Fusion, ReciprocalRankFusion, SearchMode, WeightedFusion
from llama_stack.memory.fusion import WEAK_RANKS, WEAK_WORDS, scaled
from llama_stack.memory.weighing import Weighed, weighed

FEW_WORDS = 0.2
"""Part of the question's words, by weight, below which a chunk that has no vector is hardly about it. Questions are in
words of their own: with half of them asked for, banks of words find a third fewer of the answers that they have.
"""

Key = tuple[int, str]
"""A candidate: the number of its bank and its chunk id, which is the same for one document in two banks."""


@dataclass(frozen=True)
class BankFindings:
    """What one bank found, each ranking best first.

    mode: how it was searched; None where it was asked by names alone. space: of its vectors; those of equal spaces can
    be compared. near: facts that the question may mean, with their nearness as the score. named: what was asked for.
    """

    mode: SearchMode | None = None
    space: Hashable = None
    by_meaning: Sequence[FoundChunk] = ()
    by_words: Sequence[FoundChunk] = ()
    near: Sequence[FoundChunk] = ()
    named: Sequence[FoundChunk] = ()


def pooled(question: str, banks: Sequence[BankFindings], manner: Fusion) -> list[FoundChunk]:
    """All chunks, best first. Scores are cosines where only vectors of one model were compared, BM25 where only words
    were, and from 0 to 1 otherwise. Of equal ones, what was named comes first; then they come in the order of the banks
    and of the chunk ids.
    """
    candidates = _candidates(banks)
    modes = {bank.mode for bank in banks if bank.mode is not None}
    spaces = _rankings(banks)
    is_asked_by_name = any(bank.mode is None for bank in banks)
    named = {(number, one.chunk.chunk_id): one.score for number, bank in enumerate(banks) for one in bank.named}
    scores = dict(named)
    if modes == {SearchMode.VECTOR} and len(spaces) == 1 and not any(bank.near for bank in banks):
        scores |= {key: one.score for ranking in spaces.values() for key, one in ranking}
    elif modes == {SearchMode.KEYWORD} and not is_asked_by_name:
        scores |= weighed(question, _chunks(candidates)).scores
    else:
        words = weighed(question, _chunks(candidates, without=named))
        scores = _fused(banks, spaces, words, manner) | named
    ordered = sorted(scores.items(), key=lambda entry: (-entry[1], entry[0] not in named, entry[0]))
    # Likeness is measured alike among all: by words, unless all have vectors of one model.
    has_vectors = len(spaces) == 1 and all(one.vector is not None for one in candidates.values())
    return [
        FoundChunk(chunk=candidates[key].chunk, score=score, vector=candidates[key].vector if has_vectors else None)
        for key, score in ordered
    ]


def _candidates(banks: Sequence[BankFindings]) -> dict[Key, FoundChunk]:
    """Those that have a vector with it."""
    return {
        (number, one.chunk.chunk_id): one
        for number, bank in enumerate(banks)
        for one in (*bank.near, *bank.named, *bank.by_words, *bank.by_meaning)
    }


def _chunks(candidates: Mapping[Key, FoundChunk], without: Collection[Key] = ()) -> dict[Key, Chunk]:
    return {key: one.chunk for key, one in candidates.items() if key not in without}


def _rankings(banks: Sequence[BankFindings]) -> dict[Hashable, list[tuple[Key, FoundChunk]]]:
    """By cosine, over all banks of a space."""
    spaces: dict[Hashable, list[tuple[Key, FoundChunk]]] = {}
    for number, bank in enumerate(banks):
        for one in bank.by_meaning:
            spaces.setdefault(bank.space, []).append(((number, one.chunk.chunk_id), one))
    for ranking in spaces.values():
        ranking.sort(key=lambda entry: (-entry[1].score, entry[0]))
    return spaces


def _fused(
    banks: Sequence[BankFindings],
    spaces: Mapping[Hashable, Sequence[tuple[Key, FoundChunk]]],
    words: Weighed[Key],
    manner: Fusion,
) -> dict[Key, float]:
    nearness = {(number, one.chunk.chunk_id): one.score for number, bank in enumerate(banks) for one in bank.near}
    without_vectors = {
        (number, one.chunk.chunk_id)
        for number, bank in enumerate(banks)
        if bank.mode in (None, SearchMode.KEYWORD)
        for one in (*bank.by_words, *bank.near)
    }
    meaning_weight = manner.alpha if isinstance(manner, WeightedFusion) else 0.5
    by_meaning: dict[Key, float] = {}
    for ranking in spaces.values():
        by_meaning |= _parts([(key, one.score) for key, one in ranking], len(ranking), manner)
    by_words = _word_parts(words, without_vectors, manner)
    last = min(by_words.values(), default=1.0)
    for key in nearness:
        by_words.setdefault(key, last / 2)  # it was reached, if not by its words
    scores: dict[Key, float] = {}
    for key in by_meaning.keys() | by_words.keys():
        worded = by_words.get(key, 0.0)
        meant = worded * words.shares.get(key, 0.0) if key in without_vectors else by_meaning.get(key, 0.0)
        scores[key] = (meaning_weight * meant + (1 - meaning_weight) * worded) * nearness.get(key, 1.0)
    return scores


def _word_parts(words: Weighed[Key], without_vectors: Set[Key], manner: Fusion) -> dict[Key, float]:
    """A chunk that only its words can speak for is hardly about the question where it has few of them."""
    ranking = sorted(words.scores.items(), key=lambda entry: (-entry[1], entry[0]))
    weak = {key for key in without_vectors if words.shares.get(key, 0.0) < FEW_WORDS}
    telling = [entry for entry in ranking if entry[0] not in weak]
    strong = sum(1 for _, score in telling if score >= WEAK_WORDS * telling[0][1])
    parts = _parts(telling + [entry for entry in ranking if entry[0] in weak], strong, manner)
    if isinstance(manner, WeightedFusion):
        return {key: part * words.shares[key] if key in weak else part for key, part in parts.items()}
    return parts


def _parts(ranking: Sequence[tuple[Key, float]], strong: int, manner: Fusion) -> dict[Key, float]:
    """From 0 to 1, 1 for the first, as for one bank. strong: after so many, ranks are WEAK_RANKS further down."""
    match manner:
        case WeightedFusion():
            return scaled(ranking)
        case ReciprocalRankFusion(impact_factor=impact):
            return {
                key: (impact + 1) / (impact + rank + (0 if rank <= strong else WEAK_RANKS))
                for rank, (key, _) in enumerate(ranking, start=1)
            }
