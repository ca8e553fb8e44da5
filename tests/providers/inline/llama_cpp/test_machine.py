"""What is read from the machine and from a model's file before anything is loaded."""

from pathlib import Path

import pytest

from llama_stack_providers.inline._llama_cpp.gguf_header import read_header
from llama_stack_providers.inline._llama_cpp.memory import available_bytes
from llama_stack_providers.inline._llama_cpp.settings import batch_tokens_for, threads_for, usable_cpus


@pytest.mark.parametrize(("size", "cpus", "threads"), [(8_000_000, 16, 1), (700_000_000, 16, 15), (700_000_000, 1, 1)])
def test_threads_leave_a_cpu_free_and_small_models_get_one(size: int, cpus: int, threads: int) -> None:
    """Trap: llama.cpp's threads spin; one too many on a busy machine costs a factor of ten and more."""
    assert threads_for(size, cpus) == threads


def test_batches_of_a_large_model_are_short_enough_to_cancel() -> None:
    """Trap: a request can only be cancelled between two batches of its prompt."""
    assert batch_tokens_for(700_000_000) < batch_tokens_for(8_000_000)


def test_a_containers_quota_limits_the_cpus(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    without = usable_cpus(tmp_path)
    assert without == usable_cpus(tmp_path / "nothing")


def test_the_older_cgroups_quota_counts_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == 1


def test_free_memory_is_the_systems_or_the_containers(tmp_path: Path) -> None:
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    assert available_bytes(tmp_path / "none", cgroup) is None
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert available_bytes(proc, cgroup) == 4000 << 10
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("1000000\n")
    (cgroup / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    assert available_bytes(proc, cgroup) == 4000 << 10
    (cgroup / "memory.max").write_text("3000000\n")
    assert available_bytes(proc, cgroup) == 3_000_000 - 1_000_000 + 200_000


def test_a_header_tells_what_the_model_is(micro_model: Path) -> None:
    header = read_header(micro_model)
    assert header.architecture == "llama"
    assert header.purpose == "chat"
    assert header.trained_context >= 2048
    assert "<|eot_id|>" in header.control_tokens
    assert header.cache_bytes_per_token() > 0
    assert header.chat_template
