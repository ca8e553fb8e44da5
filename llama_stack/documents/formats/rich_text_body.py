"""What an RTF document says becomes blocks: paragraphs as they end, rows as they end, notes after all."""

import re

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.formats.tables import add_table

_BULLET = re.compile(r"[•‣◦▪●○■\u2013\uf0b7·*-][ \t]*\t[ \t]*")
_NUMBER = re.compile(r"(\(?(?:\d{1,3}|[a-zA-Z])[.)])[ \t]*\t[ \t]*")


class RichTextBody:
    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._text: list[str] = []
        self._items: list[str] = []
        self._cells: list[str] = []
        self._rows: list[list[str]] = []
        self._note: list[str] = []
        self._notes: list[str] = []
        self._mark = ""

    def add_text(self, text: str) -> None:
        self._text.append(text)

    def set_mark(self, mark: str) -> None:
        """What stands before an item of a list, as the writing program laid it out."""
        self._mark += mark

    def add_note(self, text: str) -> None:
        self._note.append(text)

    def end_note(self) -> None:
        self._notes.append(_joined(self._note))

    def end_paragraph(self, *, level: int, in_table: bool) -> None:
        """level: of a heading, 0 for anything else. in_table: the paragraph goes on in its cell."""
        if in_table:
            self._text.append("\n")
            self._mark = ""
            return
        text = _joined(self._text)
        mark, self._mark = self._mark.strip(), ""
        if not text.strip():
            return
        self._end_table()
        if level:
            self._end_list()
            self._builder.add_heading(text, level)
        elif (item := _as_item(text, mark)) is not None:
            self._items.append(item)
        else:
            self._end_list()
            self._builder.add(BlockKind.PARAGRAPH, text)

    def end_cell(self) -> None:
        self._mark = ""
        self._cells.append(_joined(self._text))

    def end_row(self) -> None:
        self._end_list()
        if self._text:
            self.end_cell()
        self._rows.append(self._cells)
        self._cells = []

    def end(self) -> None:
        """The document ends, and what it left open with it."""
        if self._cells:
            self.end_row()
        self.end_paragraph(level=0, in_table=False)
        self._end_table()
        self._end_list()
        for note in self._notes:
            self._builder.add(BlockKind.PARAGRAPH, note)

    def _end_table(self) -> None:
        rows, self._rows = self._rows, []
        add_table(rows, self._builder)

    def _end_list(self) -> None:
        items, self._items = self._items, []
        self._builder.add(BlockKind.LIST, "\n".join(items))


def _as_item(text: str, mark: str) -> str | None:
    """The paragraph as an item of a list, if it is one. Some programs write the mark as a part of the text."""
    if mark:
        return f"{mark if mark[-1] in '.)' else '-'} {text.strip()}"
    text = text.strip()
    if found := _BULLET.match(text):
        return f"- {text[found.end() :]}"
    if found := _NUMBER.match(text):
        return f"{found[1]} {text[found.end() :]}"
    return None


def _joined(pieces: list[str]) -> str:
    """The pieces as one text, which empties them. A letter beyond the 65,536th comes in two halves."""
    text = "".join(pieces)
    pieces.clear()
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
