"""A distribution: one YAML file that composes providers into a stack.

Resources stand under the provider that owns them, so what serves a model is read off the page:

    version: 1
    name: starter
    providers:
      inference:
        - provider_id: llama-cpp
          provider_type: inline::llama-cpp
          models:
            - identifier: llama-micro
              provider_resource_id: weights:llama-micro/llama-micro.gguf
"""

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from llama_stack.api.common import JsonObject, Word
from llama_stack.api.resources import BankKind, ModelType
from llama_stack.errors import ConfigError
from llama_stack.substitution import Origin, Path, spell, substitute

CLASSIC_KEYS = ("apis", "built_at", "distribution_spec", "image_name", "image_type", "metadata_store")
"""Keys of the files that other implementations of the Llama Stack API are configured with, at their top."""
KNOWN_KEYS = "; known keys: "
EMBEDDED_ENGINE = "inline::llama-cpp"
ConfigT = TypeVar("ConfigT", bound=BaseModel)


class ModelEntry(Word):
    """A model to serve. `provider_resource_id` is the provider's own name for it; default: the identifier."""

    identifier: str
    provider_resource_id: str | None = None
    model_type: ModelType = ModelType.LLM
    context_length: int | None = Field(default=None, ge=1)
    embedding_dimension: int | None = Field(default=None, ge=1)
    metadata: JsonObject = {}


class ShieldEntry(Word):
    identifier: str
    provider_resource_id: str | None = None
    params: JsonObject = {}


class MemoryBankEntry(Word):
    identifier: str
    provider_resource_id: str | None = None
    bank: BankKind


class ToolGroupEntry(Word):
    identifier: str
    provider_resource_id: str | None = None
    mcp_endpoint: str | None = None
    args: JsonObject = {}


class ProviderEntry(Word):
    """One provider. Left out (its `provider_id` came out empty) it is skipped: `provider_id: ${env.KEY:+together}`.

    optional: skipped, too, where what it requires is not installed.
    """

    provider_id: str | None = None
    provider_type: str
    optional: bool = False
    config: JsonObject = {}


class InferenceEntry(ProviderEntry):
    models: list[ModelEntry] = []


class SafetyEntry(ProviderEntry):
    shields: list[ShieldEntry] = []


class MemoryEntry(ProviderEntry):
    memory_banks: list[MemoryBankEntry] = []


class ToolsEntry(ProviderEntry):
    tool_groups: list[ToolGroupEntry] = []


class Providers(Word):
    inference: list[InferenceEntry] = []
    safety: list[SafetyEntry] = []
    memory: list[MemoryEntry] = []
    tools: list[ToolsEntry] = []

    def by_api(self) -> dict[str, list[ProviderEntry]]:
        """API name -> its entries, floors from the ground up."""
        return {name: list(getattr(self, name)) for name in type(self).model_fields}


class ServerSettings(Word):
    """host: address to listen on; 127.0.0.1 lets only this machine in. max_body_bytes: larger requests get 413.

    cors_origins: web origins that may call the server from a browser; none by default. allowed_hosts: names, beside
    localhost, by which a server that listens on this machine only may be addressed, such as that of a proxy.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8321, ge=1, le=65535)
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    cors_origins: list[str] = []
    allowed_hosts: list[str] = []


class StorageSettings(Word):
    """url: `sqlite:///path` or `postgresql://...`; None is a SQLite file in the stack's home.

    files: the folder with the contents of files; None is `files` in the stack's home. Servers that share a database
    mount the same folder. max_file_bytes: larger files get 413; the limit of other requests is server.max_body_bytes.
    """

    url: str | None = None
    files: str | None = None
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1)


class DocumentSettings(Word):
    """How documents are read for memory.

    processes: documents that are read side by side, each in a process under limits. max_file_bytes, max_pages,
    max_text_characters, time_limit_s: of one document. caption_model: a chat model that sees, which describes pictures;
    without it their text is recognised where the extra `ocr` is installed. allow_private_addresses: callers may have
    documents fetched from this machine and its network.
    """

    processes: int = Field(default=1, ge=1, le=64)
    max_file_bytes: int = Field(default=512 * 1024 * 1024, ge=1)
    max_pages: int = Field(default=10_000, ge=1)
    max_text_characters: int = Field(default=20_000_000, ge=1)
    time_limit_s: float = Field(default=120.0, gt=0)
    caption_model: str | None = None
    allow_private_addresses: bool = False


class Distribution(Word):
    version: Literal[1]
    name: str
    description: str = ""
    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    documents: DocumentSettings = DocumentSettings()
    providers: Providers

    _source: str = PrivateAttr(default="")
    _origins: dict[Path, Origin] = PrivateAttr(default_factory=dict)

    @property
    def source(self) -> str:
        """The file it was read from."""
        return self._source

    @property
    def origins(self) -> Mapping[Path, Origin]:
        """Where each value written in the file came from; a value missing here is its field's default."""
        return self._origins


