"""Jupyter notebooks (nbformat 4, and the cells of 3): texts, code, and what the code has printed; no pictures."""

import json
from typing import Any

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.formats.json_text import read_json
from llama_stack.documents.formats.markdown import add_markdown
from llama_stack.documents.formats.plain import text_of

MAX_OUTPUT_CHARACTERS = 10_000
"""Of one output: a training run prints megabytes."""


def read_notebook(content: bytes, builder: DocumentBuilder) -> None:
    """What is no notebook, whatever its name, is read as the JSON that it is."""
    cells = _cells(text_of(content, builder))
    if cells is None:
        read_json(content, builder)
        return
    for cell in cells:
        kind, source = cell.get("cell_type"), _joined(cell.get("source", cell.get("input", "")))
        if kind == "markdown":
            add_markdown(source, builder)
        else:
            builder.add(BlockKind.CODE if kind == "code" else BlockKind.PARAGRAPH, source)
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else ():
            if isinstance(output, dict):
                builder.add(BlockKind.CODE, _printed(output)[:MAX_OUTPUT_CHARACTERS])


def _cells(text: str) -> list[dict[str, Any]] | None:
    try:
        book = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(book, dict):
        return None
    sheets = book.get("worksheets")
    cells = book.get(
        "cells", sheets[0].get("cells") if isinstance(sheets, list) and sheets and isinstance(sheets[0], dict) else None
    )
    return [one for one in cells if isinstance(one, dict)] if isinstance(cells, list) else None


def _printed(output: dict[str, Any]) -> str:
    """What a person reads of an output; a picture has a text that says nothing."""
    shown = output.get("data")
    if isinstance(shown, dict):
        return "" if any(kind.startswith("image/") for kind in shown) else _joined(shown.get("text/plain", ""))
    if output.get("output_type") == "error":
        return f"{output.get('ename', '')}: {output.get('evalue', '')}"
    return _joined(output.get("text", ""))


def _joined(lines: object) -> str:
    return "".join(map(str, lines)) if isinstance(lines, list) else str(lines or "")
