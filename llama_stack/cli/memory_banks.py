"""`llama memory list`, `create` and `stats`: the banks there are."""

from typing import Any

import click

from llama_stack.api.memory import BankRecord, DocumentState
from llama_stack.api.resources import BankKind, GraphBank, KeyValueBank, KeywordBank, VectorBank
from llama_stack.cli.choosing import json_option
from llama_stack.cli.memory_options import bank_option, memory_options, opened
from llama_stack.cli.printing import print_json, print_note, print_table, size_words


@click.command()
@json_option
@memory_options
def list_banks(as_json: bool, where: Any) -> None:
    """List the memory banks, newest first.

    \b
    Examples:
      llama memory list
      llama memory list --url http://localhost:8321 --json
    """
    with opened(where) as stack:
        banks = stack.memory.banks()
    if as_json:
        print_json([record.model_dump(mode="json") for record in banks])
        return
    if not banks:
        print_note("There is no memory bank yet; `llama memory add PATH` makes one.")
        return
    columns = ("BANK", "KIND", "PROVIDER", "DOCUMENTS", "FAILED", "SIZE", "LAST USED")
    print_table(columns, [_row(record) for record in banks])


def _row(record: BankRecord) -> tuple[str, ...]:
    counts = record.documents
    return (
        record.bank.identifier,
        record.bank.bank.kind,
        record.bank.provider_id,
        str(counts.get(DocumentState.COMPLETED, 0)),
        str(counts.get(DocumentState.FAILED, 0)),
        size_words(record.size_bytes),
        f"{record.last_active_at:%Y-%m-%d %H:%M}",
    )


@click.command()
@click.argument("bank")
@click.option(
    "--kind",
    type=click.Choice(["vector", "keyword", "keyvalue", "graph"]),
    default="vector",
    show_default=True,
    help="What it holds.",
)
@click.option("--embedding-model", metavar="MODEL", help="Of a vector bank; default is the first of the stack.")
@click.option("--chunk-size", metavar="TOKENS", type=click.IntRange(16, 8192), help="How long a passage may be.")
@click.option("--extraction-model", metavar="MODEL", help="Of a graph bank: the chat model that reads documents.")
@click.option("--provider", "provider_id", metavar="ID", default="", help="Default is the first that serves.")
@memory_options
def create(
    bank: str,
    kind: str,
    embedding_model: str | None,
    chunk_size: int | None,
    extraction_model: str | None,
    provider_id: str,
    where: Any,
) -> None:
    """Make a memory bank.

    \b
    Examples:
      llama memory create contracts --chunk-size 256
      llama memory create settings --kind keyvalue
    """
    wanted = _kind(kind, embedding_model, chunk_size, extraction_model)
    with opened(where) as stack:
        record = stack.memory.create_bank(bank, wanted, provider_id=provider_id)
    click.echo(f"{record.bank.identifier}: a {kind} bank of {record.bank.provider_id}.")


def _kind(kind: str, embedding_model: str | None, chunk_size: int | None, extraction_model: str | None) -> BankKind:
    if embedding_model is not None and kind != "vector":
        raise click.UsageError("--embedding-model: only a vector bank has one")
    if extraction_model is not None and kind != "graph":
        raise click.UsageError("--extraction-model: only a graph bank has one")
    if chunk_size is not None and kind not in ("vector", "keyword"):
        raise click.UsageError(f"--chunk-size: a {kind} bank does not cut documents")
    match kind:
        case "vector":
            return VectorBank(embedding_model=embedding_model or "", chunk_size_tokens=chunk_size)
        case "keyword":
            return KeywordBank(chunk_size_tokens=chunk_size)
        case "keyvalue":
            return KeyValueBank()
        case _:
            return GraphBank(extraction_model=extraction_model or "")


@click.command()
@bank_option
@json_option
@memory_options
def stats(bank: str, as_json: bool, where: Any) -> None:
    """Show how much is in a memory bank.

    \b
    Examples:
      llama memory stats
      llama memory stats --bank support --json
    """
    with opened(where) as stack:
        found = stack.memory.stats(bank)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    documents = ", ".join(f"{count} {state.value}" for state, count in found.documents.items()) or "none"
    size = "" if found.size_bytes is None else f"; {size_words(found.size_bytes)} on disk"
    click.echo(f"{bank}: documents: {documents}; passages: {found.chunks}{size}")
