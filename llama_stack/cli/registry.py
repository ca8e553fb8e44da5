"""Meta's registry of Llama models, from the package `llama-models` (the extra `models`)."""

import difflib
import shlex
from functools import cache
from typing import Any

from llama_stack.build import install_command
from llama_stack.cli.local_models import local_models
from llama_stack.errors import ConfigError, NotFound

RegisteredModel = Any
"""`llama_models.sku_types.Model`; the package ships no types."""

REQUIREMENT = "llama-models>=0.3.0"


@cache
def _registry() -> list[RegisteredModel]:
    try:
        from llama_models.sku_list import all_registered_models
    except ImportError as error:
        raise ConfigError(
            "Meta's model registry is not installed",
            remedy=f"Install it: {shlex.join(install_command([REQUIREMENT]))}",
        ) from error
    return list(all_registered_models())


def registered_models(*, show_all: bool) -> list[RegisteredModel]:
    """Every registered model, newest family first; without `show_all` only those of Llama 3.1 and later.

    Raises ConfigError when the registry is not installed.
    """
    models = [model for model in _registry() if show_all or model.is_featured]
    ages = list(dict.fromkeys(model.model_family for model in models))
    # The registry lists families by age and the safety models, which belong to no generation, at the end.
    order = [*reversed(ages[:-1]), *ages[-1:]]
    return sorted(models, key=lambda model: order.index(model.model_family))


def registered_model(name: str) -> RegisteredModel | None:
    """The model by its registry name or its Hugging Face repository, in any case of letters.

    Raises NotFound for a name that is almost one of this machine's, ConfigError when the registry is not installed.
    """
    wanted = name.removeprefix("hf:").casefold()
    for model in _registry_or_local(name):
        if wanted in (model.descriptor().casefold(), (model.huggingface_repo or "").casefold()):
            return model
    return None


def _registry_or_local(name: str) -> list[RegisteredModel]:
    try:
        return _registry()
    except ConfigError as error:
        here = {one.name.casefold(): one.name for one in local_models()}
        near = difflib.get_close_matches(name.casefold(), here, n=1)
        if near:
            raise NotFound(f"there is no model '{name}' on this machine. Did you mean {here[near[0]]}?") from error
        missing = error.message.partition("\n")[0]
        raise ConfigError(f"there is no model '{name}' on this machine, and {missing}", remedy=error.remedy) from error


def nearest_models(name: str) -> list[str]:
    """Up to three names of the registry and of this machine like the one given."""
    known = [*(model.descriptor() for model in _registry()), *(one.name for one in local_models())]
    names = {one.casefold(): one for one in known}
    return [names[close] for close in difflib.get_close_matches(name.casefold(), names, n=3)]


def is_instruct(model: RegisteredModel) -> bool:
    """Whether it was tuned to converse. (The registry's own flag looks for the word in the wrong case.)"""
    name = model.core_model_id.value.casefold()
    return "instruct" in name or name.endswith("-chat")
