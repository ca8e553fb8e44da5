"""From a file's bytes to its text: told apart by content, then read by the reader of its format. Runs in a worker."""

from dataclasses import replace

from llama_stack.documents import detection
from llama_stack.documents.archives import check_package
from llama_stack.documents.blocks import DocumentBuilder, ReadDocument
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.formats.delimited import read_csv, read_tsv
from llama_stack.documents.formats.json_text import read_json, read_json_lines
from llama_stack.documents.formats.mail import read_mail
from llama_stack.documents.formats.markdown import read_markdown
from llama_stack.documents.formats.notebook import read_notebook
from llama_stack.documents.formats.plain import read_plain
from llama_stack.documents.formats.source_code import read_code, read_python
from llama_stack.documents.formats.web_page import read_html
from llama_stack.documents.limits import ReadingLimits

LIGHT = frozenset({detection.TEXT, detection.MARKDOWN})
"""Types whose reading takes time in proportion to their length, whatever they hold."""

MAX_ATTACHMENT_DEPTH = 3
"""Mails within mails."""

_SIMPLE = {
    detection.TEXT: read_plain,
    detection.MARKDOWN: read_markdown,
    detection.HTML: read_html,
    detection.CSV: read_csv,
    detection.TSV: read_tsv,
    detection.JSON: read_json,
    detection.JSON_LINES: read_json_lines,
    detection.NOTEBOOK: read_notebook,
    detection.PYTHON: read_python,
    detection.CODE: read_code,
}


def parse(content: bytes, filename: str, mime_type: str, limits: ReadingLimits) -> ReadDocument:
    """The file as text. Raises DocumentUnreadable with any of its codes."""
    try:
        document = _parse(content, filename, mime_type, limits, depth=0)
    except (RecursionError, MemoryError) as error:
        wanted = "deeper nesting" if isinstance(error, RecursionError) else "more memory (max_memory_bytes)"
        raise DocumentUnreadable(
            f"reading it needs {wanted} than allowed; split it into smaller files", code="too_complex"
        ) from error
    if not document.blocks:
        raise DocumentUnreadable("it holds no text; send a file with text in it", code="no_text")
    return document


def _parse(content: bytes, filename: str, mime_type: str, limits: ReadingLimits, depth: int) -> ReadDocument:
    found = detection.detect(content, filename, mime_type)
    builder = DocumentBuilder(limits.max_text_characters, mime_type=found, charset=detection.charset_of(mime_type))
    if found in _SIMPLE:
        _SIMPLE[found](content, builder)
    elif found == detection.MAIL:
        _parse_mail(content, builder, limits, depth)
    elif found.startswith("image/"):
        from llama_stack.documents.formats.image import read_image

        read_image(content, builder)
    else:
        _parse_office(content, found, builder, limits)
    return builder.built()


def _parse_office(content: bytes, found: str, builder: DocumentBuilder, limits: ReadingLimits) -> None:
    if found == detection.PDF:
        from llama_stack.documents.formats.pdf import read_pdf

        read_pdf(content, builder, max_pages=limits.max_pages)
        return
    if found == detection.RTF:
        from llama_stack.documents.formats.rich_text import read_rich_text

        read_rich_text(content, builder)
        return
    if found == detection.EPUB:
        from llama_stack.documents.formats.book import read_book

        check_package(content, "EPUB book", limits, xml_suffixes=())
        read_book(content, builder)
        return
    check_package(content, "office document", limits)
    if found == detection.DOCX:
        from llama_stack.documents.formats.word import read_word

        read_word(content, builder)
    elif found in (detection.ODT, detection.ODP, detection.ODS):
        from llama_stack.documents.formats.open_document import read_open_document

        read_open_document(content, builder, max_pages=limits.max_pages)
    elif found == detection.PPTX:
        from llama_stack.documents.formats.slides import read_slides

        read_slides(content, builder, max_pages=limits.max_pages)
    else:
        from llama_stack.documents.formats.spreadsheet import read_spreadsheet

        read_spreadsheet(content, builder)


def _parse_mail(content: bytes, builder: DocumentBuilder, limits: ReadingLimits, depth: int) -> None:
    def read_attachment(attached: bytes, name: str, mime_type: str) -> None:
        if depth + 1 >= MAX_ATTACHMENT_DEPTH:
            builder.warn(f"the attachment {name!r} was left out: it lies in too many mails; send it by itself")
            return
        document = _parse(attached, name, mime_type, limits, depth + 1)
        builder.add_heading(name, 2)
        # Pages and title are those of the attachment, not of the mail.
        blocks = [replace(block, page=None, level=block.level and min(block.level + 2, 9)) for block in document.blocks]
        builder.add_source(document.text, blocks)
        for warning in document.warnings:
            builder.warn(f"{name}: {warning}")

    read_mail(content, builder, read_attachment)
