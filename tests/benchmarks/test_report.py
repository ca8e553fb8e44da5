"""Medians over rounds; ratios and differences within a round, never between rounds."""

from typing import Any

from benchmarks.load import Sample
from benchmarks.report import CHAT_COLUMNS, added, cell_table, figure, number, ratio


def sample(target: str, cpu_ms: float | None, **more: Any) -> Sample:
    figures: dict[str, Any] = {"requests": 10, "errors": 0, "per_second": 1234.5, "p50_ms": 1.5, "p99_ms": 2.25, **more}
    return Sample(target=target, cell="chat-c1", cpu_ms=cpu_ms, **figures)


def cpu(one: Sample) -> float | None:
    return one.cpu_ms


# The machine was ten times slower in the second round: every ratio within a round is still 2 or 3.
ROUNDS = [
    [sample("ours", 1.0), sample("theirs", 2.0)],
    [sample("ours", 10.0), sample("theirs", 30.0)],
    [sample("ours", 2.0), sample("theirs", 4.0)],
]


def test_a_median_is_over_the_rounds_that_have_the_figure() -> None:
    assert figure(ROUNDS, "ours", "chat-c1", cpu) == 2.0
    assert figure([*ROUNDS, [sample("ours", None)]], "ours", "chat-c1", cpu) == 2.0
    assert figure(ROUNDS, "ours", "chat-c64", cpu) is None
    assert figure(ROUNDS, "ours", "chat-c1", cpu, min) == 1.0
    assert figure(ROUNDS, "nobody", "chat-c1", cpu) is None


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert ratio(ROUNDS, "theirs", "ours", "chat-c1", cpu) == 2.0
    # The ratio of the medians of these two rounds would be 16 / 5.5.
    assert ratio(ROUNDS[:2], "theirs", "ours", "chat-c1", cpu) == 2.5


def test_a_round_without_both_gives_no_ratio() -> None:
    assert ratio([[sample("ours", 1.0)], *ROUNDS[:1]], "theirs", "ours", "chat-c1", cpu) == 2.0
    assert ratio([[sample("ours", 1.0)]], "theirs", "ours", "chat-c1", cpu) is None
    assert ratio([[sample("ours", 0.0), sample("theirs", 1.0)]], "theirs", "ours", "chat-c1", cpu) is None


def test_what_is_added_is_the_median_of_the_rounds_differences() -> None:
    assert added(ROUNDS, "theirs", "ours", "chat-c1", cpu) == 2.0
    assert added(ROUNDS, "nobody", "ours", "chat-c1", cpu) is None


def test_a_cell_becomes_a_table_in_the_order_of_the_first_round() -> None:
    rounds = [[sample("ours", 0.5, errors=1), sample("theirs", 5.0)], [sample("theirs", 7.0), sample("ours", 0.7)]]

    assert cell_table(rounds, "chat-c1", CHAT_COLUMNS, beside="ours").splitlines() == [
        "| chat-c1 | CPU ms | best | p50 ms | p99 ms | requests/s | CPU / ours | errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| ours | 0.600 | 0.500 | 1.50 | 2.2 | 1,234 | 1.00 | 1 |",
        "| theirs | 6.000 | 5.000 | 1.50 | 2.2 | 1,234 | 10.00 | 0 |",
    ]


def test_numbers_are_grouped_and_a_missing_one_is_a_dash() -> None:
    assert [number(1234567.891, 1), number(0.0, 2), number(None, 3)] == ["1,234,567.9", "0.00", "-"]
