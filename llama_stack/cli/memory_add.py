"""`llama memory add`: files, folders, addresses and what comes through a pipe, into a memory bank."""

import base64
import hashlib
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import click

from llama_stack.api.memory import ChunkSizes, Document
from llama_stack.cli.chat_screen import printable
from llama_stack.cli.choosing import json_option
from llama_stack.cli.memory_facts import add_facts, read_facts
from llama_stack.cli.memory_options import bank_option, memory_options, opened, read_attributes
from llama_stack.cli.memory_warnings import tell_warnings
from llama_stack.cli.printing import colours_wanted, print_error, print_json, print_note
from llama_stack.errors import NotFound
from llama_stack.sdk.adding import PATH, Added
from llama_stack.sdk.folders import FoundFiles, find_files
from llama_stack.sdk.memory import DEFAULT_BANK, Source, is_address
from llama_stack.sdk.stack import SyncLlamaStack

MAX_GONE_SHOWN = 5


@click.command()
@click.argument("sources", metavar="PATH|URL...", nargs=-1)
@bank_option
@click.option(
    "--attribute",
    "metadata",
    metavar="KEY=VALUE",
    multiple=True,
    callback=read_attributes,
    help="Metadata of each document, by which searches can be filtered. Repeatable.",
)
@click.option("--chunk-size", metavar="TOKENS", type=click.IntRange(16, 8192), help="How long a passage may be.")
@click.option("--name", help="What citations call the text that comes through a pipe.")
@click.option("--facts", metavar="FILE", help="Entities and relations for a graph bank, as JSON; - for a pipe.")
@json_option
@memory_options
def add(
    sources: Sequence[str],
    bank: str,
    metadata: dict[str, Any],
    chunk_size: int | None,
    name: str | None,
    facts: str | None,
    as_json: bool,
    where: Any,
) -> None:
    """Remember files, folders and web pages.

    Folders are taken with all that is in them, but for what is hidden, made by tools, or holds no text. `-` reads a
    document from a pipe. What is there already and has not changed is left as it is. A bank that is not there is made.

    \b
    Examples:
      llama memory add report.pdf notes/
      llama memory add handbook/ --bank support --attribute product=kettle
      llama memory add https://example.org/page.html --url http://localhost:8321
      pdftotext scan.pdf - | llama memory add - --name scan.pdf
      llama memory add --facts family.json --bank family

    \b
    FILE of --facts is a list of what documents say:
      [{"document_id": "tree",
        "entities": [{"name": "Ada", "type": "person", "description": ""}],
        "relations": [{"subject": "Ada", "relation": "is the mother of",
                       "object": "Ben", "evidence": ""}],
        "metadata": {}}]
    """
    if facts is not None:
        if sources or metadata or chunk_size is not None or name is not None:
            raise click.UsageError("--facts: stands alone but for --bank; add documents by another command")
        _add_facts(facts, bank, as_json, where)
        return
    if not sources:
        raise click.UsageError("say what to remember: PATH, URL, - for a pipe, or --facts FILE")
    found, others = _wanted(sources, name)
    sizes = None if chunk_size is None else ChunkSizes(chunk_size_tokens=chunk_size)
    with opened(where) as stack:
        results = _add_all(stack, [*others, *found.files], bank, metadata, sizes)
        gone = _gone(stack, sources, bank)
    if as_json:
        print_json({**_as_json(results, found), "gone": gone})
    else:
        _tell(results, found, gone, bank)
    failed = [one for one in results if one.error is not None]
    if failed:
        _tell_failures(failed, len(results), bank)
        raise SystemExit(1)


def _add_all(
    stack: SyncLlamaStack, sources: Sequence[Source], bank: str, metadata: dict[str, Any], sizes: ChunkSizes | None
) -> list[Added]:
    """What became of each. A bank that is not there is made."""
    _make_bank(stack, bank)
    results: list[Added] = []
    adding = stack.memory.add_each(*sources, bank=bank, metadata=metadata, sizes=sizes)
    with _progress(len(sources)) as report, closing(adding) as events:  # type: ignore[type-var]  # a generator
        for one in events:
            results.append(one)
            report(len(results), one.source)
    return results


def _add_facts(file: str, bank: str, as_json: bool, where: Any) -> None:
    facts = read_facts(file)
    with opened(where) as stack:
        if add_facts(stack, bank, facts):
            print_note(f"Made the memory bank {bank!r}.")
    if as_json:
        print_json({"inserted": [one.document_id for one in facts]})
        return
    told = sum(len(one.entities) + len(one.relations) for one in facts)
    click.echo(f"{bank}: {told} facts of {len(facts)} document{'' if len(facts) == 1 else 's'}.")


