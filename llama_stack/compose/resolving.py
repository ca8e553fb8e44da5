"""The providers of a distribution with their declarations and their checked settings."""

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import metadata as distribution_metadata
from typing import Any

from llama_stack.api.common import JsonObject
from llama_stack.catalog import Catalog
from llama_stack.distribution import Distribution, ProviderEntry, check_config
from llama_stack.errors import ConfigError
from llama_stack.provider import Provider, ProviderConfig

_SECRET_NAME = re.compile(r"key|token|secret|password|authorization|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")


@dataclass(frozen=True)
class ResolvedProvider:
    """A provider of a distribution with its declaration and its checked settings."""

    api: str
    provider_id: str
    entry: ProviderEntry
    declaration: Provider
    config: ProviderConfig
    source: str

    @property
    def masked_config(self) -> JsonObject:
        """The settings as they may be shown: every secret replaced."""
        masked: JsonObject = mask_secrets(self.config.model_dump(mode="json"))
        return masked


def mask_secrets(value: Any, name: str = "") -> Any:
    """The value with every text under a secret's name, and every password inside a URL, replaced."""
    if isinstance(value, dict):
        return {key: mask_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [mask_secrets(item, name) for item in value]
    if isinstance(value, str) and value:
        return "**********" if _SECRET_NAME.search(name) else _URL_PASSWORD.sub(r"\1:**********@", value)
    return value


def resolve_providers(distribution: Distribution, catalog: Catalog | None = None) -> list[ResolvedProvider]:
    """The distribution's providers, floors from the ground up, settings checked.

    Raises ConfigError for an unknown type, a provider of another API, a repeated id, or a wrong setting.
    """
    catalog = catalog or Catalog()
    resolved: list[ResolvedProvider] = []
    for api, entries in distribution.providers.by_api().items():
        for position, entry in enumerate(entries):
            if entry.provider_id is None:
                continue
            if any(other.provider_id == entry.provider_id for other in resolved):
                raise ConfigError(f"two providers have the id {entry.provider_id!r}", where=distribution.source)
            declaration = catalog.get(entry.provider_type)
            if entry.optional and missing_requirements(declaration):
                continue
            if declaration.api != api:
                raise ConfigError(
                    f"{entry.provider_type} provides {declaration.api} but stands under providers.{api}",
                    where=distribution.source,
                    remedy=f"Move it to providers.{declaration.api}.",
                )
            prefix = ("providers", api, position, "config")
            config = check_config(declaration.config, entry.config, where=distribution.source, prefix=prefix)
            resolved.append(ResolvedProvider(api, entry.provider_id, entry, declaration, config, distribution.source))
    return resolved


def missing_requirements(declaration: Provider) -> list[str]:
    """Those of the packages a provider requires that are not installed, in any version."""
    missing = []
    for requirement in declaration.requires:
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            distribution_metadata(name)
        except PackageNotFoundError:
            missing.append(requirement)
    return missing
