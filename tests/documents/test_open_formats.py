"""OpenDocument, RTF and EPUB: files that LibreOffice and pandoc have written, and what hostile ones get."""

import io
import zipfile
from pathlib import Path

import pytest

from llama_stack.documents.blocks import BlockKind
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.limits import ReadingLimits
from tests.documents.files import with_part, zip_file
from tests.documents.test_formats import Shown, has_the_slides_of_a_plan, read, shown

WRITTEN = Path(__file__).with_name("written")
NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text", "table")
)
CONTAINER = b'<container><rootfiles><rootfile full-path="in/book.opf"/></rootfiles></container>'

HANDBOOK: Shown = [
    ("heading", "Tent Handbook"),
    ("paragraph", "Ada"),
    ("heading", "Tents"),
    ("paragraph", "Every tent is waterproof. Footnote here."),
    ("list", "- poles\n- pegs\n  - long pegs"),
    ("heading", "Prices"),
    ("table", "| Name | Price |\n| --- | --- |\n| Fjell | 399 |\n| Größe “ü” 漢字 | 12 |"),
    ("code", "def f():\n    return 1"),
    ("list", "- one\n- two"),
    ("heading", "Zweites Kapitel"),
    ("paragraph", "Schöne Grüße aus Köln — ไทย हिन्दी العربية 😀."),
    ("paragraph", "The note says 42."),
]


def written(name: str) -> bytes:
    return (WRITTEN / name).read_bytes()


def open_document(kind: str, body: str, **parts: str) -> bytes:
    content = f"<office:document-content {NAMESPACES}><office:{kind}>{body}</office:{kind}></office:document-content>"
    return packed(f"application/vnd.oasis.opendocument.{kind}", {"content.xml": content, **parts})


def packed(mime_type: str, parts: dict[str, str]) -> bytes:
    return zip_file({"mimetype": mime_type.encode(), **{name: part.encode() for name, part in parts.items()}})


def book(*chapters: tuple[str, bytes], **parts: bytes) -> bytes:
    items = "".join(f'<item id="{name}" href="{name}" media-type="text/html"/>' for name, _ in chapters)
    order = "".join(f'<itemref idref="{name}"/>' for name, _ in chapters)
    opf = f"<package><manifest>{items}</manifest><spine>{order}</spine></package>"
    members = {f"in/{name}": page for name, page in chapters if page}
    return zip_file({"META-INF/container.xml": CONTAINER, "in/book.opf": opf.encode(), **members, **parts})


def refused(content: bytes, filename: str = "") -> DocumentUnreadable:
    with pytest.raises(DocumentUnreadable) as caught:
        read(content, filename)
    return caught.value


def test_a_text_document_of_libreoffice() -> None:
    document = read(written("handbook.odt"), "handbook.odt")
    assert (document.title, document.mime_type) == ("Tent Handbook", "application/vnd.oasis.opendocument.text")
    assert shown(document) == HANDBOOK
    assert [block.level for block in document.blocks if block.kind is BlockKind.HEADING] == [1, 1, 2, 1]


def test_slides_of_libreoffice_are_pages_with_their_notes() -> None:
    has_the_slides_of_a_plan(read(written("plan.odp"), "plan.odp"))


def test_sheets_of_libreoffice_are_read_as_they_are_shown() -> None:
    assert shown(read(written("sales.ods"), "sales.ods")) == [
        ("heading", "Sales 2024"),
        ("paragraph", "Report of 2024"),
        (
            "table",
            "| item | sold | open | share | on |  |\n| --- | --- | --- | --- | --- | --- |\n"
            "| tent | 3 | TRUE | 25% | 2024-03-04 | 6 |\n| pole | 2.5 |  | 10% | 2024-03-05 14:30:00 |  |\n"
            "| größe | 1234567.891 | FALSE | 100% | 2025-01-02 |  |",
        ),
        ("heading", "Other"),
        ("table", "| a | b |\n| --- | --- |\n| x | 1 |\n| merged |  |"),
    ]


def test_rich_text_of_libreoffice() -> None:
    document = read(written("handbook.rtf"), "handbook.rtf")
    assert document.title == "Großes Handbuch"
    assert shown(document) == [
        ("heading", "Tents & Zelte"),
        ("paragraph", "Every tent is waterproof — „wirklich“ 漢字 ไทย हिन्दी العربية 😀."),
        ("list", "- poles\n- pegs\n1. first\n2. second"),
        ("heading", "Prices"),
        ("table", "| Name | Price | Stock |\n| --- | --- | --- |\n| Fjell \\| 2 | 399 | 7 |\n| Größe | 12 | 0 |"),
        ("paragraph", "Ask for more."),
        ("heading", "Zweites Kapitel"),
        ("paragraph", "Ende."),
        ("paragraph", "def f():\n    return 1"),
    ]


