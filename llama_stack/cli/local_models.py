"""The models that lie on this machine: shipped with the stack, or downloaded from a hub."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_stack.compose import stack_home
from llama_stack.distribution import model_name
from llama_stack.hub import PREFIX as HUB_PREFIX
from llama_stack.weights import PREFIX as WEIGHTS_PREFIX
from llama_stack.weights import weights_folder

_PART = re.compile(r"-(\d{5})-of-\d{5}\.gguf$")
"""How the files of a model in several are named."""


@dataclass(frozen=True)
class LocalModel:
    """One GGUF model. path: its file, or the first of several. reference: its `provider_resource_id`."""

    name: str
    reference: str
    path: Path
    size_bytes: int
    shipped: bool


def local_models() -> list[LocalModel]:
    """Shipped ones first, each group by name."""
    return [
        *_found(weights_folder(), WEIGHTS_PREFIX, shipped=True),
        *_found(models_folder(), HUB_PREFIX, shipped=False),
    ]


def models_folder() -> Path:
    """Where downloads lie: `owner/repository/file`, as on the hub."""
    return stack_home() / "models"


def _found(folder: Path, prefix: str, *, shipped: bool) -> Iterator[LocalModel]:
    for path in sorted(folder.rglob("*.gguf")):
        split = _PART.search(path.name)
        if split is not None and split[1] != "00001":
            continue
        parts = [path] if split is None else path.parent.glob(path.name.replace("-00001-of-", "-*-of-"))
        reference = prefix + path.relative_to(folder).as_posix()
        size_bytes = sum(part.stat().st_size for part in parts)
        yield LocalModel(model_name(reference), reference, path, size_bytes, shipped)


def find_local_model(name: str) -> LocalModel | None:
    """The model of that name or reference, in any case of letters."""
    wanted = name.casefold().removesuffix(".gguf")
    for model in local_models():
        if wanted in (model.name.casefold(), model.reference.casefold().removesuffix(".gguf")):
            return model
    return None
