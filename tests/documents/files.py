"""Real files of every format, made by the libraries that people's programs are like."""

import io
import zipfile
from collections.abc import Sequence
from email.message import EmailMessage

import docx
import openpyxl
import pptx
from fpdf import FPDF
from PIL import Image


def pdf_file(pages: Sequence[str], *, title: str = "", headings: Sequence[str] = (), password: str = "") -> bytes:
    """Each page one text; headings: of the pages, also in the outline."""
    pdf = FPDF()
    pdf.set_title(title)
    for number, text in enumerate(pages):
        pdf.add_page()
        pdf.set_font("helvetica", size=11)
        if headings:
            pdf.start_section(headings[number])
            pdf.cell(text=headings[number], new_x="LMARGIN", new_y="NEXT")
        pdf.multi_cell(0, 6, text, new_x="LMARGIN", new_y="NEXT")
    if password:
        pdf.set_encryption(owner_password=f"{password}-owner", user_password=password)
    return bytes(pdf.output())


def scanned_pdf() -> bytes:
    """A page that is a picture."""
    pdf = FPDF()
    pdf.add_page()
    pdf.image(Image.new("RGB", (60, 40), "white"))
    return bytes(pdf.output())


def word_file() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.add_heading("Tents", 1)
    document.add_paragraph("Every tent is waterproof.")
    document.add_paragraph("poles", style="List Bullet")
    document.add_paragraph("pegs", style="List Bullet")
    document.add_heading("Prices", 2)
    table = document.add_table(2, 2)
    for cell, text in zip(
        (*table.rows[0].cells, *table.rows[1].cells), ("Name", "Price", "Fjell | 2", "399"), strict=True
    ):
        cell.text = text
    document.add_paragraph("Ask for more.")
    return _saved(document)


def slides_file() -> bytes:
    presentation = pptx.Presentation()
    first = presentation.slides.add_slide(presentation.slide_layouts[1])
    first.shapes.title.text = "Plan"
    first.placeholders[1].text = "spring\nsummer"
    first.notes_slide.notes_text_frame.text = "Speak slowly."
    second = presentation.slides.add_slide(presentation.slide_layouts[5])
    second.shapes.title.text = "Figures"
    table = second.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for row, texts in enumerate((("year", "sold"), ("2024", "17"))):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    return _saved(presentation)


def spreadsheet_file() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Sales"
    for row in (["Report of 2024"], [], ["item", "sold", "open"], ["tent", 3.0, True], ["pole", 2.5, None]):
        sheet.append(row)
    book.create_sheet("Empty")
    return _saved(book)


def mail_file(*attachments: tuple[str, bytes]) -> bytes:
    message = EmailMessage()
    message["Subject"] = "Größen"
    message["From"] = "ada@example.org"
    message["To"] = "bob@example.org"
    message.set_content("The sizes are attached.\n\nRegards, Ada")
    message.add_alternative("<p>The sizes are <b>attached</b>.</p>", subtype="html")
    for name, content in attachments:
        message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return bytes(message)


def png_file() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), "white").save(stream, "PNG")
    return stream.getvalue()


def zip_file(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_part(package: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """The package, with something in one of its parts replaced."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    assert old in members[name]
    members[name] = members[name].replace(old, new, 1)
    return zip_file(members)


def _saved(document: object) -> bytes:
    stream = io.BytesIO()
    document.save(stream)  # type: ignore[attr-defined]  # each library has a class of its own
    return stream.getvalue()
