"""The search by words of a bank finds what scoring every chunk finds, and scores few."""

import json
import random
from collections.abc import Callable, Iterable, Iterator

import apsw
import pytest

from llama_stack_providers.inline._chunks.filters import Condition
from llama_stack_providers.inline._chunks.keeper import Scored
from llama_stack_providers.inline._chunks.schema import BankFacts, create_tables
from llama_stack_providers.inline._chunks.words import COUNTS_TABLE, best_by_words

CHUNKS = 12_000
VOCABULARY = 3_000
DEAD = range(500, CHUNKS, 7)
LIMIT = 13
ONE_IN_A_HUNDRED: Condition = ("SELECT value FROM json_each(?)", [json.dumps(list(range(1, CHUNKS, 100)))])


@pytest.fixture(scope="module")
def bank() -> Iterator[apsw.Connection]:
    """Words as unequally frequent as those of a language; some chunks are deleted, some repeat a word."""
    numbers = random.Random(11)
    frequency = [1 / (rank + 5) for rank in range(VOCABULARY)]
    words = [f"w{rank}" for rank in range(VOCABULARY)]
    connection = empty_bank()
    with connection:
        texts = (numbers.choices(words, frequency, k=numbers.randrange(5, 40)) for _ in range(CHUNKS))
        insert(connection, (" ".join([*text, *text[:1] * 3]) for text in texts))
        connection.executemany("DELETE FROM words WHERE rowid = ?", ((key,) for key in DEAD))
    yield connection
    connection.close()


def empty_bank() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    create_tables(connection, BankFacts(dimension=0, keyword=True, params={}))
    connection.execute(COUNTS_TABLE)
    return connection


def insert(bank: apsw.Connection, texts: Iterable[str]) -> None:
    bank.executemany("INSERT INTO words (rowid, stems) VALUES (?, ?)", enumerate(texts, 1))
    bank.execute("UPDATE bank SET next_id = (SELECT max(id) + 1 FROM words_docsize)")


def all_scored(bank: apsw.Connection, stems: list[str], limit: int) -> Scored:
    """What FTS5 itself gives, which scores every chunk."""
    match = " OR ".join(f'"{stem}"' for stem in stems)
    found = bank.execute("SELECT rowid, -rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (match, limit))
    return [(int(key), float(score)) for key, score in found]


def steps_of(bank: apsw.Connection, work: Callable[[], object]) -> int:
    """What SQLite did for it, in steps of a hundred instructions. Each chunk that is scored takes a few."""
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    bank.set_progress_handler(count, 100)
    try:
        work()
    finally:
        bank.set_progress_handler(None)
    return steps


def queries(count: int, sizes: tuple[int, ...]) -> list[list[str]]:
    numbers = random.Random(5)
    ranks = [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584]
    return [[f"w{rank}" for rank in numbers.sample(ranks, size)] for size in sizes for _ in range(count)]


@pytest.mark.parametrize("limit", [1, LIMIT, 100, 2_000])
def test_the_best_are_those_of_a_search_that_scores_every_chunk(bank: apsw.Connection, limit: int) -> None:
    for stems in queries(6, (1, 2, 3, 4, 6, 9, 12, 15)):
        found, expected = best_by_words(bank, stems, limit, None), all_scored(bank, stems, limit)
        assert [score for _, score in found] == [score for _, score in expected], stems
        # Of those that score as the last one any may be found.
        last = expected[-1][1]
        assert [hit for hit in sorted(found) if hit[1] > last] == [hit for hit in sorted(expected) if hit[1] > last]


@pytest.mark.parametrize("together", [0, 5, 20, 400])
def test_words_that_seldom_stand_together_are_found_all_the_same(together: int) -> None:
    # A guess takes words for independent, so it hopes for a thousand chunks with two of these.
    connection = empty_bank()
    with connection:
        texts = (f"{'abc'[key % 3]} {'bca'[key % 3] if key < together else 'd'} x{key}" for key in range(9_000))
        insert(connection, texts)
    for stems in (["a", "b", "c"], ["a", "b", "c", "d"]):
        for limit in (1, LIMIT, 300):
            found, expected = best_by_words(connection, stems, limit, None), all_scored(connection, stems, limit)
            assert [score for _, score in found] == [score for _, score in expected]
    connection.close()


def test_stems_that_stand_nowhere_change_nothing(bank: apsw.Connection) -> None:
    assert best_by_words(bank, ["nowhere"], LIMIT, None) == []
    assert best_by_words(bank, ["nowhere", "w1", "w5"], LIMIT, None) == all_scored(bank, ["w1", "w5"], LIMIT)


def test_a_selection_holds_for_the_scored(bank: apsw.Connection) -> None:
    for stems in queries(3, (1, 3, 5)):
        every = all_scored(bank, stems, CHUNKS)
        expected = [hit for hit in every if hit[0] % 100 == 1][:LIMIT]
        found = best_by_words(bank, stems, LIMIT, ONE_IN_A_HUNDRED)
        assert [score for _, score in found] == [score for _, score in expected]


def test_few_chunks_are_scored(bank: apsw.Connection) -> None:
    stems = ["w0", "w1", "w144", "w233"]
    every = steps_of(bank, lambda: all_scored(bank, stems, LIMIT))
    assert steps_of(bank, lambda: best_by_words(bank, stems, LIMIT, None)) < every * 2 / 3


def test_a_selection_is_looked_through_once(bank: apsw.Connection) -> None:
    stems = ["w0", "w1", "w144", "w233"]
    every = steps_of(bank, lambda: all_scored(bank, stems, LIMIT))
    assert steps_of(bank, lambda: best_by_words(bank, stems, LIMIT, ONE_IN_A_HUNDRED)) < every