def _wanted(sources: Sequence[str], name: str | None) -> tuple[FoundFiles, list[Source]]:
    found = find_files(one for one in sources if one != "-" and not is_address(one))
    others: list[Source] = [one for one in sources if is_address(one)]
    if "-" in sources:
        others.append(_piped(name or "stdin"))
    elif name is not None:
        raise click.UsageError("--name: is of the text that `-` reads; files have names of their own")
    return found, others


def _piped(name: str) -> Document:
    content = sys.stdin.buffer.read()
    identity = f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"
    try:
        return Document(document_id=identity, name=name, content=content.decode())
    except UnicodeDecodeError:
        encoded = base64.b64encode(content).decode()
        return Document(document_id=identity, name=name, url=f"data:application/octet-stream;base64,{encoded}")


def _make_bank(stack: SyncLlamaStack, bank: str) -> None:
    if bank == DEFAULT_BANK:
        return
    try:
        stack.memory.stats(bank)
    except NotFound:
        stack.memory.create_bank(bank)
        print_note(f"Made the memory bank {bank!r}.")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar of files on a terminal's stderr; a pipe sees the summary only."""
    if not sys.stderr.isatty():
        yield lambda done, source: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, color_system="auto" if colours_wanted() else None)
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda done, source: progress.update(task, completed=done, description=escape(printable(_short(source))))


def _tell(results: Sequence[Added], found: FoundFiles, gone: Sequence[str], bank: str) -> None:
    for line in _summary(results, found, bank):
        click.echo(line)
    tell_warnings((_short(one.source), one.status.warnings) for one in results if one.status is not None)
    _tell_gone(gone, bank)


def _summary(results: Sequence[Added], found: FoundFiles, bank: str) -> list[str]:
    counts = Counter(one.outcome for one in results)
    told = [f"{counts[outcome]} {outcome}" for outcome in ("added", "changed", "unchanged") if counts[outcome]]
    chunks = sum(one.status.chunks for one in results if one.status is not None)
    lines = [f"{bank}: {', '.join(told) or 'nothing added'}; {chunks} passages."]
    if found.skipped:
        reasons = Counter(one.reason for one in found.skipped)
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        lines.append(f"Skipped {len(found.skipped)}: {listed}.")
    return lines


def _gone(stack: SyncLlamaStack, sources: Sequence[str], bank: str) -> list[str]:
    """Paths in the bank that lay in the folders which were named, and lie there no more."""
    folders = [Path(one).absolute() for one in sources if one != "-" and not is_address(one) and Path(one).is_dir()]
    if not folders:
        return []
    paths = [str(status.metadata.get(PATH) or "") for status in stack.memory.documents(bank=bank)]
    return sorted(
        path
        for path in paths
        if any(Path(path).is_relative_to(folder) for folder in folders) and not Path(path).exists()
    )


def _tell_gone(gone: Sequence[str], bank: str) -> None:
    """They are not forgotten unasked: a folder may be gone for a moment, as a disk that is not mounted."""
    if not gone:
        return
    files = "1 file is" if len(gone) == 1 else f"{len(gone)} files are"
    where = "" if bank == DEFAULT_BANK else f" --bank {shlex.quote(bank)}"
    click.echo(f"{files} no longer there but still in the bank; to forget what is gone:")
    for path in gone[:MAX_GONE_SHOWN]:
        click.echo(printable(f"  llama memory delete {shlex.quote(path)}{where}"))
    if len(gone) > MAX_GONE_SHOWN:
        click.echo(f"  and {len(gone) - MAX_GONE_SHOWN} more; --json lists them all")


def _tell_failures(failed: Sequence[Added], of: int, bank: str) -> None:
    print_error(f"{len(failed)} of {of} were not added to {bank!r}:")
    for one in failed:
        assert one.error is not None
        print_note(printable(f"  {_short(one.source)}  [{one.error.code}] {one.error.message}"))


def _as_json(results: Sequence[Added], found: FoundFiles) -> Any:
    return {
        "documents": [
            {
                "source": one.source,
                "outcome": one.outcome,
                "document_id": None if one.status is None else one.status.document_id,
                "chunks": 0 if one.status is None else one.status.chunks,
                "warnings": [] if one.status is None else one.status.warnings,
                "error": None if one.error is None else one.error.model_dump(),
            }
            for one in results
        ],
        "skipped": [{"path": str(one.path), "reason": one.reason} for one in found.skipped],
    }


def _short(source: str) -> str:
    """A path below this folder as a person would type it."""
    here = Path.cwd()
    return os.path.relpath(source, here) if Path(source).is_relative_to(here) else source
