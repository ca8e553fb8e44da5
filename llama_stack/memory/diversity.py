"""Chunks that say the same twice are no help: duplicates go, and likeness can be weighed against relevance."""

import math
from array import array
from collections.abc import Sequence

from llama_stack.api.chunk_index import FoundChunk

_FIRST_WORDS = 12


def without_duplicates(found: Sequence[FoundChunk], limit: int | None = None) -> list[FoundChunk]:
    """The first of each text, apart from its spaces; at most `limit`."""
    kept: list[FoundChunk] = []
    seen: set[str] = set()
    # Most texts begin in words of their own, and need not be read to their ends.
    beginnings: dict[tuple[str, ...], str] = {}
    for one in found:
        if len(kept) == limit:
            break
        content = one.chunk.content
        beginning = tuple(content.split(maxsplit=_FIRST_WORDS)[:_FIRST_WORDS])
        if beginning in beginnings:
            seen.add(_spaced_alike(beginnings[beginning]))
            text = _spaced_alike(content)
            if text in seen:
                continue
            seen.add(text)
        beginnings.setdefault(beginning, content)
        kept.append(one)
    return kept


def _spaced_alike(text: str) -> str:
    return " ".join(text.split())


def diverse(found: Sequence[FoundChunk], limit: int, diversity: float) -> list[FoundChunk]:
    """Up to `limit` chunks by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Each next one has the best of (1 - diversity) * relevance - diversity * likeness to the most alike of those taken.
    Relevance is the score in relation to the best; likeness is cosine, of words where there are no vectors. Scores
    stay what they were.
    """
    if not found:
        return []
    best = max(abs(found[0].score), 1e-9)
    features = [_features(one) for one in found]
    waiting = list(range(len(found)))
    nearest = [0.0] * len(found)
    taken: list[int] = []
    while waiting and len(taken) < limit:
        following = max(
            waiting,
            key=lambda at: ((1 - diversity) * found[at].score / best - diversity * nearest[at], -at),
        )
        waiting.remove(following)
        taken.append(following)
        for at in waiting:
            nearest[at] = max(nearest[at], _likeness(features[at], features[following]))
    return [found[at] for at in taken]


_Features = list[float] | frozenset[str]


def _features(one: FoundChunk) -> _Features:
    if one.vector is None:
        return frozenset(one.chunk.content.casefold().split())
    numbers = array("f")
    numbers.frombytes(one.vector)
    length = math.sqrt(math.fsum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _likeness(left: _Features, right: _Features) -> float:
    if isinstance(left, frozenset) or isinstance(right, frozenset):
        if not isinstance(left, frozenset) or not isinstance(right, frozenset) or not left or not right:
            return 0.0
        return len(left & right) / math.sqrt(len(left) * len(right))
    return sum(map(float.__mul__, left, right))