def test_a_book_of_pandoc() -> None:
    document = read(written("handbook.epub"), "handbook.epub")
    assert (document.title, document.mime_type) == ("Tent Handbook", "application/epub+zip")
    told = [(kind, text.replace("here.1", "here.")) for kind, text in shown(document)]
    note = told.pop(9)
    assert [*told, note] == HANDBOOK


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb"{\rtf1\ansi\ansicpg1251 \'cf\'f0\'e8\'e2\'e5\'f2}", "Привет"),
        (rb"{\rtf1{\fonttbl{\f0\fcharset128 M;}}\f0\'82\'a0\'82\'a2}", "あい"),
        (rb"{\rtf1\uc2\u28450 ??\u23383\'8e\'9a.}", "漢字."),
        (rb"{\rtf1\u-10179?\u-8704? x}", "😀 x"),
        (rb"{\rtf1 a{\*\unknown no}{\v hidden}{\pict 89504e}\tab b\~c\{\emdash}", "a\tb\u00a0c{\u2014"),
        (rb"{\rtf1 {\field{\*\fldinst HYPERLINK x}{\fldrslt shown}} on}", "shown on"),
        (rb"{\rtf1 {\pict\bin7 }}}}}}}}after}", "after"),
        (rb"{\rtf1 One{\footnote The note.} here.\par}", "One here.\n\nThe note."),
        (rb"{\rtf1 \trowd a\cell b\cell\row\pard After.\par}", "| a | b |\n| --- | --- |\n\nAfter."),
        (rb"{\rtf1\ansicpg99999 still read}", "still read"),
    ],
)  # fmt: skip
def test_words_of_rich_text(text: bytes, expected: str) -> None:
    assert read(text, "a.rtf").text == expected


def test_rich_text_that_is_broken_off_is_read_as_far_as_it_goes() -> None:
    document = read(rb"{\rtf1 What there is \b of it", "a.rtf")
    assert (document.text, document.warnings) == (
        "What there is of it", ("its end is missing; what stands before it was read",),
    )  # fmt: skip
    assert refused(rb"{\rtf1 {\pict 8950", "a.rtf").code == "damaged"
    assert refused(rb"{\rtf1" + b"{" * 5000, "a.rtf").code == "too_complex"


def test_what_was_deleted_remarked_or_repeated_is_no_text() -> None:
    body = (
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
        "<text:table-of-content><text:p>contents</text:p></text:table-of-content>"
        "<text:section><text:p>kept<office:annotation><text:p>remark</text:p></office:annotation>"
        '<text:s text:c="2"/>on</text:p></text:section>'
    )
    assert read(open_document("text", body), "a.odt").text == "kept  on"


def test_repeated_cells_and_rows_end_somewhere() -> None:
    def row(cells: str, times: int) -> str:
        return f'<table:table-row table:number-rows-repeated="{times}">{cells}</table:table-row>'

    def cell(text: str, times: int = 1) -> str:
        inner = f"<text:p>{text}</text:p>" if text else ""
        return f'<table:table-cell table:number-columns-repeated="{times}">{inner}</table:table-cell>'

    rows = row(cell("a") + cell("b") + cell("", 16_382), 1) + row(cell(""), 10**9) + row(cell("1") + cell("2"), 2)
    sheet = '<table:table table:name="S">{}</table:table>'
    assert read(open_document("spreadsheet", sheet.format(rows)), "a.ods").text.endswith("| 1 | 2 |\n| 1 | 2 |")
    wide = read(open_document("spreadsheet", sheet.format(row(cell("x", 10**12), 1))), "a.ods")
    assert wide.warnings == ("a table has more than 1000 columns; the others were left out",)
    with pytest.raises(DocumentUnreadable) as caught:
        read(
            open_document("spreadsheet", sheet.format(row(cell("x"), 10**12))), "", ReadingLimits(max_text_characters=9)
        )
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (with_part(written("handbook.odt"), "META-INF/manifest.xml", b"<manifest:file-entry",
                   b"<manifest:encryption-data/><manifest:file-entry"), "encrypted"),
        (with_part(written("handbook.odt"), "content.xml", b"<office:document-content",
                   b'<!DOCTYPE x [<!ENTITY a "b">]><office:document-content'), "too_complex"),
        (with_part(written("handbook.odt"), "content.xml", b"</office:body>", b""), "damaged"),
        (open_document("text", "<text:section>" * 5000 + "</text:section>" * 5000), "too_complex"),
        (open_document("text", ""), "no_text"),
        (packed("application/vnd.oasis.opendocument.graphics", {"content.xml": "<x/>"}), "unsupported_file"),
        (written("handbook.odt")[:4000], "damaged"),
        (book(), "damaged"),
        (book(("a.html", b"<p>x</p>"), **{"in/book.opf": b'<!DOCTYPE p [<!ENTITY a "b">]><package/>'}), "too_complex"),
        (book(("a.html", b"\x99\x01"), **{"META-INF/encryption.xml": b"<encryption><EncryptedData><CipherData>"
              b'<CipherReference URI="in/a.html"/></CipherData></EncryptedData></encryption>'}), "encrypted"),
    ],
    ids=["odt password", "odt entities", "odt broken", "odt nested", "odt empty", "drawing", "odt cut", "epub empty",
         "epub entities", "epub protected"],
)  # fmt: skip
def test_what_cannot_be_read_and_why(content: bytes, code: str) -> None:
    assert refused(content).code == code


def test_a_book_reads_nothing_outside_of_it_and_each_chapter_once() -> None:
    page = '<?xml version="1.0" encoding="iso-8859-2"?><html><h1>Zażółć</h1><aside>A note.</aside>'.encode("iso-8859-2")
    document = read(book(("../../../etc/passwd", b""), ("a.html", page), ("a.html", page)), "")
    assert shown(document) == [("heading", "Zażółć"), ("paragraph", "A note.")]
    assert document.warnings == ("the chapter '../../etc/passwd' is missing and was left out",)


def test_a_zip_bomb_in_a_book_is_not_unpacked() -> None:
    stream = io.BytesIO(book(("a.html", b"<p>x</p>")))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bin", bytes(80 << 20))
    assert refused(stream.getvalue(), "a.epub").code == "too_complex"
