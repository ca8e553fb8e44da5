"""What the commands write: tables that fit the terminal, JSON for scripts, errors, progress.

Rich is imported only when something is drawn on a terminal. A pipe gets plain columns, one line a row whatever their
length, so that `grep` and `awk` see whole values.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

Row = Sequence[str]


def colours_wanted() -> bool:
    """NO_COLOR (https://no-color.org): present and not empty switches colours off."""
    return not os.environ.get("NO_COLOR")


def styled(text: str, **style: Any) -> str:
    """The text in click's style words; click drops the codes again where the stream is no terminal."""
    return click.style(text, **style) if colours_wanted() else text


def console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, color_system="auto" if colours_wanted() else None)


def print_json(value: Any) -> None:
    """The value as indented JSON, characters beyond ASCII as they are."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Row], *, keep: int = 1) -> None:
    """Rows under their headings. The first `keep` columns are never broken; the others fold to fit the terminal."""
    if not sys.stdout.isatty():
        click.echo("\n".join(plain_columns([columns, *rows])))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, no_wrap=position < keep, overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console().print(table)


def plain_columns(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of aligned columns."""
    widths = [max((len(row[position]) for row in rows), default=0) for position in range(len(rows[0]) if rows else 0)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_error(message: str, remedy: str | None = None) -> None:
    """One message for a person on stderr, the remedy on a line of its own."""
    click.echo(f"{styled('Error:', fg='red', bold=True)} {message}", err=True)
    if remedy:
        click.echo(f"  {remedy}", err=True)


def print_note(message: str) -> None:
    """A remark on stderr, so that stdout holds only what was asked for."""
    click.echo(message, err=True)


def size_words(size_bytes: int) -> str:
    """A size as a person reads it, in decimal units like the sizes on model pages."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr that is told (bytes done, bytes in all or None); without a terminal, one line at each tenth."""
    if not sys.stderr.isatty():
        yield _tenths(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    drawn = Console(stderr=True, color_system="auto" if colours_wanted() else None)
    shape = (TextColumn("{task.description}"), BarColumn(bar_width=None), DownloadColumn(), TransferSpeedColumn())
    with Progress(*shape, TimeRemainingColumn(), console=drawn) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _tenths(title: str) -> Callable[[int, int | None], None]:
    told = -1
    of: int | None = None

    def report(done: int, total: int | None) -> None:
        nonlocal told, of
        if total != of:
            told, of = -1, total  # the next file
        tenth = done * 10 // total if total else 0
        if tenth > told:
            told = tenth
            share = f"{tenth * 10} % of {size_words(total)}" if total else size_words(done)
            print_note(f"{title}: {share}")

    return report
