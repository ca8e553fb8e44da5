"""What an agent's turn costs beyond its model calls: one tool of an MCP server between two inferences.

    python -m benchmarks.turns [--peers DIR] [--rounds 3] [--seconds 2] [--json FILE]

A turn is one `POST /v1/responses` with an MCP tool, stored as by default. From the CPU of a turn the CPU of two chat
completions through the same server, measured in the same round, is taken off; what is left is the loop, the tool's
call over MCP and the storing. The MCP server and the model are `benchmarks.mock_upstream`.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks import compare, load, report, targets

CONCURRENCIES = (1, 16)
TARGETS = (targets.OURS, targets.LABELS["ogx"])


def run(*, rounds: int, seconds: float, peers_home: Path | None) -> list[list[load.Sample]]:
    """Start everything, measure, stop everything. One list of samples per round."""
    with targets.all_running(peers_home, TARGETS) as started:
        upstream = started[0][1]
        cells = [
            cell
            for concurrency in CONCURRENCIES
            for cell in (
                load.CELLS[f"chat-c{concurrency}"],
                load.turn(f"turn-c{concurrency}", concurrency, f"{upstream.base_url}/mcp"),
            )
        ]
        measured = []
        for number in range(rounds):
            turned = [*started[1:]][number % 2 :] + [*started[1:]][: number % 2]
            measured.append(uvloop.run(compare.one_round(turned, cells, seconds, upstream.pid)))
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        return measured


def overheads(rounds: Sequence[report.Round], target: str, concurrency: int, metric: report.Metric) -> list[float]:
    """Of each round: a turn less two chat completions."""
    found = []
    for one in rounds:
        turn = report.figure([one], target, f"turn-c{concurrency}", metric)
        chat = report.figure([one], target, f"chat-c{concurrency}", metric)
        if turn is not None and chat is not None:
            found.append(turn - 2 * chat)
    return found


def tables(rounds: Sequence[report.Round]) -> str:
    """The overhead of a turn, then each cell, as Markdown."""
    names = list(dict.fromkeys(sample.target for sample in rounds[0]))
    rows = []
    for concurrency in CONCURRENCIES:
        for title, metric in (("CPU", lambda sample: sample.cpu_ms), ("wall", lambda sample: sample.p50_ms)):
            row = [f"{title} ms of a turn over its two model calls, {concurrency} at once"]
            for name in names:
                known = overheads(rounds, name, concurrency, metric)
                row.append(f"{statistics.median(known):.2f} (best {min(known):.2f})" if known else "-")
            rows.append(row)
    parts = [report.markdown(["", *names], rows)]
    parts += [
        report.cell_table(rounds, f"{kind}-c{concurrency}", report.CHAT_COLUMNS, beside=targets.OURS)
        for concurrency in CONCURRENCIES
        for kind in ("turn", "chat")
    ]
    return "\n\n".join(parts)


def _main() -> None:
    parser = argparse.ArgumentParser(description="What an agent's turn costs beyond its model calls.")
    compare.add_arguments(parser)
    parser.add_argument("--json", type=Path, help="write every sample here")
    arguments = parser.parse_args()
    rounds = run(rounds=arguments.rounds, seconds=arguments.seconds, peers_home=arguments.peers)
    print(tables(rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps([[asdict(sample) for sample in one] for one in rounds], indent=1))


if __name__ == "__main__":
    _main()
