"""DOCX (ISO/IEC 29500-1, WordprocessingML): headings, paragraphs, lists and tables, in their order."""

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.failures import damaged, missing_library
from llama_stack.documents.formats.tables import add_table

if TYPE_CHECKING:
    from docx.document import Document
    from docx.table import Table
    from docx.text.paragraph import Paragraph

_HEADING_STYLE = re.compile(r"heading (\d)", re.I)
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def read_word(content: bytes, builder: DocumentBuilder) -> None:
    """Raises DocumentUnreadable: `damaged` or `missing_library`. The package has been checked already."""
    try:
        import docx
        from docx.opc.exceptions import OpcError
        from docx.table import Table
        from lxml.etree import XMLSyntaxError
    except ImportError:
        raise missing_library("python-docx", "DOCX files") from None
    try:
        document = docx.Document(io.BytesIO(content))
        builder.title = (document.core_properties.title or "").strip()
        listed: list[str] = []
        for part in document.iter_inner_content():
            if isinstance(part, Table):
                _end_list(listed, builder)
                add_table(_rows(part), builder)
            else:
                _add_paragraph(part, listed, builder)
        _end_list(listed, builder)
        _add_notes(document, builder)
    except (OpcError, XMLSyntaxError, KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise damaged("DOCX file", "a part of it is missing or malformed") from error


def _add_paragraph(paragraph: "Paragraph", listed: list[str], builder: DocumentBuilder) -> None:
    text = _text(paragraph)
    if not text.strip():
        return
    level = _heading_level(paragraph)
    if level == 0 and _is_item(paragraph):
        listed.append(f"- {text.strip()}")
        return
    _end_list(listed, builder)
    if level:
        builder.add_heading(text, level)
    elif paragraph.style is not None and (paragraph.style.name or "").lower() == "caption":
        builder.add(BlockKind.CAPTION, text)
    else:
        builder.add(BlockKind.PARAGRAPH, text)


def _text(paragraph: "Paragraph") -> str:
    """The paragraph's text, with that of its text boxes, as it stands after all changes were accepted."""
    pieces = []
    for node in paragraph._p.iter():
        if node.tag == f"{_W}t":
            pieces.append(node.text or "")
        elif node.tag in (f"{_W}tab", f"{_W}br", f"{_W}cr") and node.getparent().tag == f"{_W}r":
            pieces.append("\t" if node.tag == f"{_W}tab" else "\n")
        elif node.tag == f"{_W}noBreakHyphen":
            pieces.append("-")
    return "".join(pieces)


def _heading_level(paragraph: "Paragraph") -> int:
    """1 to 9 for a heading, 0 for anything else; the title of the document is of level 1."""
    style = paragraph.style
    name = "" if style is None else style.name or ""
    found = _HEADING_STYLE.match(name)
    if found is not None:
        return int(found[1])
    if name == "Title":
        return 1
    # Styles of other languages and of one's own say their level in the outline.
    for properties in (paragraph._p.pPr, None if style is None else style.element.find(f"{_W}pPr")):
        outline = None if properties is None else properties.find(f"{_W}outlineLvl")
        value = "" if outline is None else outline.get(f"{_W}val", "")
        if value.isdigit() and int(value) < 9:
            return int(value) + 1
    return 0


def _is_item(paragraph: "Paragraph") -> bool:
    properties = paragraph._p.pPr
    if properties is not None and properties.numPr is not None:
        return True
    name = "" if paragraph.style is None else paragraph.style.name or ""
    return name.startswith("List") and name != "List Paragraph"


def _end_list(listed: list[str], builder: DocumentBuilder) -> None:
    builder.add(BlockKind.LIST, "\n".join(listed))
    listed.clear()


def _rows(table: "Table") -> Iterator[list[str]]:
    for row in table.rows:
        cells: list[str] = []
        last = None
        for cell in row.cells:
            # A cell that spans several columns comes once for each of them.
            cells.append("" if cell._tc is last else _cell_text(cell._tc))
            last = cell._tc
        yield cells


def _cell_text(cell: object) -> str:
    pieces = []
    for node in cell.iter():  # type: ignore[attr-defined]  # an element of lxml, which has no types
        if node.tag == f"{_W}t":
            pieces.append(node.text or "")
        elif node.tag in (f"{_W}p", f"{_W}br", f"{_W}tab"):
            pieces.append(" ")
    return "".join(pieces)


def _add_notes(document: "Document", builder: DocumentBuilder) -> None:
    """Footnotes and endnotes, after the text."""
    from lxml import etree

    for relation in document.part.rels.values():
        if relation.is_external or not relation.reltype.endswith(("/footnotes", "/endnotes")):
            continue
        root = etree.fromstring(relation.target_part.blob, etree.XMLParser(resolve_entities=False, no_network=True))
        for note in root:
            if note.get(f"{_W}type") is None:
                builder.add(BlockKind.PARAGRAPH, _cell_text(note))
