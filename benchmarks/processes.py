"""Servers as child processes: start one, wait until it answers, read what it costs, stop it."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

HOST = "127.0.0.1"
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.01


class ServerFailed(Exception):
    """A server ended or stayed silent before its first answer; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Memory:
    """MB (10^6 bytes). `main` is the process that was started, `tree` it and all its children.

    RSS counts shared pages in every process, PSS divides them among those that share (None where the kernel does not
    tell).
    """

    processes: int
    main_rss: float
    tree_rss: float
    tree_pss: float | None


@dataclass(frozen=True)
class RunningServer:
    """start_s and start_cpu_s: wall and CPU time (of the process tree) from the start to the first 200."""

    name: str
    base_url: str
    pid: int
    start_s: float
    start_cpu_s: float


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment and more, with compiled bytecode kept as it is where nobody says otherwise: without
    it every start would compile all it imports."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **(more or {})}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _tree(pid: int) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [main, *main.children(recursive=True)]


def cpu_s(pid: int) -> float:
    """CPU seconds that the process and its living descendants have used, user and system."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system
    return total


def own_cpu_s(pid: int) -> float:
    """CPU seconds of the process alone."""
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def machine_cpu_s() -> float:
    """CPU seconds that all processes of this machine have used."""
    used = psutil.cpu_times()
    return sum(getattr(used, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal"))


def memory(pid: int) -> Memory:
    tree = _tree(pid)
    rss = [process.memory_info().rss / 1e6 for process in tree]
    pss = [getattr(process.memory_full_info(), "pss", None) for process in tree]
    known = [value / 1e6 for value in pss if value is not None]
    tree_pss = sum(known) if len(known) == len(tree) else None
    return Memory(processes=len(tree), main_rss=rss[0], tree_rss=sum(rss), tree_pss=tree_pss)


def answers_200(port: int, path: str) -> bool:
    """Whether GET path answers 200 now. One connection, no HTTP library: its import would be part of a start time."""
    request = f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n".encode()
    try:
        with socket.create_connection((HOST, port), timeout=5.0) as connection:
            connection.sendall(request)
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def _await_ready(process: subprocess.Popen[bytes], name: str, port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not answers_200(port, path):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = f"ended with status {process.returncode}" if ended else f"gave no 200 within {READY_TIMEOUT_S:.0f} s"
            tail = log.read_text(errors="replace")[-2000:]
            raise ServerFailed(f"{name} {what} on {path}; its log ends:\n{tail}")
        time.sleep(POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group: a server may leave workers that outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    *,
    port: int,
    env: Mapping[str, str] | None = None,
    ready_path: str = "/v1/models",
) -> Iterator[RunningServer]:
    """Run a server until the block ends. It gets an empty working folder, and its log goes to a file there.

    Raises ServerFailed when it ends, or gives no 200 on `ready_path` in READY_TIMEOUT_S.
    """
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
        log = Path(folder) / "server.log"
        with log.open("wb") as output:
            start = time.perf_counter()
            process = subprocess.Popen(
                command,
                env=environment(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _await_ready(process, name, port, ready_path, log)
            start_s = time.perf_counter() - start
            yield RunningServer(name, f"http://{HOST}:{port}", process.pid, start_s, cpu_s(process.pid))
        finally:
            _stop(process)
