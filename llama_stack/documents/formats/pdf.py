"""PDF: the text of each page, in paragraphs, with the headings that the document's outline names.

A PDF has lines and no paragraphs (ISO 32000-1, 9): where one ends is told from the lengths of its lines.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.failures import DocumentUnreadable, damaged, missing_library
from llama_stack.documents.formats.recognition import RECOGNITION_REMEDY, recognised_text
from llama_stack.documents.formats.running_lines import without_running_lines

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

HYPHEN = "\ufffe"
"""What PDFium gives for a hyphen that parts a word at the end of a line, and for the line's end with it."""
MAX_OUTLINE_ENTRIES = 10_000
RECOGNITION_SCALE = 2.0
"""Pixels per point (1/72 inch) of a page that is read as an image: 144 dots per inch."""

_PASSWORD_NEEDED, _SECURITY_UNKNOWN = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY in PDFium's fpdfview.h
_ENDS_SENTENCE = re.compile(r"[.!?:;。！？।…][\"'”’»)\]]*$")
_BEGINS_ITEM = re.compile(r"(?:[-*•‣◦▪●○■–]|\(?\d{1,3}[.)]|[a-z][.)])\s")
_SYMBOL_BULLETS = str.maketrans("\uf0b7\uf0a7\uf0d8\uf076\uf0fc", "•▪▪▪•")
"""Office programs take their bullets from the fonts Symbol and Wingdings, which have numbers of their own."""


def read_pdf(content: bytes, builder: DocumentBuilder, *, max_pages: int) -> None:
    """Raises DocumentUnreadable: `encrypted`, `damaged`, `too_large`, `no_text` or `missing_library`."""
    document = _opened(content)
    try:
        builder.pages = len(document)
        if builder.pages == 0:
            raise damaged("PDF file", "it has no pages")
        if builder.pages > max_pages:
            raise DocumentUnreadable(
                f"it has {builder.pages} pages, more than {max_pages}; split it, or raise max_pages", code="too_large"
            )
        builder.title = (document.get_metadata_value("Title") or "").strip()
        pages = list(_pages(document, builder))
        outline = _outline(document)
        for number, lines in enumerate(without_running_lines(pages), 1):
            _add_page(lines, number, outline.get(number, {}), builder)
    finally:
        document.close()
    if builder.is_empty:
        raise DocumentUnreadable(
            f"its pages are pictures without text, as of a scan; {RECOGNITION_REMEDY}", code="no_text"
        )


def _opened(content: bytes) -> "PdfDocument":
    try:
        import pypdfium2
    except ImportError:
        raise missing_library("pypdfium2", "PDF files") from None
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (_PASSWORD_NEEDED, _SECURITY_UNKNOWN):
            raise DocumentUnreadable(
                "the PDF is protected by a password; remove the password and send it again", code="encrypted"
            ) from error
        raise damaged("PDF file", "it is broken off or malformed") from error


def _pages(document: "PdfDocument", builder: DocumentBuilder) -> Iterator[list[str]]:
    """The lines of each page. Stops once the text is over its limit, so that the builder says so."""
    import pypdfium2

    size = 0
    for number in range(len(document)):
        lines: list[str] = []
        try:
            page = document[number]
            try:
                lines = _lines(page) or _recognised(page, number + 1, builder)
            finally:
                page.close()
        except pypdfium2.PdfiumError:
            builder.warn(f"page {number + 1} is damaged and was left out")
        size += sum(map(len, lines))
        yield lines
        if size > builder.max_text_characters:
            return


def _lines(page: "PdfPage") -> list[str]:
    text_page = page.get_textpage()
    try:
        text = text_page.get_text_bounded()
    finally:
        text_page.close()
    text = text.replace(HYPHEN + "\r\n", "").replace(HYPHEN, "").replace("\x02", "").replace("\0", "")
    text = text.translate(_SYMBOL_BULLETS)
    return [line for raw in text.splitlines() if (line := " ".join(raw.split()))]


def _recognised(page: "PdfPage", number: int, builder: DocumentBuilder) -> list[str]:
    """The lines of a page without text, as far as its picture can be read."""
    if next(page.get_objects(max_depth=1), None) is None:
        return []
    text = recognised_text(lambda: page.render(scale=RECOGNITION_SCALE).to_pil())
    if text is None:
        builder.warn(f"page {number} is a picture without text and was left out; {RECOGNITION_REMEDY}")
        return []
    return [line for raw in text.splitlines() if (line := " ".join(raw.split()))]


def _outline(document: "PdfDocument") -> dict[int, dict[str, int]]:
    """Levels of the headings that the outline names, by page and by their words."""
    headings: dict[int, dict[str, int]] = {}
    bookmark: Any
    for count, bookmark in enumerate(document.get_toc(max_depth=6)):
        if count >= MAX_OUTLINE_ENTRIES:
            break
        target = bookmark.get_dest()
        index = None if target is None else target.get_index()
        if index is not None:
            headings.setdefault(index + 1, {})[_bare(bookmark.get_title())] = bookmark.level + 1
    return headings


def _bare(line: str) -> str:
    """A heading's words, without its number: an outline has often only one of the two."""
    return re.sub(r"^[\d.\s]+|\W+", " ", line.casefold()).strip()


def _add_page(lines: list[str], page: int, headings: dict[str, int], builder: DocumentBuilder) -> None:
    full = max(map(len, lines), default=0)
    gathered: list[str] = []

    def end_paragraph() -> None:
        kind = BlockKind.LIST if gathered and _BEGINS_ITEM.match(gathered[0]) else BlockKind.PARAGRAPH
        builder.add(kind, _joined(gathered), page=page)
        gathered.clear()

    for number, line in enumerate(lines):
        level = headings.get(_bare(line))
        if level is not None:
            end_paragraph()
            builder.add_heading(line, level, page=page)
            continue
        if gathered and _BEGINS_ITEM.match(line) and not _BEGINS_ITEM.match(gathered[0]):
            end_paragraph()
        gathered.append(line)
        following = lines[number + 1] if number + 1 < len(lines) else ""
        in_list = _BEGINS_ITEM.match(gathered[0]) and _BEGINS_ITEM.match(following)
        if not in_list and _ends_paragraph(line, following, full):
            end_paragraph()
    end_paragraph()


def _ends_paragraph(line: str, following: str, full: int) -> bool:
    """A line that leaves room for the next word ended on purpose."""
    if not following:
        return True
    room = full - len(line)
    if room <= len(following.split(" ", 1)[0]) + 1:
        return False
    return len(line) < full * 0.5 or (room > full * 0.15 and _ENDS_SENTENCE.search(line) is not None)


def _joined(lines: list[str]) -> str:
    """One paragraph: a word that a hyphen parts is one again, and scripts without blanks get none."""
    text = ""
    for line in lines:
        if not text:
            text = line
        elif _BEGINS_ITEM.match(line):
            text += f"\n{line}"
        elif len(text) > 2 and text[-1] in "-\u00ad" and text[-2].isalpha() and line[0].islower():
            text = text[:-1] + line
        else:
            text += line if _is_unspaced(text[-1]) and _is_unspaced(line[0]) else f" {line}"
    return text


def _is_unspaced(letter: str) -> bool:
    return "\u3000" <= letter <= "\u9fff" or "\uff00" <= letter <= "\uffef" or "\u0e00" <= letter <= "\u0e7f"
