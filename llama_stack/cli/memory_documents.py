"""`llama memory documents` and `delete`: what a bank holds, and out with it."""

from typing import Any

import click

from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import DocumentState, DocumentStatus
from llama_stack.cli.choosing import json_option
from llama_stack.cli.confirming import confirm
from llama_stack.cli.memory_options import bank_option, memory_options, one_line, opened, read_filters
from llama_stack.cli.memory_warnings import tell_warnings
from llama_stack.cli.printing import print_json, print_note, print_table, size_words
from llama_stack.sdk.adding import PATH


@click.command()
@bank_option
@click.option("--failed", is_flag=True, help="Only those that could not be read, with the reason.")
@json_option
@memory_options
def documents(bank: str, failed: bool, as_json: bool, where: Any) -> None:
    """List the documents of a memory bank, newest first.

    \b
    Examples:
      llama memory documents
      llama memory documents --bank support --failed
    """
    with opened(where) as stack:
        found = stack.memory.documents(bank=bank, states=[DocumentState.FAILED] if failed else None)
    if as_json:
        print_json([status.model_dump(mode="json") for status in found])
    elif not found:
        print_note(f"{bank}: no document failed." if failed else f"{bank}: no documents.")
    elif failed:
        print_table(("DOCUMENT", "CODE", "REASON"), [_failed_row(status) for status in found])
    else:
        print_table(("DOCUMENT", "STATE", "PASSAGES", "SIZE", "ADDED"), [_row(status) for status in found])
        tell_warnings((_called(status), status.warnings) for status in found)


def _called(status: DocumentStatus) -> str:
    """What `llama memory delete` knows it by."""
    return one_line(str(status.metadata.get(PATH) or status.document_id))


def _row(status: DocumentStatus) -> tuple[str, ...]:
    added = f"{status.created_at:%Y-%m-%d %H:%M}"
    return (_called(status), status.state.value, str(status.chunks), size_words(status.size_bytes), added)


def _failed_row(status: DocumentStatus) -> tuple[str, ...]:
    code, reason = ("", "") if status.error is None else (status.error.code, status.error.message)
    return (_called(status), code, one_line(reason))


@click.command()
@click.argument("named", metavar="DOCUMENT...", nargs=-1)
@bank_option
@click.option(
    "--filter",
    "condition",
    metavar="KEY=VALUE",
    multiple=True,
    callback=read_filters,
    help="All documents whose metadata fulfil it; also != > >= < <=. Repeatable.",
)
@click.option("--all", "whole", is_flag=True, help="The bank itself with all that is in it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@memory_options
def delete(
    named: tuple[str, ...],
    bank: str,
    condition: Comparison | Compound | None,
    whole: bool,
    yes: bool,
    where: Any,
) -> None:
    """Forget documents of a memory bank, or the whole of it.

    DOCUMENT is the path it was added from, a folder of such, its id, or a name that only one has. The files themselves
    stay where they are.

    \b
    Examples:
      llama memory delete report.pdf
      llama memory delete --bank support --filter product=kettle
      llama memory delete --bank support --all
    """
    if whole == bool(named or condition is not None):
        raise click.UsageError("name documents, select them with --filter, or say --all for the whole bank")
    with opened(where) as stack:
        if whole:
            count = sum(stack.memory.stats(bank).documents.values())
            confirm(f"Forget the memory bank {bank!r} with {count} documents?", yes)
            stack.memory.drop_bank(bank)
            click.echo(f"{bank}: forgotten, with {count} documents.")
            return
        gone = stack.memory.delete(*named, bank=bank, where=condition)
    click.echo(f"{bank}: {gone} document{'' if gone == 1 else 's'} forgotten.")
