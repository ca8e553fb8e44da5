"""XLSX (ISO/IEC 29500-1, SpreadsheetML): a sheet is a heading with a table; formulas are read as their last results."""

import io
import warnings
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Any

from llama_stack.documents.blocks import DocumentBuilder
from llama_stack.documents.failures import damaged, missing_library
from llama_stack.documents.formats.tables import add_sheet


def read_spreadsheet(content: bytes, builder: DocumentBuilder) -> None:
    """Raises DocumentUnreadable: `damaged` or `missing_library`. The package has been checked already."""
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise missing_library("openpyxl", "XLSX files") from None
    # openpyxl raises what its parser or its own code happens to raise.
    broken = (InvalidFileException, SyntaxError, KeyError, ValueError, AttributeError, TypeError, IndexError)
    try:
        with warnings.catch_warnings(action="ignore"):
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
            try:
                builder.title = (book.properties.title or "").strip()
                for sheet in book.worksheets:
                    # The size a sheet claims is often wrong, and then cells would be missing.
                    sheet.reset_dimensions()
                    add_sheet(sheet.title, _filled_rows(sheet.iter_rows(values_only=True)), builder)
            finally:
                book.close()
    except broken as error:
        raise damaged("XLSX file", "a part of it is missing or malformed") from error


def _filled_rows(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[str]]:
    for row in rows:
        cells = [_shown(value) for value in row]
        if any(cells):
            yield cells


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case date() | time():
            return value.isoformat()
        case _:
            return str(value).strip()
