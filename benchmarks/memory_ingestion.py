"""Does a server answer promptly while it takes in a large PDF? And how fast is it taken in?

    python -m benchmarks.memory_ingestion [--pages 80] [--limit 180] [--json FILE]

The starter distribution, with its embedded model, gets a PDF of 20 MB: 80 pages, each 2,500 characters of text and a
picture that fills the rest. Until its vector store says that the file is in, /v1/health is asked every 10 ms; beside
it stand the same figures of the two seconds before. The PDF is made by fpdf2 (`pip install fpdf2 pillow`).
"""

import argparse
import asyncio
import io
import json
import math
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvloop

from benchmarks import load, memory_rows, processes, report, targets

PAGE_CHARACTERS = 2_500
PDF_BYTES = 20_000_000
PAUSE_S = 0.01
ASK_S = 0.5
BEFORE_S = 2.0


@dataclass(frozen=True)
class Outcome:
    """Times of /v1/health in ms. wall_s, cpu_s: from attaching the file to its end; CPU of the server and all its
    processes. main_cpu_s: of the server's own process. chunks: 0 where it did not end in time."""

    size_bytes: int
    pages: int
    state: str
    chunks: int
    wall_s: float
    cpu_s: float
    main_cpu_s: float
    before_p50_ms: float
    before_p99_ms: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    asked: int
    other_cores: float


