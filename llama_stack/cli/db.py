"""`llama db`: the schema of the database that holds a stack's state."""

import asyncio
from dataclasses import asdict

import click

from llama_stack.cli.choosing import DEFAULT_DISTRIBUTION, json_option
from llama_stack.cli.confirming import confirm
from llama_stack.cli.printing import print_json, print_note, print_table
from llama_stack.compose import stack_home
from llama_stack.distribution import load_distribution
from llama_stack.storage import default_url, rollback_schema, schema_status, upgrade_schema

url_option = click.option("--url", help="The database itself: sqlite:///path or postgresql://user@host/name.")
distribution_option = click.option(
    "--distribution", metavar="NAME|PATH", default=DEFAULT_DISTRIBUTION, show_default=True, help="Whose database."
)


def _url(url: str | None, distribution: str) -> str:
    return url or load_distribution(distribution).storage.url or default_url(stack_home())


@click.command()
@json_option
@distribution_option
@url_option
def status(url: str | None, distribution: str, as_json: bool) -> None:
    """Show the database's schema version and what is pending.

    Ends with exit code 1 when `llama db upgrade` is due.
    """
    found = asyncio.run(schema_status(_url(url, distribution)))
    if as_json:
        print_json(asdict(found))
    else:
        rows = [("database", found.database), ("version", str(found.current)), ("latest", str(found.latest))]
        print_table(("PROPERTY", "VALUE"), [*rows, ("pending", ", ".join(found.pending) or "nothing")])
    if found.pending:
        if not as_json:
            print_note("Bring it up to date: llama db upgrade")
        raise click.exceptions.Exit(1)


@click.command()
@json_option
@distribution_option
@url_option
def upgrade(url: str | None, distribution: str, as_json: bool) -> None:
    """Bring the database to this version's schema, after a backup.

    A SQLite file that holds data is copied beside itself first; back a PostgreSQL database up yourself.
    """
    _report(asyncio.run(upgrade_schema(_url(url, distribution))), as_json, "The schema is up to date.")


@click.command()
@click.option("--to", type=click.IntRange(min=0), required=True, help="Schema version to go back to; 0 empties it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@distribution_option
@url_option
def rollback(url: str | None, distribution: str, to: int, yes: bool, as_json: bool) -> None:
    """Take schema changes back, newest first.

    What only the newer schema can hold is lost. A SQLite file is copied beside itself first.
    """
    where = _url(url, distribution)
    shown = asyncio.run(schema_status(where)).database
    confirm(f"Take {shown} back to schema version {to}?", yes)
    _report(asyncio.run(rollback_schema(where, to)), as_json, "There is nothing to take back.")


def _report(done: list[str], as_json: bool, nothing: str) -> None:
    if as_json:
        print_json({"done": done})
    else:
        click.echo("\n".join(done) if done else nothing)
