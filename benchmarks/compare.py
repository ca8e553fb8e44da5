"""Serving cost side by side: our server, the limit, and other servers where they are installed.

    python -m benchmarks.compare [--peers DIR] [--rounds 3] [--seconds 2] [--json FILE]

Every server runs as one worker in front of the same upstream, all at once; each round visits every cell with every
server in turn, so that neighbours in time are what is compared. CPU per request is the figure to hold on to: it is
the server's whole process tree, and moves 10-30 % on a busy machine where wall-clock times move by 2-4.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks import report, targets
from benchmarks.load import CELLS, Cell, Sample, measure
from benchmarks.processes import RunningServer

PEERS_HELP = "folder that `python -m benchmarks.peers setup` made; default $BENCH_PEERS"
DEFAULT_CELLS = ("chat-c1", "chat-c16", "chat-c64", "stream-c1", "stream-c16", "embed-c1", "embed-c16")


async def one_round(
    started: Sequence[tuple[targets.Target, RunningServer]], cells: Sequence[Cell], seconds: float, upstream_pid: int
) -> list[Sample]:
    """Every cell on every server, by turns."""
    samples = []
    for cell in cells:
        for target, server in started:
            sample = await measure(
                f"{server.base_url}/v1",
                cell,
                target=target.name,
                model_prefix=target.model_prefix,
                pid=server.pid,
                upstream_pid=upstream_pid,
                seconds=seconds,
            )
            samples.append(sample)
            if sample.first_error:
                print(f"{target.name}, {cell.name}: {sample.first_error}", file=sys.stderr)
    return samples


def run(
    cells: Sequence[Cell], *, rounds: int, seconds: float, peers_home: Path | None, only: Sequence[str] = ()
) -> list[list[Sample]]:
    """Start everything, measure, stop everything. One list of samples per round."""
    with targets.all_running(peers_home, only) as started:
        measured = []
        upstream_pid = started[0][1].pid
        for number in range(rounds):
            begin = time.perf_counter()
            # Turned by one each round, so that nobody always follows the same neighbour.
            turned = [*started[number % len(started) :], *started[: number % len(started)]]
            measured.append(uvloop.run(one_round(turned, cells, seconds, upstream_pid)))
            took = time.perf_counter() - begin
            print(f"round {number + 1} of {rounds}: {took:.0f} s", file=sys.stderr, flush=True)
        return measured


HEADLINES = (
    ("CPU ms per chat completion, 16 at once", "chat-c16", lambda sample: sample.cpu_ms, 2),
    ("CPU us per streamed chunk, 16 at once", "stream-c16", lambda sample: sample.cpu_us_per_chunk, 1),
    ("CPU ms per embeddings request, 16 at once", "embed-c16", lambda sample: sample.cpu_ms, 2),
)
_ADDED = "ms added to the first chunk, 1 at once"


def headlines(rounds: Sequence[report.Round]) -> str:
    """The few figures to remember; in brackets how many times ours a server takes."""
    names = dict.fromkeys(sample.target for sample in rounds[0])
    others = [name for name in names if name not in (targets.DIRECT, targets.OURS)]
    rows = []
    for title, cell, metric, digits in HEADLINES:
        row = [title, report.number(report.figure(rounds, targets.OURS, cell, metric), digits)]
        for name in others:
            shown = report.number(report.figure(rounds, name, cell, metric), digits)
            times = report.ratio(rounds, name, targets.OURS, cell, metric)
            row.append(shown if times is None else f"{shown} ({times:.1f}x)")
        rows.append(row)
    first_chunk = [_ADDED]
    for name in (targets.OURS, *others):
        wait = report.added(rounds, name, targets.DIRECT, "stream-c1", lambda sample: sample.first_chunk_p50_ms)
        first_chunk.append(report.number(wait, 2))
    return report.markdown(["", targets.OURS, *others], [*rows, first_chunk])


def tables(rounds: Sequence[report.Round]) -> str:
    """The headlines, then all cells, as Markdown."""
    cells = list(dict.fromkeys(sample.cell for one in rounds for sample in one))
    parts = [headlines(rounds)]
    for name in cells:
        columns = report.STREAM_COLUMNS if CELLS[name].streamed else report.CHAT_COLUMNS
        parts.append(report.cell_table(rounds, name, columns, beside=targets.OURS))
    noise = [sample.other_cores for one in rounds for sample in one if sample.other_cores is not None]
    busy = f"Meanwhile other processes kept {sum(noise) / len(noise):.2f} of {os.cpu_count()} cores busy on average"
    parts.append(f"{busy} (at most {max(noise):.2f}).")
    return "\n\n".join(parts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", type=Path, default=os.environ.get("BENCH_PEERS"), help=PEERS_HELP)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each cell, after half a second of warm-up")


def _main() -> None:
    parser = argparse.ArgumentParser(description="Serving cost of servers side by side.")
    add_arguments(parser)
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=DEFAULT_CELLS)
    parser.add_argument("--only", nargs="+", default=(), help="names of targets, as the table shows them")
    parser.add_argument("--json", type=Path, help="write every sample here")
    arguments = parser.parse_args()
    cells = [CELLS[name] for name in arguments.cells]
    rounds = run(
        cells,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        peers_home=arguments.peers,
        only=arguments.only,
    )
    print(tables(rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps([[asdict(sample) for sample in one] for one in rounds], indent=1))


if __name__ == "__main__":
    _main()