def made_pdf(pages: int, size_bytes: int = PDF_BYTES) -> bytes:
    """Text under a heading and a picture on every page. Pictures are noise, three bytes a pixel, which nothing
    compresses: they bring the file to its size."""
    from fpdf import FPDF
    from PIL import Image

    noise = random.Random(11)
    pixels = math.isqrt(size_bytes // pages // 3)
    pdf = FPDF()
    pdf.set_auto_page_break(False)
    texts = [text for block in range(pages // memory_rows.BLOCK_ROWS + 1) for text in _texts(block)]
    for page in range(pages):
        pdf.add_page()
        pdf.set_font("helvetica", "B", 14)
        pdf.cell(text=f"Section {page + 1}", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("helvetica", size=9)
        pdf.multi_cell(0, 4, texts[page], new_x="LMARGIN", new_y="NEXT")
        picture = io.BytesIO()
        Image.frombytes("RGB", (pixels, pixels), noise.randbytes(3 * pixels**2)).save(picture, "PNG")
        picture.seek(0)
        pdf.image(picture, w=40)
    return bytes(pdf.output())


def _texts(block: int) -> list[str]:
    return memory_rows.block(block, PAGE_CHARACTERS).texts


@asynccontextmanager
async def _asking(base_url: str) -> AsyncIterator[list[float]]:
    """Times of /v1/health in seconds, more and more of them until the block ends."""
    url = urlsplit(base_url)
    request = f"GET /v1/health HTTP/1.1\r\nhost: {url.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(load.Connection, url.hostname or "", url.port or 80)
    times_s: list[float] = []

    async def ask() -> None:
        while True:
            exchange = await connection.exchange(request)
            if exchange.status != 200:
                raise load.BadAnswer(f"/v1/health answered {exchange.status}")
            times_s.append(exchange.total_s)
            await asyncio.sleep(PAUSE_S)

    asking = asyncio.create_task(ask())
    try:
        yield times_s
        if asking.done():
            asking.result()
    finally:
        asking.cancel()
        await asyncio.wait([asking])
        connection.close()


async def _ingested(server: processes.RunningServer, content: bytes, pages: int, limit_s: float) -> Outcome:
    async with httpx.AsyncClient(base_url=server.base_url, timeout=60, trust_env=False) as http:

        async def call(method: str, path: str, **more: Any) -> Any:
            return (await http.request(method, path, **more)).raise_for_status().json()

        store = (await call("POST", "/v1/vector_stores", json={"name": "bench"}))["id"]
        # What is loaded once, the engine and its model among it, is loaded before.
        warm = await _upload(call, "warm.md", b"Barges carry grain past quiet villages.")
        await call("POST", f"/v1/vector_stores/{store}/files", json={"file_id": warm})
        await _ended(call, store, warm, limit_s)
        file_id = await _upload(call, "large.pdf", content)
        async with _asking(server.base_url) as before:
            await asyncio.sleep(BEFORE_S)
        cpu_0, main_0, start = processes.cpu_s(server.pid), processes.own_cpu_s(server.pid), time.perf_counter()
        machine_0, client_0 = processes.machine_cpu_s(), time.process_time()
        async with _asking(server.base_url) as during:
            await call("POST", f"/v1/vector_stores/{store}/files", json={"file_id": file_id})
            state = await _ended(call, store, file_id, limit_s)
        wall_s, cpu_s = time.perf_counter() - start, processes.cpu_s(server.pid) - cpu_0
        others_s = processes.machine_cpu_s() - machine_0 - cpu_s - (time.process_time() - client_0)
        chunks = 0
        if state == "completed":
            chunks = len((await call("GET", f"/v1/vector_stores/{store}/files/{file_id}/content"))["data"])
        return Outcome(
            size_bytes=len(content),
            pages=pages,
            state=state,
            chunks=chunks,
            wall_s=wall_s,
            cpu_s=cpu_s,
            main_cpu_s=processes.own_cpu_s(server.pid) - main_0,
            before_p50_ms=1000 * load.percentile(before, 0.5),
            before_p99_ms=1000 * load.percentile(before, 0.99),
            p50_ms=1000 * load.percentile(during, 0.5),
            p99_ms=1000 * load.percentile(during, 0.99),
            worst_ms=1000 * max(during),
            asked=len(during),
            other_cores=max(0.0, others_s) / wall_s,
        )


async def _upload(call: Any, name: str, content: bytes) -> str:
    answer = await call("POST", "/v1/files", data={"purpose": "assistants"}, files={"file": (name, content)})
    return str(answer["id"])


async def _ended(call: Any, store: str, file_id: str, limit_s: float) -> str:
    """The file's state, at the latest after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while True:
        one = await call("GET", f"/v1/vector_stores/{store}/files/{file_id}")
        if one["status"] != "in_progress" or time.monotonic() > deadline:
            return f"{one['status']}: {one['last_error']['message']}" if one.get("last_error") else str(one["status"])
        await asyncio.sleep(ASK_S)


def run(pages: int, limit_s: float) -> Outcome:
    content = made_pdf(pages)
    port = processes.free_port()
    command = targets.llama("stack", "run", "starter", "--port", str(port))
    with processes.running(targets.OURS, command, port=port, env={"LLAMA_STACK_HOME": "state"}) as server:
        return uvloop.run(_ingested(server, content, pages, limit_s))


def table(one: Outcome) -> str:
    rows = [
        ["/v1/health before, p50 and p99 ms", f"{one.before_p50_ms:.1f}, {one.before_p99_ms:.1f}"],
        ["/v1/health meanwhile, p50 and p99 ms", f"{one.p50_ms:.1f}, {one.p99_ms:.1f}"],
        [f"slowest of {one.asked:,}, ms", f"{one.worst_ms:.1f}"],
        ["the file", one.state],
        ["seconds", f"{one.wall_s:.1f}"],
        ["pages/s", report.number(one.pages / one.wall_s, 1) if one.chunks else "-"],
        ["chunks/s", report.number(one.chunks / one.wall_s, 1) if one.chunks else "-"],
        ["CPU ms a chunk", report.number(1000 * one.cpu_s / one.chunks, 1) if one.chunks else "-"],
        ["CPU s of the server's own process", f"{one.main_cpu_s:.1f} of {one.cpu_s:.1f}"],
    ]
    title = f"PDF of {one.size_bytes / 1e6:.1f} MB, {one.pages} pages, {one.chunks:,} chunks"
    noise = f"Meanwhile other processes kept {one.other_cores:.2f} of {os.cpu_count()} cores busy."
    return f"{report.markdown([title, ''], rows)}\n\n{noise}"


def _main() -> None:
    parser = argparse.ArgumentParser(description="A server's answers while it takes in a large PDF.")
    parser.add_argument("--pages", type=int, default=80)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds after which it is given up")
    parser.add_argument("--json", type=Path, help="write every figure here")
    arguments = parser.parse_args()
    outcome = run(arguments.pages, arguments.limit)
    print(table(outcome))
    if arguments.json:
        arguments.json.write_text(json.dumps(asdict(outcome), indent=1))


if __name__ == "__main__":
    _main()
