"""An index on disk beside its bank, so that a graph or compressed vectors need not be built again at each start.

A snapshot may be older than the bank: the ids in it tell what it lacks and what has died. Without one, or with a
damaged one, the index is built from the bank.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from llama_stack_providers.inline._faiss.rows import Ids

logger = logging.getLogger(__name__)


def save_snapshot(bank: Path, index: Any, ids: "Ids", generation: int) -> None:
    """In place of earlier ones. The index comes last, so there is none without its ids."""
    import faiss

    # Padded, so that the newest is the last by name.
    stem = f"{bank.stem}.{generation:019}"
    names = [bank.with_name(f"{stem}.ids.npy"), bank.with_name(f"{stem}.faiss")]
    unfinished = [name.with_name(f"{name.name}.part") for name in names]
    with unfinished[0].open("wb") as file:
        np.save(file, ids)
    faiss.write_index(index, str(unfinished[1]))
    for part, name in zip(unfinished, names, strict=True):
        part.chmod(0o600)
        part.replace(name)
    for file_name in _all_files(bank):
        if file_name not in names:
            file_name.unlink(missing_ok=True)


def load_snapshot(bank: Path, dimension: int) -> "tuple[Any, Ids] | None":
    """The newest one."""
    import faiss

    for name in sorted(bank.parent.glob(f"{bank.stem}.*.faiss"), reverse=True):
        ids_name = name.with_name(f"{name.name.removesuffix('.faiss')}.ids.npy")
        try:
            ids = np.load(ids_name, allow_pickle=False)
            index = faiss.read_index(str(name))
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning("the snapshot %s cannot be read, so its bank is indexed anew: %s", name.name, error)
            continue
        if index.ntotal == len(ids) and index.d == dimension:
            return index, ids
    return None


def _all_files(bank: Path) -> list[Path]:
    return [
        file for pattern in ("*.faiss", "*.ids.npy", "*.part") for file in bank.parent.glob(f"{bank.stem}.{pattern}")
    ]
