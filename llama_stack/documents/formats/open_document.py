"""ODT, ODP and ODS (OpenDocument 1.3, OASIS): headings, paragraphs, lists, tables, slides and sheets.

Read with the standard library alone. Cells are read as they are shown, dates in the order of ISO 8601.
"""

import io
import zipfile
from collections.abc import Iterator
from itertools import repeat
from typing import IO
from xml.etree import ElementTree

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.failures import DocumentUnreadable, damaged
from llama_stack.documents.formats.tables import MAX_CELLS_PER_ROW, add_sheet, add_table

_OASIS = "urn:oasis:names:tc:opendocument:xmlns"
_OFFICE, _TEXT, _TABLE = f"{{{_OASIS}:office:1.0}}", f"{{{_OASIS}:text:1.0}}", f"{{{_OASIS}:table:1.0}}"
_DRAW, _STYLE = f"{{{_OASIS}:drawing:1.0}}", f"{{{_OASIS}:style:1.0}}"
_PRESENTATION, _SVG = f"{{{_OASIS}:presentation:1.0}}", f"{{{_OASIS}:svg-compatible:1.0}}"
_TITLE = "{http://purl.org/dc/elements/1.1/}title"

_UNSEEN = frozenset({
    f"{_TEXT}tracked-changes", f"{_TEXT}table-of-content", f"{_TEXT}alphabetical-index", f"{_TEXT}illustration-index",
    f"{_TEXT}ruby-text", f"{_TEXT}note-citation", f"{_OFFICE}annotation", f"{_OFFICE}forms", f"{_DRAW}page-thumbnail",
    f"{_OFFICE}event-listeners",
})  # fmt: skip
"""Neither what was deleted or remarked on nor what repeats the headings is the document's text."""
_SHAPES = frozenset({f"{_DRAW}{name}" for name in ("custom-shape", "rect", "ellipse", "circle", "polygon", "path")})
_SLIDE_SURROUNDINGS = frozenset({"page-number", "date-time", "footer", "header", "page"})
_TITLE_STYLES = frozenset({"Title", "Heading"})
_CODE_STYLES = frozenset({"Preformatted_20_Text", "Source_20_Code", "Source_20_Text"})
MAX_STYLE_DEPTH = 16

Element = ElementTree.Element


