"""Vector stores over HTTP beside OGX: chunks in, questions answered, a response that searches files.

    python -m benchmarks.memory_serving [--peers DIR] [--rounds 3] [--seconds 2] [--rows 2000] [--json FILE]

Both servers keep vectors with FAISS, get the same chunks with the same vectors in batches of 100, and have the question
embedded by the same upstream. `query` is /v1/vector-io/query, `search` is /v1/vector_stores/{id}/search, each for the
best five; without more in the request OGX searches by vector alone, ours by vector and by words, so `search` of ours
does more. `response` is one stored /v1/responses with file search: a model call, a search, a model call.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvloop
import yaml

from benchmarks import compare, load, memory_rows, mock_upstream, processes, report, targets
from benchmarks.processes import RunningServer
from benchmarks.targets import OURS, Target

BATCH = 100
CHARACTERS = 800
CONCURRENCIES = (1, 16)
QUESTION = "which barges passed the quiet villages?"
OGX = targets.LABELS["ogx"]


@dataclass(frozen=True)
class Inserting:
    """All batches, one after the other. first_ms, last_ms: of the first and the last batch."""

    target: str
    rows: int
    wall_s: float
    cpu_s: float
    first_ms: float
    last_ms: float


@contextmanager
def _started(peers_home: Path | None) -> Iterator[tuple[RunningServer, list[tuple[Target, RunningServer]]]]:
    """The upstream, and our server with FAISS and OGX, where it is installed, in front of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-memory-")))
        settings = yaml.safe_load((targets.HERE / "stack.yaml").read_text(encoding="utf-8"))
        settings["providers"]["memory"] = [{"provider_id": "faiss", "provider_type": "inline::faiss"}]
        distribution = folder / "stack.yaml"
        distribution.write_text(yaml.safe_dump(settings), encoding="utf-8")
        mock = targets.upstream()
        upstream = stack.enter_context(processes.running("upstream", mock.command, port=mock.port, env=mock.env))
        started = []
        for target in targets.products(upstream.base_url, peers_home):
            if target.name == OURS:
                command = targets.llama("stack", "run", str(distribution), "--port", str(target.port))
                target = replace(target, command=command)
            elif target.name != OGX:
                continue
            server = processes.running(target.name, target.command, port=target.port, env=target.env)
            started.append((target, stack.enter_context(server)))
        yield upstream, started


# --- chunks in -------------------------------------------------------------------------------------------------------


def _new_store(http: httpx.Client, target: Target) -> str:
    wanted: dict[str, Any] = {"name": "bench", "provider_id": "faiss"}
    model = target.model_prefix + mock_upstream.EMBEDDING_MODEL
    wanted |= {"embedding_model": model, "embedding_dimension": mock_upstream.DIMENSIONS}
    answer = http.post("/v1/vector_stores", json=wanted)
    if answer.status_code != 200:
        raise processes.ServerFailed(f"{target.name} made no store: {answer.text[:400]}")
    return str(answer.json()["id"])


def _chunk(target: Target, number: int, text: str, vector: list[float]) -> dict[str, Any]:
    document_id = f"document-{number // memory_rows.DOCUMENT_CHUNKS:06}"
    chunk: dict[str, Any] = {"content": text, "metadata": {"document_id": document_id}, "embedding": vector}
    if target.name == OGX:
        chunk |= {"chunk_id": memory_rows.chunk_id(number), "chunk_metadata": {"document_id": document_id}}
        chunk |= {"embedding_model": mock_upstream.EMBEDDING_MODEL, "embedding_dimension": len(vector)}
    return chunk


