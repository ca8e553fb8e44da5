"""PPTX (ISO/IEC 29500-1, PresentationML): a slide is a page; its title a heading; its notes follow it."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from llama_stack.documents.blocks import BlockKind, DocumentBuilder
from llama_stack.documents.failures import DocumentUnreadable, damaged, missing_library
from llama_stack.documents.formats.tables import add_table

MAX_GROUP_DEPTH = 32


def read_slides(content: bytes, builder: DocumentBuilder, *, max_pages: int) -> None:
    """Raises DocumentUnreadable: `damaged`, `too_large` or `missing_library`. The package has been checked already."""
    try:
        import pptx
        from lxml.etree import XMLSyntaxError
        from pptx.exc import PythonPptxError
    except ImportError:
        raise missing_library("python-pptx", "PPTX files") from None
    try:
        presentation = pptx.Presentation(io.BytesIO(content))
        builder.title = (presentation.core_properties.title or "").strip()
        builder.pages = len(presentation.slides)
        if builder.pages > max_pages:
            raise DocumentUnreadable(
                f"it has {builder.pages} slides, more than {max_pages}; split it, or raise max_pages", code="too_large"
            )
        for number, slide in enumerate(presentation.slides, 1):
            _add_slide(slide, number, builder)
    except (PythonPptxError, XMLSyntaxError, KeyError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise damaged("PPTX file", "a part of it is missing or malformed") from error


def _add_slide(slide: Any, number: int, builder: DocumentBuilder) -> None:
    title = slide.shapes.title
    if title is not None:
        builder.add_heading(title.text_frame.text, 1, page=number)
    for shape in _in_reading_order(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_table:
            rows = ([cell.text_frame.text for cell in row.cells] for row in shape.table.rows)
            add_table(rows, builder, page=number)
        elif shape.has_text_frame:
            _add_text(shape.text_frame, number, builder)
        elif shape.has_chart and shape.chart.has_title and shape.chart.chart_title.has_text_frame:
            builder.add(BlockKind.CAPTION, shape.chart.chart_title.text_frame.text, page=number)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        builder.add(BlockKind.PARAGRAPH, slide.notes_slide.notes_text_frame.text, page=number)


def _in_reading_order(shapes: Iterable[Any], depth: int = 0) -> Iterator[Any]:
    """From top to bottom, then from left to right; groups opened."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if hasattr(shape, "shapes"):
            if depth < MAX_GROUP_DEPTH:
                yield from _in_reading_order(shape.shapes, depth + 1)
        else:
            yield shape


def _add_text(frame: Any, page: int, builder: DocumentBuilder) -> None:
    paragraphs = [(paragraph.text.replace("\v", "\n").strip(), paragraph.level) for paragraph in frame.paragraphs]
    paragraphs = [(text, level) for text, level in paragraphs if text]
    if len(paragraphs) == 1:
        builder.add(BlockKind.PARAGRAPH, paragraphs[0][0], page=page)
        return
    builder.add(BlockKind.LIST, "\n".join(f"{'  ' * level}- {text}" for text, level in paragraphs), page=page)
