"""The catalog: provider type -> declaration, found through entry points and imported only when asked for.

Entry-point group `llama_stack.providers`. An entry that names a package is walked by file name: every module in its
`inline` and `remote` folders is one provider, `remote/openai_compatible.py` being `remote::openai-compatible`; names
that begin with `_` are helpers. An entry that names a module is one provider under the entry's own name. The
providers shipped here come through the same door as a stranger's.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from llama_stack.errors import ConfigError
from llama_stack.provider import Provider

ENTRY_POINT_GROUP = "llama_stack.providers"
KINDS = ("inline", "remote")


@dataclass(frozen=True)
class Place:
    """Where a provider is declared. `package` is the distribution package that ships it, for messages."""

    module: str
    attribute: str
    package: str


class Catalog:
    """All providers installed in this environment."""

    def __init__(self, entries: Iterable[EntryPoint] | None = None) -> None:
        self._entries = entries

    @cached_property
    def places(self) -> dict[str, Place]:
        """Provider type -> place, without importing any provider. Raises ConfigError for a type claimed twice."""
        entries = entry_points(group=ENTRY_POINT_GROUP) if self._entries is None else self._entries
        places: dict[str, Place] = {}
        for entry in entries:
            for provider_type, place in _places(entry):
                other = places.get(provider_type)
                if other is not None and other.module != place.module:
                    raise ConfigError(
                        f"two packages provide {provider_type}: {other.package} and {place.package}",
                        remedy=f"Uninstall one of them (pip uninstall {place.package}).",
                    )
                places[provider_type] = place
        return dict(sorted(places.items()))

    def types(self) -> list[str]:
        """Every provider type, sorted."""
        return list(self.places)

    def get(self, provider_type: str) -> Provider:
        """The declaration. Raises ConfigError for an unknown type (naming the nearest) or a broken provider file."""
        place = self.places.get(provider_type)
        if place is None:
            nearest = get_close_matches(provider_type, self.places, n=1)
            hint = f"Did you mean {nearest[0]}? " if nearest else ""
            raise ConfigError(
                f"there is no provider of type {provider_type!r}",
                remedy=f"{hint}`llama stack list-providers` shows what is installed.",
            )
        try:
            declaration = getattr(importlib.import_module(place.module), place.attribute)
        except ImportError as error:
            raise ConfigError(
                f"the provider {provider_type} cannot be imported: {error}",
                remedy=f"Reinstall {place.package} (pip install --force-reinstall {place.package}).",
            ) from error
        except AttributeError as error:
            raise ConfigError(
                f"{place.module} declares no `{place.attribute}`; a provider file defines one at module level"
            ) from error
        if not isinstance(declaration, Provider):
            raise ConfigError(f"{place.module}.{place.attribute} is no provider declaration")
        return declaration


def _places(entry: EntryPoint) -> Iterable[tuple[str, Place]]:
    package = entry.dist.name if entry.dist else entry.module
    spec = find_spec(entry.module)
    if spec is None:
        raise ConfigError(
            f"{package} announces providers in {entry.module}, which cannot be found",
            remedy=f"Reinstall it (pip install --force-reinstall {package}).",
        )
    if spec.submodule_search_locations is None or entry.attr:
        yield entry.name, Place(entry.module, entry.attr or "provider", package)
        return
    for location in spec.submodule_search_locations:
        for kind in KINDS:
            for module in pkgutil.iter_modules([str(Path(location) / kind)]):
                if not module.name.startswith("_"):
                    provider_type = f"{kind}::{module.name.replace('_', '-')}"
                    yield provider_type, Place(f"{entry.module}.{kind}.{module.name}", "provider", package)
