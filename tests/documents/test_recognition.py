"""Text in pictures, read by the library that people install for it."""

import io

import pytest
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

from llama_stack.documents.limits import ReadingLimits
from llama_stack.documents.parsing import parse

pytest.importorskip("rapidocr", reason="reading text in pictures needs rapidocr and onnxruntime")


def picture_of(text: str) -> Image.Image:
    picture = Image.new("RGB", (700, 120), "white")
    ImageDraw.Draw(picture).text((20, 30), text, fill="black", font=ImageFont.load_default(size=48))
    return picture


def test_text_in_an_image_is_read() -> None:
    stream = io.BytesIO()
    picture_of("Warranty ERR 4417").save(stream, "PNG")
    document = parse(stream.getvalue(), "label.png", "", ReadingLimits())
    assert "4417" in document.text
    assert document.mime_type == "image/png"


def test_a_scanned_page_is_read_like_any_other() -> None:
    pdf = FPDF()
    pdf.add_page()
    pdf.image(picture_of("Invoice 2024"), w=180)
    document = parse(bytes(pdf.output()), "scan.pdf", "", ReadingLimits())
    assert "2024" in document.text
    assert document.blocks[0].page == 1
