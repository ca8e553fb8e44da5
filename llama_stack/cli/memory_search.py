"""`llama memory search`: the passages that answer a question, with where they stand."""

import shutil
import sys
import textwrap
from typing import Any

import click

from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.cli.chat_screen import printable
from llama_stack.cli.choosing import json_option
from llama_stack.cli.excerpts import excerpt
from llama_stack.cli.memory_options import memory_options, opened, read_filters
from llama_stack.cli.printing import print_json, print_note, styled
from llama_stack.sdk.memory import DEFAULT_BANK, own_text

INDENT = "   "
BEGIN, END = "\ue000", "\ue001"
"""Around a word that will be coloured: characters for private use, which texts do not hold."""


@click.command()
@click.argument("question", nargs=-1)
@click.option(
    "--bank",
    "banks",
    metavar="BANK",
    multiple=True,
    default=[DEFAULT_BANK],
    show_default=True,
    help="The memory bank. Repeatable: several are searched together.",
)
@click.option("--mode", type=click.Choice(["vector", "keyword", "hybrid"]), help="Default is the best the bank can do.")
@click.option("--max", "max_chunks", type=click.IntRange(1, 200), default=5, show_default=True, help="How many.")
@click.option(
    "--filter",
    "condition",
    metavar="KEY=VALUE",
    multiple=True,
    callback=read_filters,
    help="What the metadata must fulfil; also != > >= < <=. Repeatable.",
)
@json_option
@memory_options
def search(
    question: tuple[str, ...],
    banks: tuple[str, ...],
    mode: Any,
    max_chunks: int,
    condition: Comparison | Compound | None,
    as_json: bool,
    where: Any,
) -> None:
    """Find the passages that answer a question, or all that a filter selects.

    \b
    Examples:
      llama memory search "When may I return a kettle?"
      llama memory search deadline --filter product=kettle --filter "year>=2024"
      llama memory search "who signs" --bank contracts --json
      llama memory search --filter product=kettle --max 100
    """
    asked = " ".join(question)
    if not asked.strip() and condition is None:
        raise click.UsageError("say what to look for, or select with --filter")
    with opened(where) as stack:
        found = stack.memory.search(asked, bank=list(banks), mode=mode, max_chunks=max_chunks, filters=condition)
        is_empty = not found and not any(stack.memory.stats(bank).chunks for bank in banks)
    if as_json:
        print_json([chunk.model_dump(mode="json") for chunk in found])
        return
    for number, chunk in enumerate(found, start=1):
        click.echo(_shown(number, chunk, asked))
    if is_empty:
        print_note(f"There is nothing in {' or '.join(banks)} yet; `llama memory add PATH` puts something in.")
    elif not found:
        print_note("Nothing was found.")


def _shown(number: int, chunk: Chunk, question: str) -> str:
    place = [styled(printable(chunk.document_name or chunk.document_id), bold=True)]
    if chunk.page is not None:
        place.append(f"page {chunk.page}")
    if chunk.headings:
        place.append(printable(" > ".join(chunk.headings)))
    head = f"{number}  {styled(f'{chunk.score:.3f}', fg='cyan')}  {', '.join(place)}"
    return f"{head}\n{_marked(printable(own_text(chunk)), question)}\n"


def _marked(content: str, question: str) -> str:
    """The excerpt within the terminal's width, its matching words bold; a pipe gets one line."""
    if not sys.stdout.isatty():
        return INDENT + excerpt(content, question, lambda word: word)
    width = max(40, shutil.get_terminal_size().columns - len(INDENT))
    # Lines are broken before the words are coloured, as codes have no width.
    lines = textwrap.wrap(excerpt(content, question, lambda word: f"{BEGIN}{word}{END}"), width)
    before, _, after = styled("|", fg="yellow", bold=True).partition("|")
    return "\n".join(INDENT + line for line in lines).replace(BEGIN, before).replace(END, after)
