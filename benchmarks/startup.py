"""What it costs to have a server: install, import, start, idle memory.

    python -m benchmarks.startup [--peers DIR] [--rounds 3] [--skip-install] [--json FILE]

Start is the time from the command to the first 200 on /v1/models, beside a bare FastAPI app; memory is read two
seconds later. A first start of each, in which Python compiles what nobody imported yet, is not counted. Our server is
measured twice: with one remote provider (comparable with the others), and as `starter`, whose embedded engine is a
child process and is reported apart. Rounds are interleaved, figures are medians.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import compare, peers, targets
from benchmarks.environments import Install, find_python, make_environment
from benchmarks.processes import Memory, ServerFailed, environment, free_port, memory, running
from benchmarks.report import markdown, number

SETTLE_S = 2.0
STARTER = f"{targets.OURS} starter"


@dataclass(frozen=True)
class Start:
    """One start of one server. Wall and CPU seconds to the first 200."""

    target: str
    wall_s: float
    cpu_s: float
    memory: Memory


@dataclass(frozen=True)
class Command:
    """Wall and CPU seconds of one short command, median of its runs after a first one."""

    name: str
    wall_s: float
    cpu_s: float


def starter(model: Path | None) -> targets.Target:
    """Our default distribution: the embedded engine, with another GGUF where one is named."""
    port = free_port()
    command = targets.llama("stack", "run", "starter", "--port", str(port))
    command += ["--model", str(model.resolve())] if model else []
    return targets.Target(STARTER, command, port, {"LLAMA_STACK_HOME": "state"})


def start_once(target: targets.Target) -> Start:
    with running(target.name, target.command, port=target.port, env=target.env) as server:
        time.sleep(SETTLE_S)
        return Start(target.name, server.start_s, server.start_cpu_s, memory(server.pid))


def starts(peers_home: Path | None, rounds: int, model: Path | None) -> list[Start]:
    """Every server, `rounds` times in turn after a first time. One that fails is named on stderr and left out."""
    upstream = targets.upstream()
    done: list[Start] = []
    failed: set[str] = set()
    with running("upstream", upstream.command, port=upstream.port, env=upstream.env) as mock:
        for number_of_round in range(rounds + 1):
            for target in [targets.typed(mock.base_url), *targets.products(mock.base_url, peers_home), starter(model)]:
                if target.name in failed:
                    continue
                try:
                    started = start_once(target)
                    done += [started] if number_of_round else []
                except ServerFailed as error:
                    failed.add(target.name)
                    print(error, file=sys.stderr)
    return done


def time_command(name: str, command: Sequence[str], runs: int = 7) -> Command:
    walls, cpus = [], []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Command(name, statistics.median(walls), statistics.median(cpus))


def commands() -> list[Command]:
    return [
        time_command("python -c pass", [sys.executable, "-c", "pass"]),
        time_command("import llama_stack", [sys.executable, "-c", "import llama_stack"]),
        time_command("llama --version", targets.llama("--version")),
    ]


def install() -> Install:
    """Our wheel, built from this checkout, in a fresh environment of this Python."""
    with tempfile.TemporaryDirectory(prefix="bench-install-") as folder:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(build, check=True, cwd=targets.HERE.parent, capture_output=True)
        (wheel,) = Path(folder).glob("*.whl")
        python = find_python((f"python3.{sys.version_info.minor}",))
        return make_environment(python, Path(folder) / "environment", (str(wheel),))


def starts_table(done: Sequence[Start]) -> str:
    rows = []
    for name in dict.fromkeys(start.target for start in done):
        mine = [start for start in done if start.target == name]
        engine = [start.memory.tree_rss - start.memory.main_rss for start in mine]
        pss = [start.memory.tree_pss for start in mine if start.memory.tree_pss is not None]
        rows.append(
            [
                name,
                number(statistics.median(start.wall_s for start in mine), 2),
                number(statistics.median(start.cpu_s for start in mine), 2),
                number(statistics.median(start.memory.main_rss for start in mine), 0),
                number(statistics.median(engine), 0),
                number(statistics.median(pss) if pss else None, 0),
                number(mine[-1].memory.processes, 0),
            ]
        )
    header = ["start", "to first 200, s", "CPU s", "server RSS MB", "its children RSS MB", "all PSS MB", "processes"]
    return markdown(header, rows)


def commands_table(timed: Sequence[Command]) -> str:
    rows = [[command.name, number(1000 * command.wall_s, 0), number(1000 * command.cpu_s, 0)] for command in timed]
    return markdown(["command", "wall ms", "CPU ms"], rows)


def installs_table(installs: dict[str, Install]) -> str:
    rows = [
        [name, number(one.packages, 0), number(one.size_mb, 0), number(one.seconds, 1), one.installer]
        for name, one in installs.items()
    ]
    return markdown(["install", "packages", "MB", "seconds, nothing cached", "by"], rows)


def run(
    peers_home: Path | None, rounds: int, *, model: Path | None, with_install: bool
) -> tuple[str, dict[str, object]]:
    """(tables, the figures behind them)."""
    done, timed = starts(peers_home, rounds, model), commands()
    installs = {targets.OURS: install()} if with_install else {}
    if peers_home:
        recorded = {
            targets.LABELS[one.name]: peers.install_record(peers_home, one) for one in peers.installed(peers_home)
        }
        installs |= recorded
    tables = [starts_table(done), commands_table(timed), *([installs_table(installs)] if installs else [])]
    figures: dict[str, object] = {
        "starts": [asdict(start) for start in done],
        "commands": [asdict(command) for command in timed],
        "installs": {name: asdict(one) for name, one in installs.items()},
    }
    return "\n\n".join(tables), figures


def _main() -> None:
    parser = argparse.ArgumentParser(description="Install, import, start and idle memory.")
    parser.add_argument("--peers", type=Path, default=os.environ.get("BENCH_PEERS"), help=compare.PEERS_HELP)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="a GGUF for starter; default: the one it names")
    parser.add_argument("--skip-install", action="store_true", help="an install needs a package index")
    parser.add_argument("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    tables, figures = run(
        arguments.peers, arguments.rounds, model=arguments.model, with_install=not arguments.skip_install
    )
    print(tables)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    _main()
