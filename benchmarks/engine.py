"""Tokens per second of the embedded engine through our server, beside the engine alone.

    python -m benchmarks.engine [--model FILE.gguf] [--rounds 3] [--json FILE]

Three ways to the same work in turn, each with the same model and settings: the engine called in process, the
engine's own HTTP listener, and our server (HTTP in front, the engine in its worker process behind). Every answer is
made to run to its full length by forbidding the tokens that end one. A small model is the hard case: the less the
engine computes for a token, the more of its time is ours.
"""

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks import processes, targets
from benchmarks.report import markdown, number

SHIPPED = targets.HERE.parent / "weights" / "llama-micro" / "llama-micro.gguf"
IN_PROCESS, LISTENER = "engine in process", "engine's listener"
MAX_TOKENS = 128
REQUESTS = 12
_ENDINGS = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|python_tag|>", "</s>", "<|im_end|>", "<|endoftext|>")
_PROMPTS = ("Hello there.", "What is a river?", "Count the stone bridges.", "Tell me about quiet villages.")
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')


@dataclass(frozen=True)
class Work:
    """One kind of request; `parallel` of them at once."""

    chat: bool
    streamed: bool
    parallel: int

    @property
    def name(self) -> str:
        return f"{'chat' if self.chat else 'completion'}, {'streamed' if self.streamed else 'whole'}, {self.parallel}"

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def bodies(self, forbidden: Sequence[int]) -> list[dict[str, Any]]:
        stream = {"stream": True, "stream_options": {"include_usage": True}} if self.streamed else {}
        bias = {str(token): -100 for token in forbidden}
        common = {"model": "bench", "max_tokens": MAX_TOKENS, "temperature": 0, "logit_bias": bias, **stream}
        prompts = [_PROMPTS[number % len(_PROMPTS)] for number in range(REQUESTS)]
        if self.chat:
            return [{**common, "messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
        return [{**common, "prompt": prompt} for prompt in prompts]


WORKS = [Work(chat, streamed, parallel) for chat in (False, True) for streamed in (False, True) for parallel in (1, 4)]


@dataclass(frozen=True)
class Speed:
    """CPU us per token: `cpu_us` of the whole process tree that made them, the engine's computing included;
    `own_cpu_us` of the process that was asked, which for our server is all but the engine."""

    target: str
    work: str
    tokens_per_second: float
    cpu_us: float
    own_cpu_us: float


class RawEngine:
    """The engine's own process: orders on its input, its listener on loopback."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.pid = process.pid
        self._process = process
        ready = self._read()
        self.base_url: str = ready["address"]
        self.headers = {"authorization": f"Bearer {ready['api_key']}"}

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the engine's process ended; its words are above")
        return json.loads(line)  # type: ignore[no-any-return]  # JSON enters here

    def obey(self, work: Work, forbidden: Sequence[int]) -> tuple[int, float]:
        order = {"chat": work.chat, "bodies": work.bodies(forbidden), "parallel": work.parallel}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        done = self._read()
        return int(done["tokens"]), float(done["seconds"])


@contextmanager
def raw(model: Path, threads: int) -> Iterator[RawEngine]:
    command = [sys.executable, "-m", "benchmarks.raw_engine", str(model), "--threads", str(threads)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=targets.HERE.parent,
        env=processes.environment(),
    ) as process:
        try:
            yield RawEngine(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


async def forbidden_tokens(engine: RawEngine) -> list[int]:
    """Ids of the tokens that would end an answer early, as far as this model has them."""
    found: list[int] = []
    async with aiohttp.ClientSession(engine.base_url, headers=engine.headers) as session:
        for text in _ENDINGS:
            async with session.post("/tokenize", json={"content": text, "parse_special": True}) as answer:
                tokens = (await answer.json())["tokens"]
            found += tokens if len(tokens) == 1 else []
    return found


async def over_http(base_url: str, headers: dict[str, str], work: Work, forbidden: Sequence[int]) -> tuple[int, float]:
    """(tokens, seconds) of all the work's requests. Raises RuntimeError with what the server refused."""
    waiting = iter(work.bodies(forbidden))
    tokens = 0

    async def worker(session: aiohttp.ClientSession) -> None:
        nonlocal tokens
        for body in waiting:
            async with session.post(work.path, json=body) as answer:
                text = await answer.read()
            counted = _COMPLETION_TOKENS.findall(text)
            if answer.status != 200 or not counted:
                raise RuntimeError(f"{base_url}{work.path} answered {answer.status}: {text[:500]!r}")
            tokens += int(counted[-1])

    # The engine's listener ends a connection after each stream without saying so: a new one each time, for both.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(base_url, headers=headers, connector=connector) as session:
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(work.parallel):
                group.create_task(worker(session))
        return tokens, time.perf_counter() - start


@dataclass(frozen=True)
class Way:
    """One way to the engine: `do` makes all answers of a work and tells (tokens, seconds)."""

    target: str
    pid: int
    do: Callable[[Work], tuple[int, float]]

    def measure(self, work: Work) -> Speed:
        cpu_0, own_0 = processes.cpu_s(self.pid), processes.own_cpu_s(self.pid)
        tokens, seconds = self.do(work)
        cpu_s, own_s = processes.cpu_s(self.pid) - cpu_0, processes.own_cpu_s(self.pid) - own_0
        return Speed(self.target, work.name, tokens / seconds, 1e6 * cpu_s / tokens, 1e6 * own_s / tokens)


def run(model: Path, *, rounds: int, threads: int = 1) -> tuple[list[list[Speed]], processes.Memory]:
    """All works in turn on all three ways to the engine: one list per round; and our server's memory after it all."""
    port = processes.free_port()
    env = {"BENCH_GGUF": str(model.resolve()), "BENCH_THREADS": str(threads), "LLAMA_STACK_HOME": "state"}
    command = targets.llama("stack", "run", str(targets.HERE / "engine.yaml"), "--port", str(port))
    with raw(model, threads) as engine, processes.running(targets.OURS, command, port=port, env=env) as server:
        forbidden = uvloop.run(forbidden_tokens(engine))

        def http(base_url: str, headers: dict[str, str], work: Work) -> tuple[int, float]:
            return uvloop.run(over_http(base_url, headers, work, forbidden))

        ways = [
            Way(IN_PROCESS, engine.pid, lambda work: engine.obey(work, forbidden)),
            Way(LISTENER, engine.pid, partial(http, engine.base_url, engine.headers)),
            Way(targets.OURS, server.pid, partial(http, server.base_url, {})),
        ]
        warm_up_and_rounds = [[way.measure(work) for work in WORKS for way in ways] for _ in range(rounds + 1)]
        return warm_up_and_rounds[1:], processes.memory(server.pid)


def _figures(rounds: Sequence[Sequence[Speed]], work: str, target: str, figure: str) -> list[float]:
    return [getattr(speed, figure) for one in rounds for speed in one if (speed.target, speed.work) == (target, work)]


def _share(rounds: Sequence[Sequence[Speed]], work: str, beside: str) -> float:
    """Our tokens/s as a share of another's: the median of the rounds' shares."""
    ours = _figures(rounds, work, targets.OURS, "tokens_per_second")
    theirs = _figures(rounds, work, beside, "tokens_per_second")
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def table(rounds: Sequence[Sequence[Speed]], held: processes.Memory) -> str:
    """Medians of tokens/s, our shares, the CPU of engine and server for a token, and what the server held."""
    rows = []
    for work in WORKS:
        row = [work.name]
        for target in (IN_PROCESS, LISTENER, targets.OURS):
            row.append(number(statistics.median(_figures(rounds, work.name, target, "tokens_per_second")), 0))
        for beside in (LISTENER, IN_PROCESS):
            row.append(f"{100 * _share(rounds, work.name, beside):.0f} %")
        for target, figure in ((LISTENER, "cpu_us"), (targets.OURS, "own_cpu_us")):
            row.append(number(statistics.median(_figures(rounds, work.name, target, figure)), 0))
        rows.append(row)
    shares = ["ours / listener", "ours / in process"]
    costs = [f"CPU us/token, {LISTENER}", "CPU us/token, our server"]
    speeds = markdown(["tokens/s", IN_PROCESS, LISTENER, targets.OURS, *shares, *costs], rows)
    engine_mb = held.tree_rss - held.main_rss
    return (
        f"{speeds}\n\nAfter this our server held {held.main_rss:.0f} MB, its engine process {engine_mb:.0f} MB (RSS)."
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description="The embedded engine through our server and alone.")
    parser.add_argument("--model", type=Path, default=SHIPPED, help="a GGUF; default: the one that ships")
    parser.add_argument("--threads", type=int, default=1, help="compute threads, of both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    rounds, held = run(arguments.model, rounds=arguments.rounds, threads=arguments.threads)
    print(table(rounds, held))
    if arguments.json:
        arguments.json.write_text(json.dumps([[asdict(speed) for speed in one] for one in rounds], indent=1))


if __name__ == "__main__":
    _main()