def _bodies(target: Target, store_id: str, count: int) -> Iterator[bytes]:
    """Requests of a batch each, ready to be sent."""
    store = {"vector_store_id" if target.name == OGX else "vector_db_id": store_id}
    for block in range(-(-count // memory_rows.BLOCK_ROWS)):
        rows = memory_rows.block(block, CHARACTERS)
        for first in range(0, min(count - rows.first, len(rows)), BATCH):
            part = rows.part(first, BATCH)
            vectors = part.vectors.tolist()
            chunks = [
                _chunk(target, number, text, vectors[number - part.first])
                for number, text in enumerate(part.texts, part.first)
            ]
            yield json.dumps({**store, "chunks": chunks}).encode()


def insert(target: Target, server: RunningServer, count: int) -> tuple[str, Inserting]:
    """Fill a new store; gives its id, too."""
    with httpx.Client(base_url=server.base_url, timeout=60, trust_env=False) as http:
        store_id = _new_store(http, target)
        bodies = list(_bodies(target, store_id, count))
        cpu_0, times_s = processes.cpu_s(server.pid), []
        for body in bodies:
            start = time.perf_counter()
            answer = http.post("/v1/vector-io/insert", content=body, headers={"content-type": "application/json"})
            times_s.append(time.perf_counter() - start)
            if answer.status_code not in (200, 204):
                raise processes.ServerFailed(f"{target.name} took no chunks: {answer.text[:400]}")
        cpu_s = processes.cpu_s(server.pid) - cpu_0
    inserting = Inserting(target.name, count, sum(times_s), cpu_s, 1000 * times_s[0], 1000 * times_s[-1])
    return store_id, inserting


# --- questions -------------------------------------------------------------------------------------------------------


def cells_for(target: Target, store_id: str) -> list[load.Cell]:
    """Chat stands beside the response: it takes two of them."""
    store = {"vector_store_id" if target.name == OGX else "vector_db_id": store_id}
    query = {**store, "query": QUESTION, "params": {"max_chunks": 5}}
    search = {"query": QUESTION, "max_num_results": 5}
    tool = {"type": "file_search", "vector_store_ids": [store_id], "max_num_results": 5}
    response = {"model": mock_upstream.TOOL_MODEL, "input": QUESTION, "tools": [tool]}
    cells = []
    for at_once in CONCURRENCIES:
        cells += [
            load.Cell(f"query-c{at_once}", "/vector-io/query", query, at_once, (b'"scores"', b'"content"')),
            load.Cell(
                f"search-c{at_once}", f"/vector_stores/{store_id}/search", search, at_once, (b'"score"', b'"content"')
            ),
        ]
    found = (mock_upstream.ANSWER.encode(), b"file_search_call")
    return [*cells, load.CELLS["chat-c1"], load.Cell("response-c1", "/responses", response, 1, found)]


async def _one_round(
    started: Sequence[tuple[Target, RunningServer]],
    cells: Sequence[list[load.Cell]],
    seconds: float,
    upstream_pid: int,
) -> list[load.Sample]:
    samples = []
    for same in zip(*cells, strict=True):
        for cell, (target, server) in zip(same, started, strict=True):
            sample = await load.measure(
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
    *, rows: int, rounds: int, seconds: float, peers_home: Path | None
) -> tuple[list[Inserting], list[list[load.Sample]]]:
    """Start everything, fill the stores, ask, stop everything."""
    with _started(peers_home) as (upstream, started):
        filled = [insert(target, server, rows) for target, server in started]
        cells = [cells_for(target, store_id) for (target, _), (store_id, _) in zip(started, filled, strict=True)]
        measured = []
        for number in range(rounds):
            turn = slice(None, None, -1) if number % 2 else slice(None)
            measured.append(uvloop.run(_one_round(started[turn], cells[turn], seconds, upstream.pid)))
            print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return [inserting for _, inserting in filled], measured


# --- tables ----------------------------------------------------------------------------------------------------------


def insert_table(inserted: Sequence[Inserting]) -> str:
    rows = [
        [
            one.target,
            report.number(one.rows / one.wall_s, 0),
            report.number(1e6 * one.cpu_s / one.rows, 0),
            report.number(one.first_ms, 0),
            report.number(one.last_ms, 0),
        ]
        for one in inserted
    ]
    return report.markdown(
        [f"{inserted[0].rows:,} rows in", "rows/s", "CPU us a row", "first 100, ms", "last, ms"], rows
    )


def tables(inserted: Sequence[Inserting], rounds: Sequence[report.Round]) -> str:
    names = list(dict.fromkeys(sample.cell for one in rounds for sample in one))
    parts = [insert_table(inserted)]
    parts += [report.cell_table(rounds, name, report.CHAT_COLUMNS, beside=OURS) for name in names]
    row = ["CPU ms of a response with file search over its two model calls"]
    for one in inserted:
        over = [
            response - 2 * chat
            for each in rounds
            if (response := report.figure([each], one.target, "response-c1", lambda sample: sample.cpu_ms)) is not None
            and (chat := report.figure([each], one.target, "chat-c1", lambda sample: sample.cpu_ms)) is not None
        ]
        row.append(f"{sorted(over)[len(over) // 2]:.2f} (best {min(over):.2f})" if over else "-")
    parts.append(report.markdown(["", *(one.target for one in inserted)], [row]))
    noise = [sample.other_cores for one in rounds for sample in one if sample.other_cores is not None]
    parts.append(f"Meanwhile other processes kept {sum(noise) / len(noise):.2f} of {os.cpu_count()} cores busy.")
    return "\n\n".join(parts)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Vector stores over HTTP beside OGX.")
    compare.add_arguments(parser)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--json", type=Path, help="write every sample here")
    arguments = parser.parse_args()
    inserted, rounds = run(
        rows=arguments.rows, rounds=arguments.rounds, seconds=arguments.seconds, peers_home=arguments.peers
    )
    print(tables(inserted, rounds))
    if arguments.json:
        samples = [[asdict(sample) for sample in one] for one in rounds]
        arguments.json.write_text(json.dumps({"inserted": [asdict(one) for one in inserted], "rounds": samples}))


if __name__ == "__main__":
    _main()
