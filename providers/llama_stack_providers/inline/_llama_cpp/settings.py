"""What a person may set about the embedded engine."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from llama_stack.provider import ProviderConfig

SMALL_MODEL_BYTES = 100_000_000
"""Below this, threads wait for each other longer than they compute: one thread is fastest."""


class ModelSettings(BaseModel):
    """Settings of one model, read from the metadata of its entry in the distribution; other keys there are not ours."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    parallel_slots: int | None = Field(None, ge=1, le=64)
    temperature: float | None = Field(None, ge=0)
    """Used where a request names none."""
    query_prefix: str = ""
    document_prefix: str = ""
    """Put before an embedding input that is said to be a query or a document."""


class Config(ProviderConfig):
    """Settings of the embedded engine. A model is a GGUF path, `hf:owner/repo/file.gguf`, or `weights:folder/file`."""

    preload: list[str] = Field([], description="models (provider_resource_id) loaded at the start, not at first use")
    max_loaded_models: int = Field(3, ge=1, le=64, description="the one unused longest makes room for the next")
    context_length: int | None = Field(
        None, ge=64, description="tokens of prompt and answer; default: what the model was trained for, at most 8192"
    )
    parallel_slots: int = Field(4, ge=1, le=64, description="answers a model makes side by side, each with its context")
    threads: int | None = Field(None, ge=1, le=1024, description="compute threads a model; default: by size and CPUs")
    max_queue: int = Field(64, ge=0, description="requests waiting for a model; more are refused with status 429")
    idle_unload_s: float | None = Field(None, gt=0, description="unload a model unused this long; default: keep it")
    start_timeout_s: float = Field(120.0, gt=0, description="longest loading of a model")
    stall_timeout_s: float = Field(300.0, gt=0, description="longest silence of a working model before it is given up")
    low_memory: bool = Field(False, description="map weights from disk instead of repacking them: half the memory")


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this process may use: affinity and, in a container, the cgroup's quota (cgroup v2, else v1)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(cgroup)
    return max(1, min(cpus, int(quota))) if quota is not None else cpus


def _cgroup_quota(cgroup: Path) -> float | None:
    try:
        limit, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except OSError:
            return None
    if limit in ("max", "-1"):
        return None
    return float(limit) / float(period)


def threads_for(model_bytes: int, cpus: int) -> int:
    """Compute threads for a model file of this size.

    llama.cpp's threads spin at their barriers. On a machine that does anything else, one thread too many costs a
    factor of ten or more, so one CPU is left free, and a small model gets a single thread.
    """
    return 1 if model_bytes < SMALL_MODEL_BYTES else max(1, cpus - 1)


def batch_tokens_for(model_bytes: int) -> int:
    """Prompt tokens computed at once: a cancelled request goes on to the end of its batch.

    Measured on one core with 170 MB of weights: batches of 512 make 137 tokens a second, 64 make 131, 32 make 113.
    """
    return 512 if model_bytes < SMALL_MODEL_BYTES else 64
