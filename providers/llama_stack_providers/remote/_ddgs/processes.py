"""A few searching processes: kept for the next search, ended when theirs is no longer wanted."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llama_stack.errors import ProviderFailed

WORKER = Path(__file__).with_name("worker.py")
COMMAND = [sys.executable, "-P", str(WORKER)]
IDLE_S = 60.0
"""How long a process waits for the next search; a new one takes a third of a second to start."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class SearchProcesses:
    """At most so many searches at the same time, each in a process; further ones wait. Who opens it closes it."""

    def __init__(self, settings: dict[str, Any], most: int, command: Sequence[str] | None = None) -> None:
        self._command = [*(command or COMMAND), json.dumps(settings)]
        self._slots = asyncio.Semaphore(most)
        self._idle: dict[Process, asyncio.TimerHandle] = {}
        self._all: set[Process] = set()

    async def answer(self, query: str) -> dict[str, Any]:
        """What the worker says to a query; cancelling this ends the search and its process at once.

        Raises ProviderFailed when the process ends instead, or says too much.
        """
        async with self._slots:
            kept = self._kept()
            if kept is not None:
                with suppress(_Gone):  # it may have ended since its last search
                    return await self._answer_of(kept, query)
            try:
                return await self._answer_of(await self._started(), query)
            except _Gone as gone:
                raise ProviderFailed("the search ended without an answer") from gone

    async def _answer_of(self, process: Process, query: str) -> dict[str, Any]:
        try:
            said = await _exchange(process, query)
        except BaseException:
            await asyncio.shield(self._ended(process))
            raise
        self._idle[process] = asyncio.get_running_loop().call_later(IDLE_S, self._retire, process)
        return said

    def _kept(self) -> Process | None:
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if process.returncode is None:
                return process
            self._all.discard(process)
        return None

    async def _started(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL, limit=MAX_ANSWER_BYTES
        )
        self._all = {known for known in self._all if known.returncode is None} | {process}
        return process

    def _retire(self, process: Process) -> None:
        self._idle.pop(process, None)
        if process.stdin is not None:
            process.stdin.close()  # it ends with its questions

    async def _ended(self, process: Process) -> None:
        self._all.discard(process)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def close(self) -> None:
        for timer in self._idle.values():
            timer.cancel()
        self._idle.clear()
        async with asyncio.TaskGroup() as group:
            for process in list(self._all):
                group.create_task(self._ended(process))


class _Gone(Exception):
    """The process has ended."""


async def _exchange(process: Process, query: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(query).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
    except OSError as error:
        raise _Gone from error
    except ValueError as error:
        raise ProviderFailed(f"the search found more than {MAX_ANSWER_BYTES} bytes") from error
    if not line.endswith(b"\n"):
        raise _Gone
    said = json.loads(line)
    assert isinstance(said, dict)
    return said
