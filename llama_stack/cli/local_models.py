"""The models that lie on this machine: shipped with the stack, or downloaded from a hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llama_stack.compose import stack_home
from llama_stack.distribution import model_name
from llama_stack.hub import PREFIX as HUB_PREFIX
from llama_stack.weights import PREFIX as WEIGHTS_PREFIX
from llama_stack.weights import weights_folder


@dataclass(frozen=True)
class LocalModel:
    """One GGUF file. reference: what a distribution writes as `provider_resource_id`."""

    name: str
    reference: str
    path: Path
    shipped: bool

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size


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
        reference = prefix + path.relative_to(folder).as_posix()
        yield LocalModel(model_name(reference), reference, path, shipped)


def find_local_model(name: str) -> LocalModel | None:
    """The model of that name or reference, in any case of letters."""
    wanted = name.casefold().removesuffix(".gguf")
    for model in local_models():
        if wanted in (model.name.casefold(), model.reference.casefold().removesuffix(".gguf")):
            return model
    return None
