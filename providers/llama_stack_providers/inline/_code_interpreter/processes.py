"""Processes below another one, and their memory, from Linux's /proc (man 5 proc)."""

from contextlib import suppress
from pathlib import Path

PAGE_BYTES = 4096


def tree_of(pid: int) -> list[int]:
    """The process and all below it, parents first; those that end meanwhile are left out."""
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop(0)
        tasks = Path(f"/proc/{current}/task")
        with suppress(OSError):
            for task in tasks.iterdir():
                waiting += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
            found.append(current)
    return found


def state_of(pid: int) -> str:
    """The letter that says what the process does, such as R, S or T; "" for one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    return ""


def memory_of(pid: int) -> int:
    """Bytes of memory that the process and all below it use, with what they share counted once."""
    return sum(_memory(process) for process in tree_of(pid))


def _memory(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError):  # one that hides its memory: what it shares is counted with it
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    return 0