def read_open_document(content: bytes, builder: DocumentBuilder, *, max_pages: int) -> None:
    """A text, slides or sheets. The package has been checked already.

    Raises DocumentUnreadable: `encrypted`, `damaged` or `too_large`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            if "META-INF/manifest.xml" in names and b":encryption-data" in archive.read("META-INF/manifest.xml"):
                raise DocumentUnreadable(
                    "the document is protected by a password; remove the password and send it again", code="encrypted"
                )
            if "meta.xml" in names:
                found = ElementTree.fromstring(archive.read("meta.xml")).find(f".//{_TITLE}")  # noqa: S314
                builder.title = "" if found is None else " ".join((found.text or "").split())
            with archive.open("content.xml") as stream:
                _Reader(builder, max_pages).read(stream)
    except (ElementTree.ParseError, LookupError, ValueError, zipfile.BadZipFile) as error:
        raise damaged("OpenDocument file", "a part of it is missing or malformed") from error


class _Reader:
    """Adds a body as it streams by: a sheet may have a million rows, of which none is kept."""

    def __init__(self, builder: DocumentBuilder, max_pages: int) -> None:
        self._builder = builder
        self._max_pages = max_pages
        self._styles: dict[str, str] = {}
        self._code: list[str] = []
        self._notes: list[str] = []

    def read(self, stream: IO[bytes]) -> None:
        events = ElementTree.iterparse(stream, events=("start", "end"))  # noqa: S314  # no entities, as was checked
        is_sheets, slides = False, 0
        depth, body_depth = 0, 0
        for event, element in events:
            if event == "start":
                depth += 1
                if element.tag in (f"{_OFFICE}text", f"{_OFFICE}presentation", f"{_OFFICE}spreadsheet"):
                    body_depth, is_sheets = depth, element.tag == f"{_OFFICE}spreadsheet"
                elif is_sheets and element.tag == f"{_TABLE}table" and depth == body_depth + 1:
                    name = element.get(f"{_TABLE}name", "")
                    add_sheet(name, _streamed_rows(events, element), self._builder)
                    depth -= 1
                continue
            depth -= 1
            if element.tag == f"{_STYLE}style":
                parent = element.get(f"{_STYLE}parent-style-name")
                if parent is not None:
                    self._styles[element.get(f"{_STYLE}name", "")] = parent
            if body_depth and depth == body_depth and not is_sheets:
                if element.tag == f"{_DRAW}page":
                    slides += 1
                    self._add_slide(element, slides)
                else:
                    self._add(element, None)
                element.clear()
            elif element.tag in (f"{_OFFICE}text", f"{_OFFICE}presentation"):
                body_depth = 0
        self._builder.pages = slides or None
        self._end_code(None)
        for note in self._notes:
            self._builder.add(BlockKind.PARAGRAPH, note)

    # --- blocks -------------------------------------------------------------------------------------------------

    def _add_slide(self, slide: Element, number: int) -> None:
        if number > self._max_pages:
            raise DocumentUnreadable(
                f"it has more than {self._max_pages} slides; split it, or raise max_pages", code="too_large"
            )
        notes = [child for child in slide if child.tag == f"{_PRESENTATION}notes"]
        frames = [child for child in slide if child.tag != f"{_PRESENTATION}notes"]
        titles = [frame for frame in frames if frame.get(f"{_PRESENTATION}class") == "title"]
        for frame in titles[:1]:
            self._builder.add_heading(self._text(frame), 1, page=number)
        for frame in (*(frame for frame in frames if frame not in titles[:1]), *notes):
            self._add(frame, number)
        self._end_code(number)

    def _add(self, element: Element, page: int | None) -> None:
        """Add a block, or the blocks that a section, frame or group holds."""
        tag = element.tag
        if tag in _UNSEEN or element.get(f"{_PRESENTATION}class") in _SLIDE_SURROUNDINGS:
            return
        if tag == f"{_TEXT}p":
            self._add_paragraph(element, page)
            return
        self._end_code(page)
        if tag == f"{_TEXT}h":
            level = element.get(f"{_TEXT}outline-level", "1")
            self._builder.add_heading(self._text(element), min(int(level), 9) if level.isdigit() else 1, page=page)
        elif tag == f"{_TEXT}list":
            self._builder.add(BlockKind.LIST, "\n".join(self._items(element, 0)), page=page)
        elif tag == f"{_TABLE}table":
            add_table((self._cells(row) for row in _rows(element)), self._builder, page=page)
        elif tag in _SHAPES:
            self._builder.add(BlockKind.PARAGRAPH, self._text(element), page=page)
        elif tag in (f"{_SVG}title", f"{_SVG}desc"):
            self._builder.add(BlockKind.CAPTION, self._text(element), page=page)
        else:
            for child in element:
                self._add(child, page)

    def _add_paragraph(self, element: Element, page: int | None) -> None:
        frames: list[Element] = []
        text, styles = self._text(element, frames), self._styles_of(element)
        if styles & _CODE_STYLES:
            self._code.append(text)
            return
        self._end_code(page)
        if styles & _TITLE_STYLES:
            self._builder.add_heading(text, 1, page=page)
        else:
            self._builder.add(BlockKind.CAPTION if "Caption" in styles else BlockKind.PARAGRAPH, text, page=page)
        for frame in frames:
            self._add(frame, page)

    def _end_code(self, page: int | None) -> None:
        """Lines of code are a paragraph each."""
        lines, self._code = self._code, []
        self._builder.add(BlockKind.CODE, "\n".join(lines), page=page)

    def _styles_of(self, element: Element) -> set[str]:
        """The paragraph's style and those it is derived from."""
        found: set[str] = set()
        name = element.get(f"{_TEXT}style-name")
        while name is not None and len(found) < MAX_STYLE_DEPTH:
            found.add(name)
            name = self._styles.get(name)
        return found

    def _items(self, element: Element, depth: int) -> Iterator[str]:
        for item in element:
            mark = "- "
            for part in item:
                if part.tag == f"{_TEXT}list":
                    yield from self._items(part, depth + 1)
                elif part.tag not in _UNSEEN and (text := self._text(part).strip()):
                    yield f"{'  ' * depth}{mark}{text}"
                    mark = "  "

    def _cells(self, row: Element) -> list[str]:
        return [self._text(cell) for cell in row if cell.tag in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell")]

    # --- text ---------------------------------------------------------------------------------------------------

    def _text(self, element: Element, frames: list[Element] | None = None) -> str:
        """All text in the element but its notes, which go behind everything. frames: takes those that are anchored in
        it, instead of their text."""
        pieces: list[str] = []
        self._gather(element, pieces, frames)
        return "".join(pieces)

    def _gather(self, element: Element, pieces: list[str], frames: list[Element] | None) -> None:
        pieces.append(_unwrapped(element.text))
        for child in element:
            name = child.tag
            if name == f"{_TEXT}s":
                count = child.get(f"{_TEXT}c", "1")
                pieces.append(" " * (min(int(count), 1000) if count.isdigit() else 1))
            elif name == f"{_TEXT}tab":
                pieces.append("\t")
            elif name == f"{_TEXT}line-break":
                pieces.append("\n")
            elif name == f"{_TEXT}note":
                self._notes += [
                    " ".join(self._text(part).strip() for part in body) for body in child.iter(f"{_TEXT}note-body")
                ]
            elif name == f"{_DRAW}frame" and frames is not None:
                frames.append(child)
            elif name not in _UNSEEN:
                self._gather(child, pieces, frames)
                if name in (f"{_TEXT}p", f"{_TEXT}h"):
                    pieces.append("\n")
            pieces.append(_unwrapped(child.tail))


def _unwrapped(text: str | None) -> str:
    """White space in the file is one blank (OpenDocument 1.3 part 3, 6.1.2); what is wanted has elements."""
    if not text or not text.strip():
        return " " if text else ""
    return (" " if text[0].isspace() else "") + " ".join(text.split()) + (" " if text[-1].isspace() else "")


def _rows(table: Element) -> Iterator[Element]:
    for child in table:
        if child.tag == f"{_TABLE}table-row":
            yield child
        elif child.tag in (f"{_TABLE}table-header-rows", f"{_TABLE}table-rows", f"{_TABLE}table-row-group"):
            yield from _rows(child)


# --- sheets --------------------------------------------------------------------------------------------------------


def _streamed_rows(events: Iterator[tuple[str, Element]], table: Element) -> Iterator[list[str]]:
    """The rows of a sheet that are not blank, up to the table's end; each is forgotten as soon as it was read."""
    for event, element in events:
        if event == "start":
            continue
        if element is table:
            return
        if element.tag == f"{_TABLE}table-row":
            cells = _shown_cells(element)
            times = element.get(f"{_TABLE}number-rows-repeated", "1") if cells else "0"
            yield from repeat(cells, int(times) if times.isdigit() else 1)
            table.clear()


def _shown_cells(row: Element) -> list[str]:
    """The cells up to the last one that is not blank: behind it a sheet says how often nothing is repeated."""
    cells: list[str] = []
    blank = 0
    for cell in row:
        if cell.tag not in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
            continue
        given = cell.get(f"{_TABLE}number-columns-repeated", "1")
        times = min(int(given) if given.isdigit() else 1, MAX_CELLS_PER_ROW + 1)
        text = _shown(cell)
        if not text:
            blank += times
            continue
        cells += [""] * min(blank, MAX_CELLS_PER_ROW + 1 - len(cells)) + [text] * times
        blank = 0
        if len(cells) > MAX_CELLS_PER_ROW:
            break
    return cells


def _shown(cell: Element) -> str:
    date = cell.get(f"{_OFFICE}date-value")
    if date is not None:
        return date.replace("T00:00:00", "").replace("T", " ")
    paragraphs = (child for child in cell if child.tag == f"{_TEXT}p")
    return "\n".join(_cell_text(paragraph) for paragraph in paragraphs)


def _cell_text(paragraph: Element) -> str:
    pieces = [_unwrapped(paragraph.text)]
    for child in paragraph:
        pieces.append(" " if child.tag in (f"{_TEXT}s", f"{_TEXT}tab", f"{_TEXT}line-break") else _cell_text(child))
        pieces.append(_unwrapped(child.tail))
    return "".join(pieces)
