"""Uploads that are large, that break off, and that never end: bounded memory, and nothing is left behind."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from openai import OpenAI

from llama_stack.server import uploads
from tests.files.conftest import PATIENCE_S, Running, Start, contents_in, until

SERVING = Path(__file__).with_name("serving.py")
MEGABYTE = 1_000_000
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'


@contextmanager
def served(home: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    process = subprocess.Popen(
        [sys.executable, str(SERVING), str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_an_upload_and_a_download_take_little_memory(tmp_path: Path) -> None:
    size_bytes = 30 * MEGABYTE
    source = tmp_path / "big.bin"
    source.write_bytes(os.urandom(MEGABYTE) * 30)
    with served(tmp_path) as (url, process), OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        # What a first upload and download load stays for good.
        small = client.files.create(file=("small.bin", b"x" * 2 * MEGABYTE), purpose="assistants")
        client.files.content(small.id).read()
        before = peak_bytes(process.pid)
        peaks = []
        for _ in range(3):
            with source.open("rb") as opened:
                big = client.files.create(file=opened, purpose="assistants")
            assert big.bytes == size_bytes
            peaks.append(peak_bytes(process.pid))
        assert client.files.content(big.id).read() == source.read_bytes()
        peaks.append(peak_bytes(process.pid))
    growth = max(peaks) - before
    assert growth < size_bytes / 3, f"the server grew by {growth / MEGABYTE:.1f} MB"


def peak_bytes(pid: int) -> int:
    """The most the process ever had in memory, where the system tells (proc(5)); what it has now elsewhere."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return int(psutil.Process(pid).memory_info().rss)
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


async def begin_upload(
    url: str, size_bytes: int, chunk: bytes = b""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which an upload has begun that announces so many bytes."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-length: {size_bytes}\r\n"
        "content-type: multipart/form-data; boundary=b\r\n\r\n"
    )
    writer.write(head.encode() + FORM + chunk)
    await writer.drain()
    return reader, writer


def has_content(server_folder: Path) -> bool:
    return any(path.stat().st_size > 0 for path in server_folder.rglob("*.part"))


async def test_a_client_that_hangs_up_leaves_nothing(start: Start) -> None:
    async with start() as server:
        _, writer = await begin_upload(server.url, 10 * MEGABYTE, b"x" * 3 * MEGABYTE)
        await until(lambda: has_content(server.folder))
        writer.close()
        await until(lambda: contents_in(server.folder) == set())
        assert (await server.openai.files.list()).data == []


async def test_a_server_that_is_killed_leaves_what_the_next_one_clears_up(start: Start, tmp_path: Path) -> None:
    with served(tmp_path) as (url, process):
        _, writer = await begin_upload(url, 10 * MEGABYTE, b"x" * 3 * MEGABYTE)
        await until(lambda: has_content(tmp_path / "files"))
        process.kill()
        await asyncio.to_thread(process.wait, PATIENCE_S)
        writer.close()
    assert len(contents_in(tmp_path / "files")) == 2
    async with start() as server:
        # What a server does beside its first requests; nobody needs to ask for a file.
        await server.stack.take_up()
        assert contents_in(server.folder) == set()
        assert (await server.openai.files.list()).data == []


async def test_a_server_that_has_no_files_makes_no_folder_for_them(start: Start) -> None:
    async with start() as server:
        await server.stack.take_up()
        assert not await asyncio.to_thread(server.folder.exists)


async def test_a_client_that_sends_nothing_more_loses_its_place(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STALL_S", 0.05)
    async with start() as server:
        reader, writer = await begin_upload(server.url, 10 * MEGABYTE)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.readuntil(b"}}")
        writer.close()
        assert b"400 Bad Request" in answer
        assert b"upload_stalled" in answer
        await until(lambda: contents_in(server.folder) == set())


async def test_an_announced_length_beyond_the_limit_is_refused_before_it_comes(start: Start) -> None:
    async with start(max_file_bytes=MEGABYTE) as server:
        reader, writer = await begin_upload(server.url, 10 * MEGABYTE)
        async with asyncio.timeout(PATIENCE_S):
            answer = await reader.readuntil(b"}}")
        writer.close()
        assert b"413 " in answer


async def test_many_at_once_do_not_mix(start: Start) -> None:
    async with start() as server:
        contents = [os.urandom(300_000) for _ in range(20)]

        async def send(server: Running, number: int) -> str:
            made = await server.openai.files.create(file=(f"{number}", contents[number]), purpose="batch")
            return made.id

        async with asyncio.TaskGroup() as group:
            sending = [group.create_task(send(server, number)) for number in range(20)]
        for number, task in enumerate(sending):
            assert (await server.openai.files.content(task.result())).read() == contents[number]
        assert len(contents_in(server.folder)) == 20


async def test_an_upload_without_a_length(start: Start) -> None:
    async def form() -> AsyncGenerator[bytes, None]:
        yield b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n' + FORM
        for _ in range(50):
            yield b"x" * 50_000
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    async with start() as server:
        made = await server.http.post("/v1/files", content=form(), headers=headers)
    assert made.json()["bytes"] == 2_500_000
