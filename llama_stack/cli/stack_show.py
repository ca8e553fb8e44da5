"""`llama stack show`: a distribution as it would run, and where each value came from."""

import os
import shutil
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import click

from llama_stack.cli.choosing import distribution_options, json_option
from llama_stack.cli.printing import print_json, print_table, styled
from llama_stack.compose import mask_secrets, resolve_providers, stack_home
from llama_stack.distribution import Distribution
from llama_stack.substitution import Origin, Path, spell


@click.command()
@click.option("--resolved", is_flag=True, help="Show every value and where it came from.")
@json_option
@distribution_options
def show(distribution: Distribution, resolved: bool, as_json: bool) -> None:
    """Show a distribution's settings and where each came from.

    Secrets are masked. The options that change values are those of `llama stack run`.

    \b
    Examples:
      llama stack show starter
      llama stack show starter --resolved --port 9000
      llama stack show ./my-stack.yaml --resolved --json
    """
    rows = list(resolved_values(distribution))
    if as_json:
        values = {spell(path): {"value": value, "origin": origin} for path, value, origin in rows}
        print_json({"name": distribution.name, "source": distribution.source, "values": values})
    elif resolved:
        _print_resolved(rows)
    else:
        _print_overview(distribution)


def resolved_values(distribution: Distribution) -> Iterator[tuple[Path, Any, str]]:
    """Path, masked value and origin of every setting: the file's, the server's and each provider's own defaults."""
    yield (
        ("home",),
        str(stack_home()),
        "environment LLAMA_STACK_HOME" if os.environ.get("LLAMA_STACK_HOME") else "default",
    )
    tree = distribution.model_dump(mode="json")
    configs = {provider.provider_id: provider.masked_config for provider in resolve_providers(distribution)}
    for entries in tree["providers"].values():
        for entry in entries:
            entry["config"] = configs.get(entry["provider_id"], entry["config"])
    for path, value in _leaves(mask_secrets(tree), ()):
        yield path, value, _origin(distribution, path)


def _leaves(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(node, list) and node:
        for position, value in enumerate(node):
            yield from _leaves(value, (*path, position))
    else:
        yield path, node


def _origin(distribution: Distribution, path: Path) -> str:
    for length in range(len(path), 0, -1):
        origin = distribution.origins.get(path[:length])
        if origin is not None:
            return _flag(path, origin) if origin.kind == "flag" else str(origin)
    return "provider default" if "config" in path else "default"


def _flag(path: Path, origin: Origin) -> str:
    return origin.detail or (f"--{path[-1]}" if path in (("server", "port"), ("server", "host")) else "--set")


def _print_resolved(rows: list[tuple[Path, Any, str]]) -> None:
    """In groups, each under the place in the file that its keys share; values that are empty are left out."""
    set_rows = [row for row in rows if row[1] not in (None, "", [], {})]
    for place, group in groupby(set_rows, key=lambda row: _place(row[0])):
        if place:
            click.echo(f"\n{styled(spell(place), bold=True)}")
        cells = [(spell(path[len(place) :]), str(value), origin) for path, value, origin in group]
        print_table(("SETTING", "VALUE", "CAME FROM"), cells)


def _place(path: Path) -> Path:
    """`providers.inference[0]`, `server`, or nothing for what stands at the top."""
    return path[:3] if path[0] == "providers" else path[:-1]


def _print_overview(distribution: Distribution) -> None:
    heading = f"{distribution.name}: {distribution.description}" if distribution.description else distribution.name
    click.echo(click.wrap_text(heading, shutil.get_terminal_size().columns))
    click.echo()
    address = f"{distribution.server.host}:{distribution.server.port}"
    facts = [("file", distribution.source), ("address", address), ("state", str(stack_home()))]
    print_table(("PROPERTY", "VALUE"), facts)
    click.echo()
    rows = []
    for provider in resolve_providers(distribution):
        resources = [
            entry.identifier
            for field in ("models", "shields", "memory_banks", "tool_groups")
            for entry in getattr(provider.entry, field, [])
        ]
        rows.append((provider.provider_id, provider.entry.provider_type, provider.api, ", ".join(resources)))
    print_table(("PROVIDER", "TYPE", "API", "SERVES"), rows)
