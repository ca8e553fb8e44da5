"""Rows as a table in Markdown: readable for a person and for a model, a row a line."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from llama_stack.documents.blocks import BlockKind, DocumentBuilder

MAX_CELLS_PER_ROW = 1000
HEADER_SOUGHT_ROWS = 10
"""A sheet's title and remarks stand in the rows above its header."""


def add_table(rows: Iterable[Sequence[str]], builder: DocumentBuilder, *, page: int | None = None) -> None:
    """Add a table whose first row is its header. Blank rows are left out, and columns that no row fills.

    Stops with the builder's error as soon as the text is over its limit.
    """
    kept: list[list[str]] = []
    size = 0
    for row in rows:
        cells = [cell_text(cell) for cell in row[:MAX_CELLS_PER_ROW]]
        if any(map(str.strip, row[MAX_CELLS_PER_ROW:])):
            builder.warn(f"a table has more than {MAX_CELLS_PER_ROW} columns; the others were left out")
        while cells and not cells[-1]:
            cells.pop()
        if not cells:
            continue
        kept.append(cells)
        size += sum(map(len, cells))
        if size > builder.max_text_characters:
            break
    if not kept:
        return
    width = max(map(len, kept))
    used = [column for column in range(width) if any(column < len(cells) and cells[column] for cells in kept)]
    lines = [_line([cells[column] if column < len(cells) else "" for column in used]) for cells in kept]
    header = f"{lines[0]}\n{_line(['---'] * len(used))}"
    text = "\n".join([header, *lines[1:]])
    builder.add(BlockKind.TABLE, text, page=page, header_length=len(header))


def add_sheet(name: str, rows: Iterator[list[str]], builder: DocumentBuilder) -> None:
    """Add a sheet of a spreadsheet as a heading with a table. rows: without blank ones; all of them are taken."""
    first = list(islice(rows, HEADER_SOUGHT_ROWS))
    if not first:
        return
    builder.add_heading(name, 1)
    widest = max(sum(map(bool, row)) for row in first)
    header = next(number for number, row in enumerate(first) if sum(map(bool, row)) >= widest * 0.8)
    builder.add(BlockKind.PARAGRAPH, "\n".join(" ".join(filter(None, row)) for row in first[:header]))
    add_table(chain(first[header:], rows), builder)


def cell_text(cell: str) -> str:
    """A cell on one line, that does not end its column early."""
    return " ".join(cell.split()).replace("|", "\\|")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
