"""From samples to tables: medians over rounds, and ratios taken within each round.

Rounds are interleaved, so whatever disturbs the machine disturbs neighbours alike: the ratio of two servers in the
same round moves far less than either figure. A ratio here is the median of the rounds' ratios, never the ratio of
two medians. Beside the median of a CPU figure stands its best round, because a disturbance only ever adds to it.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.load import Sample

Round = Sequence[Sample]
Metric = Callable[[Sample], float | None]


@dataclass(frozen=True)
class Column:
    """A figure of a table. `digits` after the point. `pick`: which of the rounds' figures is shown."""

    title: str
    metric: Metric
    digits: int
    pick: Callable[[Sequence[float]], float] = statistics.median


CHAT_COLUMNS = (
    Column("CPU ms", lambda sample: sample.cpu_ms, 3),
    Column("best", lambda sample: sample.cpu_ms, 3, min),
    Column("p50 ms", lambda sample: sample.p50_ms, 2),
    Column("p99 ms", lambda sample: sample.p99_ms, 1),
    Column("requests/s", lambda sample: sample.per_second, 0),
)
STREAM_COLUMNS = (
    Column("CPU us/chunk", lambda sample: sample.cpu_us_per_chunk, 1),
    Column("best", lambda sample: sample.cpu_us_per_chunk, 1, min),
    Column("first chunk p50 ms", lambda sample: sample.first_chunk_p50_ms, 2),
    Column("chunks/s", lambda sample: sample.chunks_per_second, 0),
    Column("CPU ms/stream", lambda sample: sample.cpu_ms, 2),
)


def values(rounds: Iterable[Round], target: str, cell: str, metric: Metric) -> list[float]:
    """The metric of one target in one cell, round by round; rounds without it are left out."""
    found = (metric(sample) for one in rounds for sample in one if (sample.target, sample.cell) == (target, cell))
    return [value for value in found if value is not None]


def figure(
    rounds: Iterable[Round],
    target: str,
    cell: str,
    metric: Metric,
    pick: Callable[[Sequence[float]], float] = statistics.median,
) -> float | None:
    """One figure for all rounds. None where no round has it."""
    known = values(rounds, target, cell, metric)
    return pick(known) if known else None


def ratio(rounds: Sequence[Round], target: str, beside: str, cell: str, metric: Metric) -> float | None:
    """Median over the rounds of target / beside. None where no round has both, or `beside` is 0."""
    ratios = []
    for one in rounds:
        mine = figure([one], target, cell, metric)
        theirs = figure([one], beside, cell, metric)
        if mine is not None and theirs:
            ratios.append(mine / theirs)
    return statistics.median(ratios) if ratios else None


def added(rounds: Sequence[Round], target: str, beside: str, cell: str, metric: Metric) -> float | None:
    """Median over the rounds of target - beside. None where no round has both."""
    differences = []
    for one in rounds:
        mine = figure([one], target, cell, metric)
        theirs = figure([one], beside, cell, metric)
        if mine is not None and theirs is not None:
            differences.append(mine - theirs)
    return statistics.median(differences) if differences else None


def number(value: float | None, digits: int) -> str:
    """A figure for a table: thousands separated, `-` where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, first column left, the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell_table(rounds: Sequence[Round], cell: str, columns: Sequence[Column], beside: str) -> str:
    """One cell: a row per target in the order of the first round, medians, and the CPU of each as a multiple of
    `beside`."""
    targets = list(dict.fromkeys(sample.target for one in rounds for sample in one if sample.cell == cell))
    rows = []
    for target in targets:
        figures = [
            number(figure(rounds, target, cell, column.metric, column.pick), column.digits) for column in columns
        ]
        times = ratio(rounds, target, beside, cell, lambda sample: sample.cpu_ms)
        errors = sum(values(rounds, target, cell, lambda sample: float(sample.errors)))
        rows.append([target, *figures, number(times, 2), number(errors, 0)])
    header = [cell, *(column.title for column in columns), f"CPU / {beside}", "errors"]
    return markdown(header, rows)
