"""What a code interpreter costs: a sandbox from nothing, one that waits, a call in a session, a plot.

    python -m benchmarks.sandbox [--rounds 10] [--calls 200] [--pyodide DIR] [--image NAME] [--json FILE]

Beside a bare `python -c pass` of the same interpreter, started in the same rounds. Every driver that passes its
self-test here is measured: bubblewrap, wasm with `--pyodide`, docker with `--image`. Cold is from the request to the
first answer of a new sandbox; warm is the first answer of one that was started ahead. Figures are medians.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import markdown, number
from llama_stack_providers.inline._code_interpreter.choice import choose_driver
from llama_stack_providers.inline._code_interpreter.driver import Driver, DriverUnavailable
from llama_stack_providers.inline._code_interpreter.session import Session, open_session
from llama_stack_providers.inline._code_interpreter.settings import Config

BARE = "python -c pass"
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])"


@dataclass
class Measured:
    """Milliseconds of each sample, by what was done; no samples where it cannot be done."""

    name: str
    cold: list[float]
    warm: list[float]
    call: list[float]
    first_plot: list[float]
    end: list[float]


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    started = time.perf_counter()
    done = await work()
    return 1000 * (time.perf_counter() - started), done


async def answer(session: Session, code: str = "1 + 1") -> None:
    outcome = await session.run(code, {})
    if outcome.error is not None:
        raise RuntimeError(outcome.error)


async def measure_round(driver: Driver, config: Config, calls: int, measured: Measured) -> None:
    """One sandbox: started, called, ended."""
    started, session = await timed(lambda: open_session(driver, config))
    try:
        first, _ = await timed(lambda: answer(session))
        measured.cold.append(started + first)
        measured.warm.append(first)
        for _ in range(calls):
            took, _ = await timed(lambda: answer(session))
            measured.call.append(took)
        if not measured.first_plot and driver.name == "bubblewrap":
            took, _ = await timed(lambda: answer(session, PLOT))
            measured.first_plot.append(took)
    finally:
        ended, _ = await timed(session.close)
        measured.end.append(ended)


def bare_start() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return 1000 * (time.perf_counter() - started)


def configs(pyodide: Path | None, image: str | None) -> list[Config]:
    found = [Config(driver="bubblewrap")]
    found += [Config(driver="wasm", pyodide=pyodide)] if pyodide else []
    found += [Config(driver="container", container_image=image)] if image else []
    return found


async def run(rounds: int, calls: int, wanted: list[Config]) -> list[Measured]:
    """Rounds over all drivers in turn; one that cannot be used here is named on stderr and left out."""
    drivers: list[tuple[Driver, Config, Measured]] = []
    for config in wanted:
        try:
            driver = await choose_driver(config, Path.home())
        except DriverUnavailable as error:
            print(error.message, file=sys.stderr)
            continue
        drivers.append((driver, config, Measured(driver.name, [], [], [], [], [])))
    bare = Measured(BARE, [], [], [], [], [])
    for _ in range(rounds):
        bare.cold.append(await asyncio.to_thread(bare_start))
        for driver, config, measured in drivers:
            await measure_round(driver, config, calls, measured)
    return [bare, *(measured for _, _, measured in drivers)]


def table(done: list[Measured]) -> str:
    rows = []
    for measured in done:
        figures = (measured.cold, measured.warm, measured.call, measured.first_plot, measured.end)
        rows.append([measured.name, *(number(statistics.median(one) if one else None, 1) for one in figures)])
    return markdown(["", "cold start ms", "warm start ms", "call ms", "first plot ms", "end ms"], rows)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Sandboxes of the code interpreter.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=200, help="calls in each session")
    parser.add_argument("--pyodide", type=Path, help="folder with Pyodide, to measure wasm")
    parser.add_argument("--image", help="image that docker has, to measure containers")
    parser.add_argument("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    done = asyncio.run(run(arguments.rounds, arguments.calls, configs(arguments.pyodide, arguments.image)))
    print(table(done))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(measured) for measured in done], indent=1))


if __name__ == "__main__":
    _main()