def distributions_folder() -> FilePath:
    """The shipped distributions: inside the installed package, else beside it in a checkout."""
    package = FilePath(__file__).parent
    inside = package / "distributions"
    return inside if inside.is_dir() else package.parent / "distributions"


def find_distributions() -> list[FilePath]:
    """The shipped distribution files, by name."""
    return sorted(distributions_folder().glob("*.yaml"))


def load_distribution(
    name_or_path: str,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    model: str | None = None,
) -> Distribution:
    """Read a distribution by the name of a shipped one or by path, substitute and check it.

    env: variables for `${env...}`; the process's own by default. overrides: dotted keys with the values that replace
    what the file says (`{"server.port": 9000}`). model: GGUF path, `hf:owner/repo/file.gguf` or the name of a local
    model that replaces the language model of the embedded engine.
    Raises ConfigError naming file, key and remedy.
    """
    file = _find(name_or_path)
    where = str(file)
    tree, origins = substitute(_read(file), os.environ if env is None else env, where=where)
    if not isinstance(tree, dict):
        raise ConfigError("a distribution is a mapping with the keys version, name and providers", where=where)
    _refuse_classic(tree, where)
    for key, value in (overrides or {}).items():
        _override(tree, origins, key, value, where)
    if model is not None:
        _swap_embedded_model(tree, origins, model, where)
    distribution = check_config(Distribution, tree, where=where)
    distribution._source = where
    distribution._origins = origins
    return distribution


def check_config(model: type[ConfigT], tree: Any, *, where: str, prefix: Path = ()) -> ConfigT:
    """The tree as `model`; every fault in one ConfigError, unknown keys with the nearest known one."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        # Several unknown keys of one mapping share the list of what is known: it is told once, at the last of them.
        faults = [_explain(fault, model, prefix) for fault in error.errors(include_url=False)]
        faults = [_without_repeat(fault, faults[position + 1 :]) for position, fault in enumerate(faults)]
    raise ConfigError("; ".join(faults), where=where)


def _without_repeat(fault: str, later: list[str]) -> str:
    said, mark, known = fault.partition(KNOWN_KEYS)
    return said if mark and any(other.endswith(mark + known) for other in later) else fault


def _explain(fault: Any, model: type[BaseModel], prefix: Path) -> str:
    location: Path = fault["loc"]
    key = spell((*prefix, *location))
    if fault["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        nearest = get_close_matches(str(location[-1]), known, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else f"{KNOWN_KEYS}{', '.join(sorted(known)) or 'none'}"
        return f"{key} is not a known key{hint}"
    if fault["type"] == "missing":
        return f"{key} is required"
    shown = "" if fault["type"].startswith(("secret", "model")) else f", got {str(fault['input'])[:80]!r}"
    message: str = fault["msg"]
    return f"{key}: {message[:1].lower()}{message[1:]}{shown}"


def _known_keys(model: type[BaseModel], location: Path) -> list[str]:
    """Keys of the model at a location inside `model`; follows fields and list positions."""
    current: Any = model
    for step in location:
        if isinstance(step, int):
            continue
        fields = getattr(current, "model_fields", {})
        if step not in fields:
            return []
        current = _model_within(fields[step].annotation)
    return list(getattr(current, "model_fields", {}))


def _model_within(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_within(part)
        if found is not None:
            return found
    return None


def _find(name_or_path: str) -> FilePath:
    path = FilePath(name_or_path).expanduser()
    if path.is_file():
        return path
    shipped = {file.stem: file for file in find_distributions()}
    if name_or_path in shipped:
        return shipped[name_or_path]
    if path.is_dir():
        raise ConfigError(f"{name_or_path} is a folder", remedy="Give the path of a distribution's YAML file.")
    if path.suffix in (".yaml", ".yml") or path.parent != FilePath():
        raise ConfigError(f"there is no file {name_or_path}", remedy="Give the path of a distribution's YAML file.")
    nearest = get_close_matches(name_or_path, shipped, n=1)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    raise ConfigError(
        f"there is no distribution named {name_or_path!r}",
        remedy=f"{hint}Shipped: {', '.join(shipped)}. Or give the path of a YAML file.",
    )


def _refuse_classic(tree: dict[str, Any], where: str) -> None:
    found = [key for key in CLASSIC_KEYS if key in tree]
    if found:
        raise ConfigError(
            f"this is a configuration of another Llama Stack ({', '.join(found)}), and its form differs",
            where=where,
            remedy=f"Begin with a copy of {distributions_folder() / 'starter.yaml'}: models, shields and tool groups "
            "stand there under the provider that serves them.",
        )


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key written twice, which YAML would let win in silence."""


