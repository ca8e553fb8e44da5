"""CSV and TSV (RFC 4180, and the separators that spreadsheets use elsewhere): a table with its header."""

import csv
import io
from collections.abc import Iterator

from llama_stack.documents.blocks import DocumentBuilder
from llama_stack.documents.formats.plain import text_of
from llama_stack.documents.formats.tables import add_table

_SNIFFED_CHARACTERS = 16 * 1024
_SEPARATORS = ",;\t|"


def read_csv(content: bytes, builder: DocumentBuilder) -> None:
    text = text_of(content, builder)
    add_table(_rows(text, _separator(text[:_SNIFFED_CHARACTERS]), builder), builder)


def read_tsv(content: bytes, builder: DocumentBuilder) -> None:
    add_table(_rows(text_of(content, builder), "\t", builder), builder)


def _separator(sample: str) -> str:
    """The one that parts the lines most evenly: each line into the same number of cells, and into most."""
    lines = [line for line in sample.split("\n")[:50] if line.strip()]
    lines = lines[:-1] if len(lines) > 2 and len(sample) == _SNIFFED_CHARACTERS else lines

    def evenness(separator: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator)]
        usual = max(set(widths), key=widths.count) if widths else 1
        return (widths.count(usual) if usual > 1 else 0, usual)

    return max(_SEPARATORS, key=evenness)


def _rows(text: str, separator: str, builder: DocumentBuilder) -> Iterator[list[str]]:
    # A cell may be as long as the whole text: the text has its own limit.
    csv.field_size_limit(builder.max_text_characters + 1)
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    except csv.Error as error:
        builder.warn(f"the rows after the first mistake were left out: {error}")
