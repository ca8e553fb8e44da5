"""A real stack whose model follows a script: composition, routing, storage and the agents' loop are the product's own.

async with open_scripted_stack(says("Hello."), home=tmp_path) as stack:
    agents = await stack.agents()
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_stack.api.inference import Inference
from llama_stack.api.safety import Safety
from llama_stack.api.tools import Tools
from llama_stack.catalog import Catalog
from llama_stack.compose import LocalStack, open_stack
from llama_stack.distribution import Distribution
from llama_stack.provider import InferenceProvider, NoConfig, Provider, SafetyProvider, ToolsProvider
from llama_stack.testing.scripted import Script, ScriptedInference

if TYPE_CHECKING:
    import httpx

MODEL = "scripted"


class FixedCatalog(Catalog):
    """What is installed, and providers that are given as objects under the types `inline::NAME`."""

    def __init__(self, given: Mapping[str, Provider]) -> None:
        super().__init__()
        self._given = given

    def get(self, provider_type: str) -> Provider:
        return self._given.get(provider_type) or super().get(provider_type)


@asynccontextmanager
async def open_scripted_stack(
    *scripts: Script,
    inference: Inference | None = None,
    tools: Mapping[str, Tools] | None = None,
    shields: Mapping[str, Safety] | None = None,
    providers: Mapping[str, list[dict[str, Any]]] | None = None,
    context_length: int | None = None,
    embedding_models: Mapping[str, int] | None = None,
    storage_url: str | None = None,
    home: Path,
    transport: "httpx.AsyncBaseTransport | None" = None,
) -> AsyncIterator[LocalStack]:
    """Open a stack whose model `scripted` answers with the scripts, one each in order.

    inference: in place of the scripts. tools: tool groups by id, each with what runs its tools. shields: shields by
    id, each with what judges. embedding_models: further models of the same inference, with their dimensions.
    providers: further entries of a distribution by API, as in its YAML.
    home: the state folder; a stack opened again on it finds what the first one kept.
    """
    given: dict[str, Provider] = {
        "inline::scripted": InferenceProvider("A script", NoConfig, _opening(inference or ScriptedInference(*scripts)))
    }
    models: list[dict[str, Any]] = [{"identifier": MODEL, "context_length": context_length}]
    for identifier, dimension in (embedding_models or {}).items():
        models.append({"identifier": identifier, "model_type": "embedding", "embedding_dimension": dimension})
    entries: dict[str, list[dict[str, Any]]] = {
        "inference": [{"provider_id": MODEL, "provider_type": "inline::scripted", "models": models}],
        "safety": [],
        "tools": [],
    }
    for number, (identifier, runs) in enumerate((tools or {}).items()):
        given[f"inline::tools-{number}"] = ToolsProvider("Tools of a test", NoConfig, _opening(runs))
        entries["tools"].append(
            {
                "provider_id": f"tools-{number}",
                "provider_type": f"inline::tools-{number}",
                "tool_groups": [{"identifier": identifier}],
            }
        )
    for number, (identifier, judges) in enumerate((shields or {}).items()):
        given[f"inline::shield-{number}"] = SafetyProvider("A shield of a test", NoConfig, _opening(judges))
        entries["safety"].append(
            {
                "provider_id": f"shield-{number}",
                "provider_type": f"inline::shield-{number}",
                "shields": [{"identifier": identifier}],
            }
        )
    for api, more in (providers or {}).items():
        entries.setdefault(api, []).extend(more)
    distribution = Distribution.model_validate(
        {"version": 1, "name": "scripted", "storage": {"url": storage_url}, "providers": entries}
    )
    async with open_stack(distribution, home=home, catalog=FixedCatalog(given), transport=transport) as stack:
        yield stack


def _opening(implementation: Any) -> Any:
    """An `open` that gives what is there already."""

    @asynccontextmanager
    async def opened(config: NoConfig, floor: Any) -> AsyncIterator[Any]:
        yield implementation

    return opened
