"""The real console script, run in a process of its own: what a person types is what is tested."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

LLAMA = Path(sys.executable).with_name("llama")

START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0

Llama = Callable[..., subprocess.CompletedProcess[str]]


def assert_refused(done: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    """It ended with `code` and one message on stderr that holds the words; no stack trace, nothing on stdout."""
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


class RunningStack:
    """A `llama stack run` that answers. banner: what it said. url: where it serves."""

    def __init__(self, process: asyncio.subprocess.Process, banner: str) -> None:
        self.process = process
        self.banner = banner
        found = re.search(r" at (http://\S+)", banner)
        assert found is not None, banner
        self.url = found[1]

    async def stop(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send the signal; exit code, and what it wrote after the banner to stdout and stderr."""
        self.process.send_signal(number)
        out, err = await asyncio.wait_for(self.process.communicate(), STOP_LIMIT_S)
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def start_llama(*arguments: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`llama` in a process group of its own, which ends with the context whatever happened."""
    process = await asyncio.create_subprocess_exec(
        str(LLAMA),
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


@asynccontextmanager
async def run_stack(*arguments: str, **env: str) -> AsyncIterator[RunningStack]:
    """`llama stack run` with these arguments, from its banner on."""
    async with start_llama("stack", "run", *arguments, **env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            banner = await asyncio.wait_for(process.stdout.readuntil(b"Ctrl-C.\n"), START_LIMIT_S)
        except asyncio.IncompleteReadError as error:
            raise AssertionError((error.partial.decode(), (await process.stderr.read()).decode())) from None
        yield RunningStack(process, banner.decode())


def process_group_is_gone(process_id: int) -> bool:
    """Whether nothing a command started is left."""
    try:
        os.killpg(process_id, 0)
    except ProcessLookupError:
        return True
    return False
