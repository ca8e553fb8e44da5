"""How much memory a model may take on this machine."""

from pathlib import Path


def available_bytes(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Memory free for a new process: what Linux calls available, or less where a cgroup allows less.

    None where the system does not say (not Linux). Sources: proc(5), MemAvailable; cgroup v2, memory.max.
    """
    try:
        meminfo = (proc / "meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    free = next((int(line.split()[1]) << 10 for line in meminfo.splitlines() if line.startswith("MemAvailable:")), None)
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        cached = next(
            (int(line.split()[1]) for line in (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
             if line.startswith("inactive_file ")), 0,
        )  # fmt: skip
    except (OSError, ValueError):
        return free
    if limit == "max":
        return free
    inside = int(limit) - used + cached
    return inside if free is None else min(free, inside)
