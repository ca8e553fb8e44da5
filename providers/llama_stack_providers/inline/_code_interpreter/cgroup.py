"""Control groups: one limit for the memory and the number of all processes of a sandbox together.

Both versions of the kernel's interface are tried (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/). Which one a
process may use depends on its user, its service manager and its container, so it is found out by doing it once.
"""

import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Cgroup:
    """A group with processes in it; one folder in version 2, one for each controller in version 1."""

    folders: tuple[Path, ...]

    def out_of_memory(self) -> bool:
        """Whether the kernel ended a process of the group for want of memory."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with suppress(OSError):
                    counts = dict(line.split() for line in (folder / name).read_text(encoding="ascii").splitlines())
                    if int(counts.get("oom_kill", 0)) > 0:
                        return True
        return False

    def remove(self) -> None:
        """Remove the group; its last process may take a moment to leave it."""
        for folder in self.folders:
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)


@dataclass(frozen=True)
class Cgroups:
    """Where groups can be made: the folders under which they go, one in version 2, memory's and pids' in version 1."""

    parents: tuple[Path, ...]
    version: int

    def make(self, name: str, memory_bytes: int, processes: int, pid: int) -> Cgroup:
        """A new group with these limits and the process in it. Raises OSError where that is not allowed."""
        group = Cgroup(tuple(parent / name for parent in self.parents))
        try:
            for folder in group.folders:
                folder.mkdir()
            if self.version == 2:
                _limit_v2(group.folders[0], memory_bytes, processes)
            else:
                _limit_v1(group.folders[0], group.folders[1], memory_bytes, processes)
            for folder in group.folders:
                _write(folder / "cgroup.procs", pid)
        except BaseException:
            group.remove()
            raise
        return group


@cache
def find_cgroups() -> Cgroups | None:
    """Where this process can make groups; None where it cannot."""
    for cgroups in _candidates():
        with suppress(OSError, subprocess.SubprocessError):
            _try(cgroups)
            return cgroups
    return None


def _candidates() -> list[Cgroups]:
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    own = {controller: path for line in lines for _, controller, path in [line.split(":", 2)]}
    found = []
    if "" in own and (ROOT / "cgroup.controllers").exists():
        here = ROOT / own[""].lstrip("/")
        # A group that holds processes cannot have groups with limits in it, except the root; a sibling can be made.
        found += [Cgroups((folder,), 2) for folder in (here, here.parent) if folder.is_relative_to(ROOT)]
    if "memory" in own and "pids" in own:
        folders = tuple(ROOT / controller / own[controller].lstrip("/") for controller in ("memory", "pids"))
        tops = (ROOT / "memory", ROOT / "pids")
        found += [Cgroups(parents, 1) for parents in (folders, tops) if all(folder.is_dir() for folder in parents)]
    return found


def _try(cgroups: Cgroups) -> None:
    if cgroups.version == 2:
        with suppress(OSError):
            (cgroups.parents[0] / "cgroup.subtree_control").write_text("+memory +pids", encoding="ascii")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as waiting:  # noqa: S607
        try:
            group = cgroups.make(f"llama-stack-{waiting.pid}-try", 64 << 20, 4, waiting.pid)
        finally:
            waiting.kill()
    group.remove()
    for parent in cgroups.parents:
        _remove_stale(parent)


def _remove_stale(parent: Path) -> None:
    """Remove the empty groups of servers that were killed; the first process of each is in its name."""
    for folder in parent.glob("llama-stack-*-*"):
        pid = folder.name.split("-")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with suppress(OSError):
                folder.rmdir()


def _limit_v2(folder: Path, memory_bytes: int, processes: int) -> None:
    _write(folder / "memory.max", memory_bytes)
    _write(folder / "pids.max", processes)
    with suppress(OSError):  # no swap accounting in this kernel
        _write(folder / "memory.swap.max", 0)
    _write(folder / "memory.oom.group", 1)


def _limit_v1(memory: Path, pids: Path, memory_bytes: int, processes: int) -> None:
    _write(memory / "memory.limit_in_bytes", memory_bytes)
    with suppress(OSError):  # no swap accounting in this kernel
        _write(memory / "memory.memsw.limit_in_bytes", memory_bytes)
    _write(pids / "pids.max", processes)


def _write(file: Path, value: int) -> None:
    file.write_text(str(value), encoding="ascii")
