"""Processes that read documents, so that a file which crashes, hangs or swells takes nothing else with it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.frames import LENGTH, decoded_body, encoded
from llama_stack.documents.limits import ReadingLimits
from llama_stack.errors import RateLimited

START_TIMEOUT_S = 60.0
MAX_WAITING = 1000
"""Reads that may wait for a process; beyond that, whoever asks is told to come again."""

READS_PER_PROCESS = 500
"""Then a fresh process takes over: what libraries leak must not add up to the memory limit."""

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "VIRTUAL_ENV")
_ANSWER_BYTES_PER_CHARACTER = 16
"""More than any answer takes for a character of text: its UTF-8, escapes, and the blocks' spans."""
_WRITE_BYTES = 1 << 20


@dataclass
class _Worker:
    """reads: how many documents it has read."""

    process: Process
    reads: int = 0


class Workers:
    """Up to `processes` workers, each started when it is first needed and again after it died."""

    def __init__(self, limits: ReadingLimits, processes: int) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(processes)
        self._idle: list[_Worker] = []
        self._waiting = 0

    async def ask(self, question: dict[str, Any], content: bytes | None) -> dict[str, Any]:
        """A worker's answer. content: follows the question.

        Raises DocumentUnreadable when the worker dies of the file or takes too long, RateLimited when too many wait.
        """
        if self._waiting >= MAX_WAITING:
            raise RateLimited(f"{self._waiting} documents wait to be read already; try again later")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._asked(question, content)
        finally:
            self._free.release()

    async def _asked(self, question: dict[str, Any], content: bytes | None) -> dict[str, Any]:
        worker = await self._worker()
        while True:
            try:
                async with asyncio.timeout(self._limits.time_limit_s):
                    answer = await self._exchanged(worker.process, question, content)
            except TimeoutError:
                await _end(worker.process)
                raise DocumentUnreadable(
                    f"reading it takes longer than {self._limits.time_limit_s:g} s; split it into smaller files, or"
                    " raise time_limit_s",
                    code="too_complex",
                ) from None
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                status = await _end(worker.process)
                if worker.reads == 0:
                    raise _death(0 if isinstance(error, ValueError) else status) from None
                # It may have died of what it read before; of this file it dies again.
                worker = await self._started()
            except BaseException:
                # A cancelled caller: what the worker still does is of no use to anybody.
                await _end(worker.process)
                raise
            else:
                worker.reads += 1
                self._idle.append(worker)
                return answer

    async def _worker(self) -> _Worker:
        """An idle worker that still lives and has not read its share, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.process.returncode is None and worker.reads < READS_PER_PROCESS:
                return worker
            await _end(worker.process)
        return await self._started()

    async def _started(self) -> _Worker:
        worker = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-B", "-m", "llama_stack.documents.worker", self._limits.model_dump_json(),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=_environment(), start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._answer(worker)
        except BaseException as error:
            status = await _end(worker)
            if isinstance(error, TimeoutError | asyncio.IncompleteReadError | ValueError):
                raise RuntimeError(f"a process for reading documents did not start (exit status {status})") from error
            raise
        return _Worker(worker)

    async def _exchanged(self, worker: Process, question: dict[str, Any], content: bytes | None) -> dict[str, Any]:
        assert worker.stdin is not None
        worker.stdin.write(encoded(question))
        for start in range(0, len(content or b""), _WRITE_BYTES):
            worker.stdin.write(memoryview(content or b"")[start : start + _WRITE_BYTES])
            await worker.stdin.drain()
        await worker.stdin.drain()
        return await self._answer(worker)

    async def _answer(self, worker: Process) -> dict[str, Any]:
        assert worker.stdout is not None
        (size,) = LENGTH.unpack(await worker.stdout.readexactly(LENGTH.size))
        if size > (self._limits.max_text_characters + 65_536) * _ANSWER_BYTES_PER_CHARACTER:
            raise ValueError("an answer longer than any document")
        body = await worker.stdout.readexactly(size)
        # A long document takes its time to be understood, and others are served meanwhile.
        return await asyncio.to_thread(decoded_body, body) if size > _WRITE_BYTES else decoded_body(body)

    async def close(self) -> None:
        """End every idle worker; busy ones end with those who wait for them."""
        while self._idle:
            await _end(self._idle.pop().process)


def _environment() -> dict[str, str]:
    """None of the secrets that our own environment may hold, and the same modules, wherever they were found."""
    kept = {name: value for name in _KEPT_VARIABLES if (value := os.environ.get(name)) is not None}
    return {**kept, "PYTHONPATH": os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path if folder)}


async def _end(worker: Process) -> int:
    """Kill the process and wait until it and its pipes are gone, even when the caller is cancelled meanwhile."""
    ending = asyncio.create_task(_ended(worker))
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        await ending
        raise


async def _ended(worker: Process) -> int:
    if worker.returncode is None:
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                worker.kill()
            else:
                # `Process.kill` looks whether it is dead already, and then its exit status is lost to the loop.
                os.kill(worker.pid, signal.SIGKILL)
    if worker.stdin is not None:
        worker.stdin.close()
    if worker.stdout is not None:
        while await worker.stdout.read(_WRITE_BYTES):
            pass
    return await worker.wait()


def _death(status: int) -> DocumentUnreadable:
    """Why a worker died while it read, from the status that was there before it was killed."""
    if -status in {getattr(signal, name, None) for name in ("SIGKILL", "SIGXCPU")}:
        return DocumentUnreadable(
            "reading it needs more memory or processor time than allowed; split it into smaller files",
            code="too_complex",
        )
    return DocumentUnreadable(
        "reading it crashed the reader; it may be damaged: open it with its program, save it again and send that file",
        code="damaged",
    )
