"""What a driver of the code interpreter is, and what every driver shares."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from llama_stack.errors import ProviderUnavailable
from llama_stack_providers.inline._code_interpreter.settings import Config

Limit = Literal["time", "memory", "output", "processes", "disk"]

MB = 1 << 20
COMPLAINT_BYTES = 2000
WORKER = Path(__file__).with_name("worker.py")


class DriverUnavailable(ProviderUnavailable):
    """A driver cannot be used here. The message says why and ends with what to do."""


class Sandbox(Protocol):
    """One sandbox with a worker in it, which speaks in lines of JSON. Everything it says is untrusted."""

    async def send(self, line: bytes) -> None:
        """Raises OSError when the worker is gone."""
        ...

    async def receive(self) -> bytes:
        """The next line; without a line's end when the worker ended. Raises ValueError for one over the limit."""
        ...

    def over(self, status: int | None) -> Limit | None:
        """Which limit ended the process that ran the code, if one did; status: its exit code, less than 0 for signals.

        Asked after `kill`.
        """
        ...

    async def complaint(self) -> str:
        """What its own programs said on standard error, once it has ended: why it did not start."""
        ...

    async def kill(self) -> None:
        """End every process of the sandbox at once; returns when they are gone. May be called more than once."""
        ...


class Driver(Protocol):
    """Starts sandboxes of one kind.

    name: as in the settings. warm: how many are worth starting ahead of need. start_timeout_s: longest start.
    """

    name: str
    warm: int
    start_timeout_s: float

    async def check(self) -> None:
        """Raises DriverUnavailable where something that the driver needs is missing; starts no sandbox."""
        ...

    async def start(self) -> Sandbox:
        """Start a sandbox. Raises DriverUnavailable when it does not start."""
        ...


class ProcessSandbox:
    """A sandbox whose worker speaks over the pipes of a process of ours."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._said = b""
        self._listening = asyncio.create_task(self._listen(), name=f"errors of sandbox {process.pid}")

    async def _listen(self) -> None:
        assert self.process.stderr is not None
        while text := await self.process.stderr.read(4096):
            self._said = (self._said + text)[-COMPLAINT_BYTES:]

    async def send(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        await self.process.stdin.drain()

    async def receive(self) -> bytes:
        assert self.process.stdout is not None
        return await self.process.stdout.readline()

    def over(self, status: int | None) -> Limit | None:
        return None

    async def complaint(self) -> str:
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.shield(self._listening)
        return self._said.decode("utf-8", "replace").strip()

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await asyncio.shield(self._finish())

    async def _finish(self) -> None:
        """Read what was left unread: only at their end are the pipes closed."""
        await self.process.wait()
        assert self.process.stdout is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while await self.process.stdout.read(1 << 16):
                    pass
                await self._listening
        self._listening.cancel()


async def spawn(
    command: Sequence[str], env: dict[str, str], reply_limit: int, pass_fds: Sequence[int] = ()
) -> asyncio.subprocess.Process:
    """Start a driver's process in a group of its own. Raises DriverUnavailable when there is no such program."""
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            limit=reply_limit,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except OSError as error:
        raise DriverUnavailable(f"cannot start {command[0]}: {error}") from error


def worker_orders(config: Config, **changes: Any) -> dict[str, Any]:
    """What the worker is told about its limits, in bytes; `changes` are a driver's own."""
    return {
        "uid": None,
        "folder": "/sandbox",
        "packages": [],
        "own_pids": True,
        "seccomp": None,
        "address_space": config.memory_mb * MB,
        "processes": config.processes,
        "file_bytes": config.disk_mb * MB,
        "files_bytes": config.files_kb * 1024,
        "max_files": config.max_files,
        "max_figures": config.max_figures,
        "reply_limit": config.reply_limit,
        **changes,
    }


WORKER_VARIABLES = {
    "HOME": "/sandbox",
    "TMPDIR": "/sandbox/.tmp",
    "FONTCONFIG_FILE": "/sandbox/.tmp/fonts.conf",
    "XDG_CACHE_HOME": "/sandbox/.tmp",
    "MPLCONFIGDIR": "/sandbox/.tmp/matplotlib",
    "MPLBACKEND": "Agg",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    # Their threads count as processes, and each takes address space.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MKL_NUM_THREADS": "1",
}


async def until(done: Callable[[], Awaitable[Any]], timeout_s: float, what: str) -> Any:
    """Await something of a driver. Raises DriverUnavailable when it takes longer."""
    try:
        async with asyncio.timeout(timeout_s):
            return await done()
    except TimeoutError as error:
        raise DriverUnavailable(f"{what} took longer than {timeout_s:g} s") from error


def readable_parents(path: Path) -> list[str]:
    """The folders above a path, outermost first, without the root."""
    return [os.fspath(parent) for parent in reversed(path.parents) if parent != Path("/")]
