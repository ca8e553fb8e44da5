"""What a driver has to show before any of a model's code runs in it: attempts to get out, which must all fail.

The probes run in the sandbox as its own code would. Anything unexpected, an error of a probe itself included, counts
as a hole: the driver is then not used.
"""

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llama_stack_providers.inline._code_interpreter.driver import Driver, DriverUnavailable
from llama_stack_providers.inline._code_interpreter.session import Session, open_session
from llama_stack_providers.inline._code_interpreter.settings import Config

CANARY_VARIABLE = "LLAMA_STACK_SANDBOX_CANARY"
DEADLINE_S = 0.3

PROBES = r"""
import os, socket, sys
holes, kept = [], 41

def probe(name, attempt):
    try:
        got = attempt()
    except Exception:
        return
    if got is not False:
        holes.append(f"{name}: {got!r}"[:200])

def read(path):
    with open(path, "rb") as file:
        return file.read(64)

def write(path):
    with open(path, "w") as file:
        file.write("x")
    return "written"

def canary():
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                if CANARY.encode() in read_all(f"/proc/{pid}/environ"):
                    return "the host's environment"
            except OSError:
                pass
    return CANARY in os.environ.values() and "own environment"

def read_all(path):
    with open(path, "rb") as file:
        return file.read()

def connect(kind, address):
    with socket.socket(kind, socket.SOCK_STREAM) as client:
        client.settimeout(0.5)
        client.connect(address)
        return "connected"

def send_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        return client.sendto(b"x", ("127.0.0.1", PORT))

def fork_many():
    children = []
    try:
        for _ in range(FORKS):
            pid = os.fork()
            if pid == 0:
                os.read(0, 1)
                import time
                time.sleep(20)
                os._exit(0)
            children.append(pid)
        return f"{FORKS} forks"
    finally:
        import signal
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

def new_user_namespace():
    import ctypes
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0:
        return "unshared"
    raise OSError

def allocate():
    return len(bytearray(MEMORY + (64 << 20)))

probe("read a file of the host", lambda: read(SECRET))
probe("read /etc/shadow", lambda: read("/etc/shadow"))
probe("environment of the host", canary)
probe("TCP to the host", lambda: connect(socket.AF_INET, ("127.0.0.1", PORT)))
probe("UDP to the host", send_udp)
if hasattr(socket, "AF_UNIX"):
    probe("abstract socket of the host", lambda: connect(socket.AF_UNIX, "\0" + ABSTRACT))
for path in ("/usr/llama-stack-probe", "/llama-stack-probe", "/dev/llama-stack-probe", "/etc/llama-stack-probe"):
    if not IN_MEMORY:
        probe(f"write {path}", lambda: write(path))
if not IN_MEMORY:
    probe("run as root", lambda: os.getuid() == 0)
    probe("make a user namespace", new_user_namespace)
    probe("start too many processes", fork_many)
probe("take too much memory", allocate)
print("HOLES", holes)
"""


@dataclass(frozen=True)
class Bait:
    """What the host lays out for the probes to find."""

    port: int
    abstract: str
    secret: str
    canary: str


@contextmanager
def _bait() -> Iterator[Bait]:
    canary = secrets.token_hex(16)
    os.environ[CANARY_VARIABLE] = canary
    with socket.socket() as listener, tempfile.NamedTemporaryFile("w") as secret, socket.socket(_local()) as local:
        secret.write(canary)
        secret.flush()
        os.chmod(secret.name, 0o644)  # noqa: PTH101  # only the walls may keep the code from it, not its mode
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        abstract = f"llama-stack-{canary}"
        if os.path.exists("/proc/self"):  # noqa: PTH110  # abstract names are Linux's
            local.bind("\0" + abstract)
            local.listen()
        try:
            yield Bait(listener.getsockname()[1], abstract, secret.name, canary)
        finally:
            os.environ.pop(CANARY_VARIABLE, None)


def _local() -> socket.AddressFamily:
    return getattr(socket, "AF_UNIX", socket.AF_INET)


async def self_test(driver: Driver, config: Config) -> None:
    """Try the driver's sandbox. Raises DriverUnavailable that names each hole found."""
    await driver.check()
    with _bait() as bait:
        session = await open_session(driver, config)
        try:
            await _probe(session, driver, config, bait)
        finally:
            await session.close()
    session = await open_session(driver, config)
    outcome = await session.run("while True: pass", {}, timeout_s=DEADLINE_S)
    if outcome.limit != "time" or not session.is_closed:
        await session.close()
        raise _failed(driver, "an endless loop was not ended at its deadline")


async def _probe(session: Session, driver: Driver, config: Config, bait: Bait) -> None:
    names = {
        "PORT": bait.port,
        "ABSTRACT": bait.abstract,
        "SECRET": bait.secret,
        "CANARY": bait.canary,
        "FORKS": config.processes + 64,
        "MEMORY": config.memory_mb << 20,
        "IN_MEMORY": driver.name == "wasm",
    }
    lines = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    outcome = await session.run(f"{lines}\n{PROBES}", {}, timeout_s=max(20.0, config.timeout_s))
    if outcome.error is not None or outcome.printed["stdout"].strip() != "HOLES []":
        found = outcome.printed["stdout"].strip() or outcome.error or outcome.printed["stderr"]
        raise _failed(driver, f"{found[-1500:]}")
    outcome = await session.run("kept + 1", {})
    if outcome.printed["stdout"].strip() != "42":
        raise _failed(driver, f"variables are not kept from call to call: {outcome.error}")


def _failed(driver: Driver, what: str) -> DriverUnavailable:
    return DriverUnavailable(f"the driver {driver.name} failed its self-test and is not used: {what}")
