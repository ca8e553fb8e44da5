"""The driver for Linux: namespaces by bubblewrap, a list of refused system calls, limits by the kernel."""

import asyncio
import json
import os
import platform
import random
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path

from llama_stack_providers.inline._code_interpreter.cgroup import Cgroup, find_cgroups
from llama_stack_providers.inline._code_interpreter.driver import (
    MB,
    WORKER,
    WORKER_VARIABLES,
    DriverUnavailable,
    Limit,
    ProcessSandbox,
    readable_parents,
    spawn,
    until,
    worker_orders,
)
from llama_stack_providers.inline._code_interpreter.interpreter import Interpreter, find_interpreter
from llama_stack_providers.inline._code_interpreter.processes import memory_of, state_of, tree_of
from llama_stack_providers.inline._code_interpreter.seccomp import ARCHITECTURES, filter_program
from llama_stack_providers.inline._code_interpreter.settings import Config

FIRST_UID, LAST_UID = 61184, 65519
"""Users that belong to nobody: the range systemd gives to short-lived services (systemd, "Users, Groups")."""

PROCESSES_WITHOUT_CGROUP = 8
TMP = "/tmp"  # noqa: S108  # the sandbox's own, never the host's
WATCH_EVERY_S = 0.05
WATCH_FILES_EVERY_S = 0.25
FILES_A_MB = 1024
"""Files for each MB of disk_mb. An empty one takes no room of its file system but a kilobyte of the kernel's memory."""

REMEDY = (
    "Where unprivileged user namespaces are off, allow them: sysctl kernel.unprivileged_userns_clone=1, and on "
    "Ubuntu 24.04 or later sysctl kernel.apparmor_restrict_unprivileged_userns=0; "
    "inside a container, use the driver wasm"
)


class BubblewrapDriver:
    """Starts workers in namespaces of their own.

    A memory limit for each process says nothing of all together. Where a control group can be had, it bounds the sum;
    elsewhere processes are few, each gets half of the memory, and a watch over the sum ends what exceeds it.
    """

    name = "bubblewrap"
    warm = 0
    start_timeout_s = 15.0

    def __init__(self, config: Config, home: Path) -> None:
        self.config = config
        self.as_root = os.name == "posix" and os.getuid() == 0
        self._interpreter: Interpreter | None = None
        self._program = b""
        self._bwrap = ""
        self._cgroups = False

    async def check(self) -> None:
        if sys.platform != "linux":
            raise DriverUnavailable("bubblewrap needs Linux; use the driver wasm: pip install 'llama-stack[code-wasm]'")
        program = filter_program(platform.machine())
        if program is None:
            raise DriverUnavailable(
                f"bubblewrap has no list of system calls for {platform.machine()}, only for "
                f"{' and '.join(ARCHITECTURES)}; use the driver wasm or container"
            )
        bwrap = shutil.which("bwrap")
        if bwrap is None:
            raise DriverUnavailable(
                "bubblewrap is not installed; install it: apt install bubblewrap (or dnf, apk, pacman)"
            )
        self._program, self._bwrap = program, bwrap
        self._interpreter = await asyncio.to_thread(find_interpreter, self.config.python)
        self._cgroups = await asyncio.to_thread(lambda: find_cgroups() is not None)

    async def start(self) -> "BubblewrapSandbox":
        """Cancelling waits until the start has come so far that it can be taken back whole, which is a moment."""
        starting = asyncio.create_task(self._start(), name="start bubblewrap")
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])
            if not starting.cancelled() and starting.exception() is None:
                await starting.result().kill()
            raise

    async def _start(self) -> "BubblewrapSandbox":
        uid = random.randint(FIRST_UID, LAST_UID) if self.as_root else None  # noqa: S311  # a free one, not a secret
        processes = self.config.processes if self._cgroups else min(self.config.processes, PROCESSES_WITHOUT_CGROUP)
        share = 1 if self._cgroups else 2
        orders = worker_orders(
            self.config,
            uid=uid,
            packages=list(self._python().packages),
            processes=processes,
            address_space=self.config.memory_mb * MB // share,
        )
        with ExitStack() as ends:
            program, told, held = (_pipe(ends) for _ in range(3))
            program[1].write(self._program)
            program[1].close()
            command = [
                self._bwrap,
                *self._isolation(uid),
                *self._files(),
                *("--seccomp", str(program[0].fileno()), "--info-fd", str(told[1].fileno())),
                *("--block-fd", str(held[0].fileno())),
                *(self._python().program, "-I", "-S", "-X", "utf8", "-c"),
                WORKER.read_text(encoding="utf-8"),
                json.dumps(orders),
            ]
            passed = tuple(end.fileno() for end in (program[0], told[1], held[0]))
            process = await spawn(command, {}, self.config.reply_limit, passed)
            told[1].close()
            sandbox = BubblewrapSandbox(process, self.config.memory_mb * MB, self.config.disk_mb * FILES_A_MB)
            try:
                reading = asyncio.to_thread(_read_object, told[0])
                told_text = await until(lambda: reading, self.start_timeout_s, "bubblewrap's start")
                await sandbox.found(told_text, processes if self._cgroups else None)
                held[1].write(b"1")
            except (OSError, ValueError, KeyError) as error:
                await sandbox.kill()
                raise DriverUnavailable(f"bubblewrap failed: {await sandbox.complaint() or error}. {REMEDY}") from error
            except BaseException:
                await sandbox.kill()
                raise
        return sandbox

    def _python(self) -> Interpreter:
        assert self._interpreter is not None
        return self._interpreter

    def _isolation(self, uid: int | None) -> Iterator[str]:
        yield from ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
        yield from ("--new-session", "--die-with-parent", "--clearenv", "--cap-drop", "ALL", "--hostname", "sandbox")
        if uid is None:
            yield from ("--unshare-user", "--uid", "1000", "--gid", "1000")
        else:
            # A user namespace would map some user inside to root outside; the worker gives root up by itself instead.
            yield from ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
        for name, value in WORKER_VARIABLES.items():
            yield from ("--setenv", name, value)

    def _files(self) -> Iterator[str]:
        """A root that holds Python and nothing of the host; only /sandbox, /tmp and /dev/shm can be written."""
        writable = ("--perms", "1777", "--size", str(self.config.disk_mb * MB), "--tmpfs")
        made = set()
        for folder in self._python().folders:
            for parent in readable_parents(folder):
                if parent not in made and not parent.startswith("/usr"):
                    made.add(parent)
                    # Python itself may lie there, as the environment of a fresh clone does
                    yield from (*writable, parent) if parent == TMP else ("--perms", "0755", "--dir", parent)
        yield from ("--ro-bind", "/usr", "/usr")
        for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
            if Path(name).is_symlink():
                yield from ("--symlink", str(Path(name).readlink()), name)
            elif Path(name).exists():
                yield from ("--ro-bind", name, name)
        yield from ("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache")
        for folder in self._python().folders:
            if not folder.is_relative_to("/usr"):
                yield from ("--ro-bind", str(folder), str(folder))
        yield from ("--proc", "/proc", "--dev", "/dev")
        # Pseudo terminals are counted for the whole machine.
        yield from ("--perms", "0555", "--size", "4096", "--tmpfs", "/dev/pts", "--remount-ro", "/dev/pts")
        yield from (*writable, "/dev/shm", "--remount-ro", "/dev")  # noqa: S108
        yield from (*writable, "/sandbox")
        if TMP not in made:
            yield from ("--symlink", "/sandbox/.tmp", TMP)
        yield from ("--remount-ro", "/", "--chdir", "/sandbox")


