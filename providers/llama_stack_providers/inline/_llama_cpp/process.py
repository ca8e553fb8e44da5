"""A worker process and its life: start, watch, end."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llama_stack.errors import ProviderUnavailable
from llama_stack_providers.inline._llama_cpp.worker import WorkerOrders

UNIX_SOCKETS = sys.platform != "win32"
MAX_SOCKET_PATH = 103
"""Bytes. Of the systems with such sockets macOS takes the shortest paths (`sun_path` in its sys/un.h)."""
SOCKET_NAME = "engine.sock"
"""llama.cpp knows a socket by its ending."""
STOP_TIMEOUT_S = 5.0
KEPT_LINES = 40


class WorkerProcess:
    """One running worker. `address` is where it listens: a socket path or `http://host:port`.

    Whoever starts it stops it. `ended` is set when the process is gone, for whatever reason.
    """

    def __init__(self, model: str, process: asyncio.subprocess.Process, orders: WorkerOrders) -> None:
        self.model = model
        self.orders = orders
        self.address = ""
        self.ended = asyncio.Event()
        self._process = process
        self._words: deque[str] = deque(maxlen=KEPT_LINES)
        self._watching = asyncio.create_task(self._watch(), name=f"watch worker {process.pid}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, model: str, orders: WorkerOrders, timeout_s: float) -> "WorkerProcess":
        """Start a worker and wait until it can answer.

        Raises ProviderUnavailable with llama.cpp's reason when the model does not load, or not within `timeout_s`.
        """
        folder = _folder_of_socket()
        if folder is not None:
            orders = replace(orders, socket=str(folder / SOCKET_NAME))
        orders = replace(orders, api_key=secrets.token_urlsafe(24))
        try:
            worker = await cls._spawn(model, orders)
        except BaseException as error:
            _remove(folder)
            if isinstance(error, OSError):
                raise ProviderUnavailable(f"cannot start a worker for model {model!r}: {error}") from error
            raise
        try:
            async with asyncio.timeout(timeout_s):
                await worker._report()
        except TimeoutError as error:
            raise ProviderUnavailable(
                f"model {model!r} did not load within {timeout_s:g} s; raise start_timeout_s or lower context_length"
            ) from error
        finally:
            if not worker.address:
                await worker.kill()
        return worker

    @classmethod
    async def _spawn(cls, model: str, orders: WorkerOrders) -> "WorkerProcess":
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a file of the working folder must not pass for a module
                "-m",
                "llama_stack_providers.inline._llama_cpp.worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )
        try:
            # Cancelled halfway, asyncio's own function waits for a process that nobody ends.
            process = await asyncio.shield(spawning)
        except asyncio.CancelledError:
            begun = await spawning
            begun.kill()
            await begun.wait()
            raise
        assert process.stdin is not None
        process.stdin.write(orders.to_line())
        return cls(model, process, orders)

    async def _report(self) -> None:
        """Wait for the worker's one line. Raises ProviderUnavailable when it failed, in words or by its end."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        report = json.loads(line) if line else {}
        if "address" in report:
            self.address = self.orders.socket or str(report["address"])
            return
        await self.ended.wait()
        reason = self._reason() or report.get("error") or self._exit()
        raise ProviderUnavailable(f"model {self.model!r} cannot be loaded: {reason}")

    async def _watch(self) -> None:
        assert self._process.stderr is not None
        unfinished = b""
        while chunk := await self._process.stderr.read(1 << 16):
            *lines, unfinished = (unfinished[-4096:] + chunk).split(b"\n")
            self._words.extend(line.decode("utf-8", "replace").rstrip() for line in lines)
        if unfinished:
            self._words.append(unfinished.decode("utf-8", "replace"))
        await self._process.wait()
        _remove(Path(self.orders.socket).parent if self.orders.socket else None)
        self.ended.set()

    def said(self, marker: str) -> str | None:
        """The last words of llama.cpp on standard error that hold the marker, with the lines after it."""
        words = list(self._words)
        for start in range(len(words) - 1, -1, -1):
            if marker in words[start]:
                return "\n".join(words[start:])
        return None

    def _reason(self) -> str | None:
        """llama.cpp's first own error line, without its clock and level."""
        for line in self._words:
            clock, level, text = line.partition(" E ")
            if level and clock[:1].isdigit() and text:
                return text.strip()
        return self._words[-1] if self._words else None

    def _exit(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code}"

    async def failure(self) -> ProviderUnavailable:
        """The error of a request that lost its worker; waits a moment for the process to be gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2.0):
                await self.ended.wait()
        how = self._exit() if self.ended.is_set() else "it no longer answers"
        return ProviderUnavailable(
            f"the engine of model {self.model!r} stopped while it worked on this request: {how}; "
            "the next request starts it again"
        )

    async def stop(self) -> None:
        """Ask the process to end; returns when it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.ended.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End the process at once; while it loads a model it hears nothing else. Returns when it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await asyncio.shield(self._watching)


def _folder_of_socket() -> Path | None:
    """Of mode 0700, so nobody else reaches the socket. None where the worker listens on the loopback instead: there are
    no such sockets, or the folder for temporary files lies too deep for one.
    """
    if not UNIX_SOCKETS:
        return None
    folder = Path(tempfile.mkdtemp(prefix="llama-"))
    if len(os.fsencode(folder / SOCKET_NAME)) <= MAX_SOCKET_PATH:
        return folder
    folder.rmdir()
    return None


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
