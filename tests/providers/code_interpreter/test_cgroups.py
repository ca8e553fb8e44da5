"""Control groups of version 2 in a folder that stands for the kernel's, and the real ones where they can be made."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_stack_providers.inline._code_interpreter import cgroup
from llama_stack_providers.inline._code_interpreter.cgroup import Cgroup, Cgroups, find_cgroups


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hierarchy of version 2 with this process in `/user/server`."""
    membership = tmp_path / "membership"
    membership.write_text("0::/user/server\n", encoding="ascii")
    root = tmp_path / "cgroup"
    (root / "user/server").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids\n", encoding="ascii")
    monkeypatch.setattr(cgroup, "ROOT", root)
    monkeypatch.setattr(cgroup, "MEMBERSHIP", membership)
    find_cgroups.cache_clear()
    yield root
    find_cgroups.cache_clear()


def test_a_group_of_version_2_has_its_limits_before_its_process(kernel: Path) -> None:
    group = Cgroups((kernel / "user",), 2).make("llama-stack-1-a", 1 << 30, 36, 4711)
    (folder,) = group.folders
    values = {file.name: file.read_text(encoding="ascii") for file in folder.iterdir()}
    assert values == {
        "memory.max": str(1 << 30),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "36",
        "cgroup.procs": "4711",
    }


@pytest.mark.parametrize(
    ("name", "text", "killed"),
    [
        ("memory.events", "low 0\noom 1\noom_kill 1\n", True),
        ("memory.events", "low 0\noom 0\noom_kill 0\n", False),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", True),
    ],
)
def test_the_kernels_word_on_memory_is_read(tmp_path: Path, name: str, text: str, killed: bool) -> None:
    (tmp_path / name).write_text(text, encoding="ascii")
    assert Cgroup((tmp_path,)).out_of_memory() is killed


def test_a_group_beside_the_servers_own_is_a_candidate(kernel: Path) -> None:
    own, beside = cgroup._candidates()
    assert own.parents == (kernel / "user/server",)
    assert beside.parents == (kernel / "user",)


def test_where_nothing_may_be_made_there_are_none(kernel: Path) -> None:
    (kernel / "cgroup.controllers").unlink()
    assert find_cgroups() is None


def test_a_real_group_is_made_and_removed() -> None:
    find_cgroups.cache_clear()
    cgroups = find_cgroups()
    if cgroups is None:
        pytest.skip("this user can make no control groups here")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as waiting:
        group = cgroups.make("llama-stack-test-group", 64 << 20, 4, waiting.pid)
        assert all(folder.is_dir() for folder in group.folders)
        waiting.kill()
    group.remove()
    assert not any(folder.exists() for folder in group.folders)