class BubblewrapSandbox(ProcessSandbox):
    """bubblewrap's own process, and the first one inside, with which all the others end."""

    def __init__(self, process: asyncio.subprocess.Process, memory_bytes: int, most_files: int) -> None:
        super().__init__(process)
        self.memory_bytes = memory_bytes
        self.most_files = most_files
        self.first_pid: int | None = None
        self._cgroup: Cgroup | None = None
        self._watch: asyncio.Task[None] | None = None
        self._over: Limit | None = None

    async def found(self, told: bytes, processes: int | None) -> None:
        """Take over the first process, which waits. processes: their limit in a control group, if there is one."""
        self.first_pid = int(json.loads(told)["child-pid"])
        cgroups = find_cgroups() if processes is not None else None
        if cgroups is not None and processes is not None:
            # the supervisor and bubblewrap's own process are counted too
            self._cgroup = await asyncio.to_thread(
                cgroups.make,
                f"llama-stack-{self.first_pid}-{secrets.token_hex(4)}",
                self.memory_bytes,
                processes + 4,
                self.first_pid,
            )
        self._watch = asyncio.create_task(self._watch_it(), name=f"watch sandbox {self.first_pid}")

    async def _watch_it(self) -> None:
        """Look at what no limit of the kernel's bounds: the number of files, and without a group the memory."""
        while self.first_pid is not None:
            await asyncio.sleep(WATCH_FILES_EVERY_S if self._cgroup is not None else WATCH_EVERY_S)
            if _files_in(self.first_pid) > self.most_files:
                self._over = "disk"
            elif self._cgroup is None and await asyncio.to_thread(memory_of, self.first_pid) > self.memory_bytes:
                self._over = "memory"
            if self._over is not None:
                await self._end()
                return

    def over(self, status: int | None) -> Limit | None:
        return self._over

    async def _end(self) -> None:
        if self.process.returncode is None:
            # The first process of a process id namespace takes all others with it, and bubblewrap waits for it.
            if self.first_pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(self.first_pid, signal.SIGKILL)
            else:
                await asyncio.to_thread(_kill_half_started, self.process.pid)
        await self.process.wait()

    async def kill(self) -> None:
        if self._watch is not None and self._watch is not asyncio.current_task():
            self._watch.cancel()
        await asyncio.shield(self._end())
        await asyncio.shield(self._finish())
        if self._cgroup is not None:
            if self._cgroup.out_of_memory():
                self._over = "memory"
            await asyncio.shield(asyncio.to_thread(self._cgroup.remove))

    def pids(self) -> list[int]:
        """Ids of the processes in the sandbox, as the host sees them."""
        return tree_of(self.first_pid) if self.first_pid is not None and self.process.returncode is None else []


def _files_in(first_pid: int) -> int:
    """Files and folders in what the sandbox can write to; nothing while it is being set up."""
    found = 0
    with suppress(OSError):
        for place in ("sandbox", "dev/shm"):  # the first one is in no host's root
            counted = os.statvfs(f"/proc/{first_pid}/root/{place}")
            found += counted.f_files - counted.f_ffree
    return found


def _pipe(ends: ExitStack) -> tuple[FileIO, FileIO]:
    """A pipe that is closed with the stack."""
    reader, writer = os.pipe()
    return ends.enter_context(FileIO(reader, "rb")), ends.enter_context(FileIO(writer, "wb"))


def _read_object(pipe: FileIO) -> bytes:
    """One JSON object; the pipe's other end may stay open after it."""
    text = b""
    while not text.rstrip().endswith(b"}") and (chunk := pipe.read(4096)):
        text += chunk
    return text


def _kill_half_started(pid: int) -> None:
    """End bubblewrap before it has told of its child, which would wait for it for ever."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        for _ in range(100):
            if state_of(pid) not in ("R", "S", "D"):
                break
            time.sleep(0.005)
        for child in reversed(tree_of(pid)):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
