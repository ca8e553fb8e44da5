"""Load on an OpenAI-compatible server: so many requests at once for so long, every answer checked.

    python -m benchmarks.load --base-url http://127.0.0.1:8321/v1 --model mock stream-c16 [--pid SERVER]

The client is raw asyncio and httptools, one keep-alive connection per worker, so that it costs less than what it
measures. It expects the answers of `benchmarks.mock_upstream` behind the server. Loopback only.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

from benchmarks import mock_mcp, mock_upstream, processes

REQUEST_TIMEOUT_S = 30.0
WARM_UP_S = 0.5
# Measured by nobody, seen by everybody: beyond this a server is broken, not slow.
MAX_ERRORS = 20


@dataclass(frozen=True)
class Cell:
    """One kind of work at one concurrency. `path` is below the base URL. must_hold: what every answer has to hold,
    where that is not known from the path."""

    name: str
    path: str
    body: dict[str, Any]
    concurrency: int
    must_hold: tuple[bytes, ...] = ()

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))


_MESSAGES = [{"role": "user", "content": "Tell me about the river in fifty words."}]


def _chat(name: str, concurrency: int) -> Cell:
    body = {"model": mock_upstream.CHAT_MODEL, "messages": _MESSAGES, "max_tokens": 64}
    return Cell(name, "/chat/completions", body, concurrency)


def _stream(name: str, concurrency: int, model: str = mock_upstream.CHAT_MODEL) -> Cell:
    body = {"model": model, "messages": _MESSAGES, "max_tokens": 128, "stream": True}
    return Cell(name, "/chat/completions", body, concurrency)


def _embed(name: str, concurrency: int) -> Cell:
    body = {"model": mock_upstream.EMBEDDING_MODEL, "input": "a passage about slow barges and stone bridges"}
    return Cell(name, "/embeddings", body, concurrency)


CELLS = {
    cell.name: cell
    for cell in (
        _chat("chat-c1", 1),
        _chat("chat-c16", 16),
        _chat("chat-c64", 64),
        _stream("stream-c1", 1),
        _stream("stream-c16", 16),
        _stream("paced-c16", 16, mock_upstream.PACED_MODEL),
        _embed("embed-c1", 1),
        _embed("embed-c16", 16),
    )
}


def turn(name: str, concurrency: int, mcp_url: str) -> Cell:
    """A whole agent's turn: a model call, one tool of an MCP server, a model call."""
    tool = {"type": "mcp", "server_label": "weather", "server_url": mcp_url, "require_approval": "never"}
    body = {"model": mock_upstream.TOOL_MODEL, "input": "Is it raining in Oslo?", "tools": [tool]}
    return Cell(name, "/responses", body, concurrency)


@dataclass(frozen=True)
class Sample:
    """What one server did in one cell. Times in ms; None where the cell or the server has no such figure.

    cpu_ms: CPU of the server's process tree per request. first_chunk_p50_ms: from the request to the first word of
    the answer. cpu_us_per_chunk: CPU of the whole stream over its chunks. other_cores: cores kept busy meanwhile by
    anything but server, client and upstream: the measure of disturbance.
    """

    target: str
    cell: str
    requests: int
    errors: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float | None = None
    first_chunk_p50_ms: float | None = None
    chunks_per_second: float | None = None
    cpu_us_per_chunk: float | None = None
    other_cores: float | None = None
    first_error: str | None = None


@dataclass(frozen=True)
class Exchange:
    """One request and its answer. first_s is None when the first word of the answer never came."""

    status: int
    body: bytes
    first_s: float | None
    total_s: float


class BadAnswer(Exception):
    """The server answered something else than what the upstream said."""