def _mapping_without_repeats(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    pairs: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key_node.start_mark)
        if key in pairs:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        pairs[key] = loader.construct_object(value_node, deep=True)
    return pairs


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_repeats)


def _read(file: FilePath) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(file)) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{place}{error.problem or 'not valid YAML'}", where=str(file)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=str(file)) from error
    except RecursionError as error:
        raise ConfigError("nested too deeply for a distribution", where=str(file)) from error


def _override(tree: Any, origins: dict[Path, Origin], key: str, value: Any, where: str) -> None:
    """Set a dotted key. A step into a list is a position or the `provider_id` / `identifier` of the item."""
    *steps, last = key.split(".")
    node: Any = tree
    path: Path = ()
    for step in steps:
        node, taken = _step_into(node, step, key, where)
        path = (*path, taken)
    if isinstance(node, list):
        node, taken = _step_into(node, last, key, where)
        raise ConfigError(f"{key} names a whole list item; name a key inside it", where=where)
    node[last] = value
    for old in [other for other in origins if other[: len(path) + 1] == (*path, last)]:
        del origins[old]
    origins[(*path, last)] = Origin("flag")


def _step_into(node: Any, step: str, key: str, where: str) -> tuple[Any, str | int]:
    if isinstance(node, list):
        for position, item in enumerate(node):
            if step == str(position) or (
                isinstance(item, dict) and step in (item.get("provider_id"), item.get("identifier"))
            ):
                return item, position
        raise ConfigError(f"{key}: there is no item {step!r}", where=where)
    if not isinstance(node, dict):
        raise ConfigError(f"{key}: {step!r} cannot be set inside a plain value", where=where)
    return node.setdefault(step, {}), step


def _swap_embedded_model(tree: dict[str, Any], origins: dict[Path, Origin], model: str, where: str) -> None:
    """Let the embedded engine serve `model` in place of its language models; embedding models stay, and so do the
    models that shields ask.
    """
    entries = tree.get("providers", {}).get("inference", [])
    guards = {
        shield.get("provider_resource_id", shield.get("identifier"))
        for entry in tree.get("providers", {}).get("safety", [])
        for shield in entry.get("shields", [])
    }
    name = model_name(model)
    for position, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("provider_type") == EMBEDDED_ENGINE:
            kept = [
                old
                for old in entry.get("models", [])
                if old.get("model_type", "llm") != "llm" or old.get("identifier") in guards - {name}
            ]
            entry["models"] = [{"identifier": name, "provider_resource_id": model}, *kept]
            path = ("providers", "inference", position, "models")
            for old_path in [other for other in origins if other[: len(path)] == path]:
                del origins[old_path]
            origins[path] = Origin("flag", "--model")
            return
    raise ConfigError(
        f"--model swaps the model of the {EMBEDDED_ENGINE} provider, and this distribution has none",
        where=where,
        remedy="Use the starter distribution, or list the model under its provider in the file.",
    )


def model_name(reference: str) -> str:
    """The name callers use for a GGUF given by path or `hf:` reference: its file name without `.gguf`."""
    return re.sub(r"\.gguf$", "", re.split(r"[/\\:]", reference)[-1], flags=re.IGNORECASE)
