"""`llama stack list`, `list-apis` and `list-providers`: what is installed here."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import yaml

from llama_stack.api.common import JsonObject
from llama_stack.catalog import Catalog
from llama_stack.cli.choosing import json_option
from llama_stack.cli.lazy import nearest
from llama_stack.cli.printing import print_json, print_table
from llama_stack.distribution import Providers, find_distributions
from llama_stack.errors import ConfigError
from llama_stack.provider import Provider


@click.command("list")
@json_option
def list_distributions(as_json: bool) -> None:
    """List the distributions there are.

    Run one with `llama stack run NAME`.
    """
    rows = [{"name": file.stem, "description": _description(file), "path": str(file)} for file in find_distributions()]
    if as_json:
        print_json(rows)
    else:
        print_table(("NAME", "DESCRIPTION"), [(row["name"], row["description"]) for row in rows])


def _description(file: Path) -> str:
    """Read without substitution: a listing must not ask for the variables that running would need."""
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    return str(tree.get("description", ""))


@click.command("list-apis")
@json_option
def list_apis(as_json: bool) -> None:
    """List the APIs and how many providers each has."""
    declared = [declaration.api for _, declaration in _declared(Catalog()) if isinstance(declaration, Provider)]
    rows = [(api, declared.count(api), _first_line(f"llama_stack.api.{api}")) for api in Providers.model_fields]
    if as_json:
        print_json([{"api": api, "providers": count, "description": text} for api, count, text in rows])
    else:
        print_table(("API", "PROVIDERS", "DESCRIPTION"), [(api, str(count), text) for api, count, text in rows], keep=2)


def _first_line(module: str) -> str:
    return (import_module(module).__doc__ or "").strip().partition("\n")[0]


@click.command("list-providers")
@click.argument("api", required=False)
@json_option
def list_providers(api: str | None, as_json: bool) -> None:
    """List the providers that are installed.

    All of them, or those of one API.

    \b
    Examples:
      llama stack list-providers
      llama stack list-providers inference --json
    """
    if api is not None and api not in Providers.model_fields:
        hint = nearest(api, Providers.model_fields)
        raise click.UsageError(f"there is no API '{api}'. {hint}", ctx=click.get_current_context())
    catalog = Catalog()
    rows = [_row(kind, catalog.places[kind].package, declaration) for kind, declaration in _declared(catalog)]
    rows = [row for row in rows if api in (None, row["api"])]
    if as_json:
        print_json(rows)
        return
    cells = [(row["provider_type"], row["api"] or "?", row["summary"] or f"broken: {row['error']}") for row in rows]
    print_table(("PROVIDER", "API", "DESCRIPTION"), cells, keep=2)


def _declared(catalog: Catalog) -> Iterator[tuple[str, Provider | ConfigError]]:
    """Every type with its declaration, or with what is wrong: one broken package must not hide the others."""
    for provider_type in catalog.types():
        try:
            yield provider_type, catalog.get(provider_type)
        except ConfigError as error:
            yield provider_type, error


def _row(provider_type: str, package: str, declaration: Provider | ConfigError) -> JsonObject:
    row: JsonObject = {"provider_type": provider_type, "api": None, "summary": None, "package": package, "error": None}
    if isinstance(declaration, ConfigError):
        return row | {"error": str(declaration)}
    settings = {
        name: {"required": field.is_required(), "description": field.description}
        for name, field in declaration.config.model_fields.items()
    }
    return row | {
        "api": declaration.api,
        "summary": declaration.summary,
        "requires": list(declaration.requires),
        "settings": settings,
    }
