"""`llama model list` and `describe`: Meta's models, and those on this machine."""

import click

from llama_stack.api.common import JsonObject
from llama_stack.cli.choosing import json_option
from llama_stack.cli.local_models import LocalModel, local_models
from llama_stack.cli.printing import print_json, print_note, print_table, size_words
from llama_stack.cli.registry import (
    RegisteredModel,
    is_instruct,
    nearest_models,
    registered_model,
    registered_models,
)
from llama_stack.errors import ConfigError, NotFound


@click.command("list")
@click.option("--show-all", is_flag=True, help="Include the families before Llama 3.1.")
@click.option("--local", "only_local", is_flag=True, help="Only models on this machine.")
@json_option
def list_models(show_all: bool, only_local: bool, as_json: bool) -> None:
    """List Meta's models and those on this machine.

    \b
    Examples:
      llama model list
      llama model list --local --json
    """
    here = local_models()
    registered: list[RegisteredModel] = []
    missing: str | None = None
    if not only_local:
        try:
            registered = registered_models(show_all=show_all)
        except ConfigError as error:
            missing = str(error)
    if as_json:
        print_json({"local": [local_row(one) for one in here], "registry": [registry_row(one) for one in registered]})
    else:
        _print_local(here)
        if registered:
            click.echo("\nMeta's models; `llama model download NAME` fetches one:\n")
            print_table(("MODEL", "CONTEXT", "WEIGHTS", "MADE FOR"), [_registry_cells(one) for one in registered])
    if missing:
        print_note(f"\n{missing}")


def _print_local(here: list[LocalModel]) -> None:
    click.echo("On this machine; `llama stack run --model NAME` serves one:\n")
    rows = [(one.name, size_words(one.size_bytes), "the stack" if one.shipped else one.reference) for one in here]
    print_table(("MODEL", "SIZE", "CAME WITH"), rows)


def _registry_cells(model: RegisteredModel) -> tuple[str, str, str, str]:
    purpose = "safety" if model.model_family.value == "safety" else "chat" if is_instruct(model) else "tuning"
    return model.descriptor(), _tokens(model.max_seq_length), model.quantization_format.value, purpose


def _tokens(count: int) -> str:
    return f"{count // 2**20}M" if count >= 2**20 else f"{count // 1024}K"


def local_row(model: LocalModel) -> JsonObject:
    return {
        "name": model.name,
        "reference": model.reference,
        "path": str(model.path),
        "size_bytes": model.size_bytes,
        "shipped": model.shipped,
    }


def registry_row(model: RegisteredModel) -> JsonObject:
    return {
        "name": model.descriptor(),
        "huggingface_repo": model.huggingface_repo,
        "family": model.model_family.value,
        "context_length": model.max_seq_length,
        "quantization": model.quantization_format.value,
        "instruct": is_instruct(model),
        "description": model.description,
        "architecture": dict(model.arch_args),
    }


@click.command()
@click.argument("model", metavar="MODEL")
@json_option
def describe(model: str, as_json: bool) -> None:
    """Show what is known of one model.

    MODEL is a name from `llama model list`: one of Meta's or one on this machine.

    \b
    Examples:
      llama model describe Llama3.2-1B-Instruct
      llama model describe llama-micro --json
    """
    for here in local_models():
        if model in (here.name, here.reference):
            _describe(local_row(here), as_json)
            return
    registered = registered_model(model)
    if registered is None:
        near = nearest_models(model)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`llama model list` shows the names."
        raise NotFound(f"there is no model '{model}'. {hint}")
    _describe(registry_row(registered), as_json)


def _describe(row: JsonObject, as_json: bool) -> None:
    if as_json:
        print_json(row)
        return
    flat = {key: value for key, value in row.items() if not isinstance(value, dict)}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": deep for inner, deep in value.items()}
    cells = [(key.replace("_", " "), str(value)) for key, value in flat.items() if value is not None]
    print_table(("PROPERTY", "VALUE"), cells)
