"""All benchmarks with defaults that end within ten minutes.

    python -m benchmarks.run [--peers DIR] [--only serving engine startup] [--json FILE]

Tables go to standard output, progress to standard error, every figure to the JSON file where one is named.
"""

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks import compare, engine, startup
from benchmarks.load import CELLS
from benchmarks.processes import ServerFailed

PARTS = ("serving", "engine", "startup")
_VERSIONS = (
    "llama-stack",
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "aiohttp",
    "pydantic",
    "xllamacpp",
)


def surroundings() -> dict[str, Any]:
    """What the figures depend on and a reader cannot see."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load_average": os.getloadavg(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _VERSIONS},
    }


def _serving(arguments: argparse.Namespace) -> tuple[str, Any]:
    cells = [CELLS[name] for name in compare.DEFAULT_CELLS]
    rounds = compare.run(cells, rounds=arguments.rounds, seconds=arguments.seconds, peers_home=arguments.peers)
    return compare.tables(rounds), [[asdict(sample) for sample in one] for one in rounds]


def _engine(arguments: argparse.Namespace) -> tuple[str, Any]:
    if not arguments.model.is_file():
        return f"{arguments.model} is not there; name a GGUF with --model", None
    rounds, held = engine.run(arguments.model, rounds=arguments.rounds)
    return engine.table(rounds, held), [[asdict(speed) for speed in one] for one in rounds]


def _startup(arguments: argparse.Namespace) -> tuple[str, Any]:
    model = None if arguments.model == engine.SHIPPED else arguments.model
    return startup.run(arguments.peers, arguments.rounds, model=model, with_install=not arguments.skip_install)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Speed, start and size, beside peers and limits.")
    compare.add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", type=Path, default=engine.SHIPPED, help="GGUF for the embedded engine")
    parser.add_argument("--skip-install", action="store_true", help="an install needs a package index")
    parser.add_argument("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    parts = {"serving": _serving, "engine": _engine, "startup": _startup}
    figures: dict[str, Any] = {"surroundings": surroundings()}
    print(json.dumps(figures["surroundings"]), end="\n\n", flush=True)
    failed = False
    for name in arguments.only:
        try:
            tables, figures[name] = parts[name](arguments)
        except ServerFailed as error:
            tables, failed = str(error), True
        print(f"## {name}\n\n{tables}\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    _main()
