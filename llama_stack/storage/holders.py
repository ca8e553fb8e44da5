"""Who holds a turn, in a way that tells a dead holder of this machine from one that is only slow.

A lease lets any server take over when time has run out. The usual case is simpler: the server on this machine was
killed and has just been started again. Its turns need not wait for their leases.
"""

import os
import secrets
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from platform import node

_PROCESS = secrets.token_hex(8)


def new_holder() -> str:
    """A holding's own token; it names machine and process."""
    return f"{_place()}/{os.getpid()}/{_PROCESS}/{secrets.token_hex(8)}"


def is_dead(holder: str) -> bool:
    """Whether the process that took this holding is certainly gone. False where that cannot be known from here."""
    try:
        place, pid_text, process, _ = holder.split("/")
        pid = int(pid_text)
    except ValueError:
        return False
    if place != _place() or sys.platform == "win32":
        return False
    if pid == os.getpid():
        # Process ids are used again, above all in containers, where the server is often number 1.
        return process != _PROCESS
    return not _is_alive(pid)


@cache
def _place() -> str:
    """This machine since its last start; containers that cannot see each other's processes are different places."""
    seen = [node()]
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if boot_id.is_file():
        seen.append(boot_id.read_text(encoding="ascii").strip())
    namespace = Path("/proc/self/ns/pid")
    if namespace.is_symlink():
        seen.append(str(namespace.readlink()))
    return sha256("\n".join(seen).encode()).hexdigest()[:16]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        # Killed, but nobody has asked for its exit status yet; the state follows the name in brackets.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True
