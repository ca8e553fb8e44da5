"""Rankings of several banks become one."""

import pytest

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.memory import Chunk, ReciprocalRankFusion, SearchMode, WeightedFusion
from llama_stack.memory.pooling import BankFindings, pooled
from llama_stack.memory.weighing import weighed

RANKS = ReciprocalRankFusion()


def one(name: str, content: str, score: float = 0.0, language: str = "en") -> FoundChunk:
    chunk = Chunk(chunk_id=name, document_id=name, content=content, language=language)
    return FoundChunk(chunk=chunk, score=score)


def names(found: list[FoundChunk]) -> list[str]:
    return [each.chunk.chunk_id for each in found]


def test_cosines_of_different_models_are_not_compared_and_words_decide() -> None:
    """Some models find everything alike: their worst cosine is above another's best."""
    modest = BankFindings(
        SearchMode.VECTOR, "modest", [one("answer", "vinegar removes limescale", 0.6), one("tent", "a tent", 0.1)]
    )
    generous = BankFindings(
        SearchMode.VECTOR, "generous", [one("choir", "a choir sings", 0.9), one("bond", "bonds are paid", 0.89)]
    )
    found = pooled("what removes limescale?", [generous, modest], RANKS)
    assert names(found)[0] == "answer"
    assert found[0].score == pytest.approx(1.0)
    assert all(0 <= each.score <= 1 for each in found)


def test_cosines_of_one_model_are_one_ranking() -> None:
    left = BankFindings(SearchMode.VECTOR, "m", [one("a", "x", 0.9), one("d", "x", 0.2)])
    right = BankFindings(SearchMode.VECTOR, "m", [one("b", "x", 0.8), one("c", "x", 0.7)])
    assert [(each.chunk.chunk_id, each.score) for each in pooled("x", [left, right], RANKS)] == [
        ("a", 0.9), ("b", 0.8), ("c", 0.7), ("d", 0.2),
    ]  # fmt: skip


def test_a_word_weighs_what_it_weighs_among_all_and_not_in_its_bank() -> None:
    """In a bank about kettles the index gives the answer next to nothing for the word; elsewhere it is rare."""
    kettles = BankFindings(
        SearchMode.KEYWORD,
        by_words=[one("answer", "limescale leaves the kettle", 0.001), one("k2", "a kettle whistles", 0.0001)],
    )
    fish = BankFindings(SearchMode.KEYWORD, by_words=[one("fish", "kettles of fish", 1.28)])
    assert names(pooled("limescale in the kettle", [fish, kettles], RANKS)) == ["answer", "fish", "k2"]


@pytest.mark.parametrize("manner", [RANKS, WeightedFusion()])
def test_few_words_do_not_outdo_meaning(manner: ReciprocalRankFusion | WeightedFusion) -> None:
    """The chunk that means what is asked shares no word with it; the other shares one of three."""
    meaning = BankFindings(
        SearchMode.HYBRID, "m", [one("answer", "descaling with vinegar", 0.7), one("far", "a choir", 0.1)]
    )
    words = BankFindings(SearchMode.KEYWORD, by_words=[one("fish", "kettles of fish", 1.28)])
    found = pooled("remove limescale from kettles", [words, meaning], manner)
    assert names(found)[0] == "answer"
    assert {"fish", "far"} <= set(names(found))


def test_facts_near_what_is_meant_are_weighed_by_their_words_and_their_distance() -> None:
    facts = BankFindings(
        near=[
            one("said", "Ada worked with Charles", 1.0),
            one("further", "Ada's friend Charles worked", 0.5),
            one("reached", "An engine was designed", 0.5),
        ]
    )
    meaning = BankFindings(SearchMode.HYBRID, "m", [one("choir", "a choir sings", 0.05)])
    found = pooled("Who worked with Ada?", [meaning, facts], RANKS)
    assert names(found) == ["said", "choir", "further", "reached"]


def test_words_are_compared_in_the_language_of_each_chunk() -> None:
    chunks = {
        "english": one("e", "the roofs were repaired").chunk,
        "german": one("g", "die Dächer wurden repariert", language="de").chunk,
        "unknown": one("u", "roofs", language="").chunk,
    }
    found = weighed("How are roofs repaired?", chunks)
    assert found.shares["english"] == pytest.approx(1.0)
    assert set(found.scores) == {"english", "unknown"}
    assert 0 < found.shares["unknown"] < 1


def test_nothing_makes_nothing() -> None:
    assert pooled("x", [BankFindings(SearchMode.HYBRID, "m"), BankFindings()], RANKS) == []
    assert weighed("of the", {"a": one("a", "of the people").chunk}).scores.keys() <= {"a"}