class Connection(asyncio.Protocol):
    """A client's keep-alive connection, one request at a time. httptools calls the `on_...` methods."""

    _first_word = mock_upstream.FIRST_WORD.encode()

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._first: float | None = None
        self._done: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True  # uvloop's is one by duty, not by class

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the server closed the connection before its answer ended"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._done is not None and not self._done.done():
                self._done.set_exception(BadAnswer(f"not HTTP: {error}"))

    def on_body(self, body: bytes) -> None:
        if self._first is None and self._first_word in body:
            self._first = time.perf_counter()
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self.open = self.open and self._parser.should_keep_alive()
        if self._done is not None and not self._done.done():
            self._done.set_result(self._parser.get_status_code())

    async def exchange(self, request: bytes) -> Exchange:
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._parts, self._first = [], None
        self._done = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        self._transport.write(request)
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            status = await self._done
        first_s = None if self._first is None else self._first - start
        return Exchange(status, b"".join(self._parts), first_s, time.perf_counter() - start)

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()


def http_request(base_url: str, cell: Cell, model_prefix: str = "") -> bytes:
    """The bytes of the cell's request. `model_prefix` is what the server puts before the upstream's model names."""
    url = urlsplit(base_url)
    model = {"model": model_prefix + cell.body["model"]} if "model" in cell.body else {}
    body = orjson.dumps({**cell.body, **model})
    head = (
        f"POST {url.path.rstrip('/')}{cell.path} HTTP/1.1\r\nhost: {url.netloc}\r\naccept: */*\r\n"
        f"content-type: application/json\r\nauthorization: Bearer none\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def checked_chunks(cell: Cell, exchange: Exchange) -> int:
    """How many chunks of content the answer has (0 for a whole answer). Raises BadAnswer where it is not what the
    upstream said."""
    if exchange.status != 200:
        raise BadAnswer(f"status {exchange.status}: {exchange.body[:200]!r}")
    if cell.must_hold:
        missing = [part for part in cell.must_hold if part not in exchange.body]
        if missing:
            raise BadAnswer(f"{missing[0]!r} is missing in {exchange.body[:400]!r}")
        return 0
    if cell.path == "/embeddings":
        if b'"embedding"' not in exchange.body:
            raise BadAnswer(f"no embedding in {exchange.body[:200]!r}")
        return 0
    if cell.path == "/responses" and mock_mcp.RESULT.encode() not in exchange.body:
        raise BadAnswer(f"the tool's result is missing in {exchange.body[:400]!r}")
    if not cell.streamed:
        if mock_upstream.ANSWER.encode() not in exchange.body:
            raise BadAnswer(f"not the upstream's answer: {exchange.body[:200]!r}")
        return 0
    # Counted rather than parsed: parsing would cost the client more than the server spends. A server may add a frame
    # for the role or the finish reason; none may lose or merge one.
    chunks = exchange.body.count(b'"delta"')
    if exchange.first_s is None or chunks < mock_upstream.CHUNKS:
        raise BadAnswer(f"{chunks} chunks, the last bytes are {exchange.body[-200:]!r}")
    return mock_upstream.CHUNKS


@dataclass
class _Window:
    """What completed while the window was open. `something`: a request has completed in it, or failed."""

    open: bool = False
    closed: bool = False
    something: asyncio.Event = field(default_factory=asyncio.Event)
    totals_s: list[float] = field(default_factory=list)
    firsts_s: list[float] = field(default_factory=list)
    chunks: int = 0
    errors: list[str] = field(default_factory=list)

    def record(self, exchange: Exchange, chunks: int) -> None:
        if self.open:
            self.something.set()
            self.totals_s.append(exchange.total_s)
            self.chunks += chunks
            if exchange.first_s is not None:
                self.firsts_s.append(exchange.first_s)

    def record_error(self, error: Exception) -> None:
        self.something.set()
        self.errors.append(f"{type(error).__name__}: {error}")


async def _work(base_url: str, cell: Cell, request: bytes, window: _Window) -> None:
    """One worker: request after request until the window closes."""
    url = urlsplit(base_url)
    host, port = url.hostname or "", url.port or 80
    loop = asyncio.get_running_loop()
    connection: Connection | None = None
    try:
        while not window.closed and len(window.errors) < MAX_ERRORS:
            if connection is None or not connection.open:
                if connection is not None:
                    connection.close()
                _, connection = await loop.create_connection(Connection, host, port)
            try:
                exchange = await connection.exchange(request)
                window.record(exchange, checked_chunks(cell, exchange))
            except (BadAnswer, OSError, TimeoutError) as error:
                window.record_error(error)
                connection.close()
    finally:
        if connection is not None:
            connection.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed. NaN of nothing."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    rank = -(-share * len(ordered) // 1)  # ceiling
    return ordered[max(0, int(rank) - 1)]


async def measure(
    base_url: str,
    cell: Cell,
    *,
    target: str,
    model_prefix: str = "",
    pid: int | None = None,
    upstream_pid: int | None = None,
    seconds: float = 2.0,
    warm_up_s: float = WARM_UP_S,
) -> Sample:
    """Load `base_url` with the cell for `seconds` after a warm-up. `pid`: the server, for its CPU; requests that
    straddle one end of the window and those that straddle the other cancel out to about one per worker."""
    if urlsplit(base_url).hostname not in {"127.0.0.1", "localhost"}:
        raise ValueError(f"{base_url} is not on loopback")
    window = _Window()
    request = http_request(base_url, cell, model_prefix)
    pids = {one for one in (pid, upstream_pid) if one is not None}
    async with asyncio.TaskGroup() as group:
        for _ in range(cell.concurrency):
            group.create_task(_work(base_url, cell, request, window))
        await asyncio.sleep(warm_up_s)
        machine_0, client_0 = processes.machine_cpu_s(), time.process_time()
        cpu_0 = {one: processes.cpu_s(one) for one in pids}
        window.open, start = True, time.perf_counter()
        await asyncio.sleep(seconds)
        await window.something.wait()  # a server may be slower than the window
        window.open, elapsed_s = False, time.perf_counter() - start
        cpu = {one: processes.cpu_s(one) - cpu_0[one] for one in pids}
        known_cpu = sum(cpu.values()) + time.process_time() - client_0
        other_cores = max(0.0, processes.machine_cpu_s() - machine_0 - known_cpu) / elapsed_s
        window.closed = True
    server_cpu_s = cpu[pid] if pid is not None else None
    return _sample(target, cell, window, elapsed_s, server_cpu_s, other_cores)


def _sample(
    target: str, cell: Cell, window: _Window, elapsed_s: float, cpu_s: float | None, other_cores: float
) -> Sample:
    count = len(window.totals_s)
    return Sample(
        target=target,
        cell=cell.name,
        requests=count,
        errors=len(window.errors),
        per_second=count / elapsed_s,
        p50_ms=1000 * percentile(window.totals_s, 0.5),
        p99_ms=1000 * percentile(window.totals_s, 0.99),
        cpu_ms=1000 * cpu_s / count if cpu_s is not None and count else None,
        first_chunk_p50_ms=1000 * statistics.median(window.firsts_s) if cell.streamed and window.firsts_s else None,
        chunks_per_second=window.chunks / elapsed_s if cell.streamed else None,
        cpu_us_per_chunk=1e6 * cpu_s / window.chunks if cpu_s is not None and window.chunks else None,
        other_cores=other_cores,
        first_error=window.errors[0] if window.errors else None,
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description="One cell of load on a server.")
    parser.add_argument("cell", choices=CELLS)
    parser.add_argument("--base-url", required=True, help="with its /v1")
    parser.add_argument("--model-prefix", default="", help="what the server puts before the upstream's model names")
    parser.add_argument("--pid", type=int, help="process of the server, for its CPU time")
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    sample = uvloop.run(
        measure(
            arguments.base_url,
            CELLS[arguments.cell],
            target=arguments.base_url,
            model_prefix=arguments.model_prefix,
            pid=arguments.pid,
            seconds=arguments.seconds,
        )
    )
    print(json.dumps(asdict(sample), indent=2))


if __name__ == "__main__":
    _main()
