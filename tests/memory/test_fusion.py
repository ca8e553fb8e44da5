"""Two rankings become one, duplicates go, and likeness is weighed against relevance."""

import pytest

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.memory import Chunk, ReciprocalRankFusion, WeightedFusion
from llama_stack.api.vectors import Vectors
from llama_stack.memory.diversity import diverse, without_duplicates
from llama_stack.memory.fusion import fuse


def found(name: str, score: float, content: str = "", vector: list[float] | None = None) -> FoundChunk:
    row = None if vector is None else Vectors.of([vector], len(vector)).row_bytes(0)
    chunk = Chunk(chunk_id=name, document_id="d", content=content or name)
    return FoundChunk(chunk=chunk, score=score, vector=row)


def names(chunks: list[FoundChunk]) -> list[str]:
    return [one.chunk.chunk_id for one in chunks]


def test_ranks_are_summed_so_that_what_both_find_comes_first() -> None:
    vector, keyword = [found("a", 0.9), found("b", 0.8)], [found("b", 7.0), found("c", 6.0)]
    fused = fuse(vector, keyword, ReciprocalRankFusion(impact_factor=60))
    assert names(fused) == ["b", "a", "c"]
    assert fused[0].score == pytest.approx((1 / 62 + 1 / 61) / (2 / 61))
    assert fused[2].score == pytest.approx((1 / 62) / (2 / 61))


def test_a_chunk_that_shares_few_words_comes_after_all_that_are_near() -> None:
    vector = [found(f"near-{number}", 0.9 - number / 100) for number in range(40)]
    keyword = [found("near-1", 8.0), found("far", 3.9)]
    fused = fuse(vector, keyword, ReciprocalRankFusion())
    assert names(fused)[:2] == ["near-1", "near-0"]
    assert names(fused)[-1] == "far"


def test_what_is_first_in_both_scores_one() -> None:
    fused = fuse([found("a", -0.5)], [found("a", 0.001)], ReciprocalRankFusion(impact_factor=10))
    assert [one.score for one in fused] == [pytest.approx(1.0)]


def test_equal_scores_come_in_the_order_of_their_ids() -> None:
    fused = fuse([found("z", 0.9)], [found("a", 7.0)], ReciprocalRankFusion())
    assert names(fused) == ["a", "z"]


@pytest.mark.parametrize(("alpha", "best"), [(1.0, "by-meaning"), (0.0, "by-words")])
def test_weights_choose_between_meaning_and_words(alpha: float, best: str) -> None:
    vector = [found("by-meaning", 0.9), found("middling", 0.4)]
    keyword = [found("by-words", 12.0), found("middling", 6.0)]
    fused = fuse(vector, keyword, WeightedFusion(alpha=alpha))
    assert names(fused)[0] == best
    assert fused[0].score == pytest.approx(1.0)
    assert all(0 <= one.score <= 1 for one in fused)


def test_a_weak_chunk_that_was_found_is_better_than_one_that_was_not() -> None:
    fused = fuse([found("best", 0.9), found("last", 0.1)], [], WeightedFusion(alpha=0.5))
    assert fused[-1].score > 0


def test_nothing_makes_nothing() -> None:
    assert fuse([], [], ReciprocalRankFusion()) == []
    assert diverse([], 5, 0.5) == []


def test_the_same_text_twice_is_found_once() -> None:
    kept = without_duplicates([found("a", 3, "one  two"), found("b", 2, "one two "), found("c", 1, "three")])
    assert names(kept) == ["a", "c"]


def test_texts_that_only_begin_alike_are_all_found_and_each_once() -> None:
    header = " ".join(f"column{number}" for number in range(30))
    rows = [f"{header} row {number}" for number in (1, 2, 1, 3, 2, 3)] + [header, f" {header}\n"]
    kept = without_duplicates([found(str(place), 1, row) for place, row in enumerate(rows)])
    assert names(kept) == ["0", "1", "3", "6"]


def test_diversity_prefers_what_says_something_else() -> None:
    chunks = [
        found("first", 1.0, vector=[1, 0, 0]),
        found("twin", 0.99, vector=[1, 0.01, 0]),
        found("other", 0.7, vector=[0, 1, 0]),
    ]
    assert names(diverse(chunks, 3, 0.7)) == ["first", "other", "twin"]
    assert names(diverse(chunks, 2, 0.01)) == ["first", "twin"]


def test_without_vectors_likeness_is_that_of_words() -> None:
    chunks = [
        found("first", 1.0, "the tent leaks at the seam"),
        found("twin", 0.99, "the tent leaks at its seam"),
        found("other", 0.7, "stoves burn gas"),
    ]
    assert names(diverse(chunks, 3, 0.7)) == ["first", "other", "twin"]
