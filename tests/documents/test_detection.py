"""A file is what its content says."""

import codecs

import pytest

from llama_stack.documents.decoding import decoded
from llama_stack.documents.detection import detect, display_name
from llama_stack.documents.failures import DocumentUnreadable
from tests.documents.files import pdf_file, png_file, slides_file, spreadsheet_file, word_file, zip_file

JUNK = b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n"
ASCII_PDF = b"%PDF-1.4\n" + b"% A remark.\n" * 500 + b"startxref\n9\n%%EOF\n"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600


@pytest.mark.parametrize(
    ("content", "filename", "mime_type", "expected"),
    [
        (b"hello", "a.txt", "", "text/plain"),
        (b"hello", "a", "", "text/plain"),
        (b"hello", "a.unknown", "text/markdown; charset=utf-8", "text/markdown"),
        (b"# hello", "README.MD", "text/plain", "text/markdown"),
        (b"x = 1", "a.py", "", "text/x-python"),
        (b"int x;", "a.c", "", "text/x-source"),
        (b"{}", "a.json", "", "application/json"),
        (b"<!DOCTYPE html><p>x", "a.txt", "", "text/html"),
        (b"\xef\xbb\xbf <html><p>x", "a", "", "text/html"),
        (b"<p>x</p>", "a.html", "", "text/html"),
        (b"<!-- a --> <!-- b -->\n<!DOCTYPE html><p>x", "a.txt", "", "text/html"),
        (b"<!---->" * 500 + b"x", "a.txt", "", "text/plain"),
        (b"plain words", "report.txt", "application/pdf", "text/plain"),
        (b"<html>a page that a spreadsheet program saved", "book.xls", "", "text/html"),
        (b"From: a@b.c\nTo: d@e.f\nSubject: x\n\nhi", "saved", "", "message/rfc822"),
        (b"MZ is a text about two letters", "a.txt", "", "text/plain"),
        (b"Such a file begins with %PDF- as this text says", "a.md", "", "text/markdown"),
        (pdf_file(["x"]), "a", "application/octet-stream", "application/pdf"),
        (b"\n\n" + pdf_file(["x"]), "a.pdf", "", "application/pdf"),
        (JUNK + ASCII_PDF, "a.pdf", "", "application/pdf"),
        (JUNK + ASCII_PDF, "a", "", "application/pdf"),
        (JUNK + ASCII_PDF, "a.txt", "", "text/plain"),
        (word_file(), "", "", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        (slides_file(), "a.pptm", "", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        (spreadsheet_file(), "a.bin", "", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (b"\n{\\rtf1 hi}", "a.doc", "application/msword", "application/rtf"),
        (png_file(), "a.jpg", "", "image/png"),
    ],
)  # fmt: skip
def test_what_a_file_is_read_as(content: bytes, filename: str, mime_type: str, expected: str) -> None:
    assert detect(content, filename, mime_type) == expected


@pytest.mark.parametrize(
    ("content", "filename", "code", "words"),
    [
        (b"", "a.txt", "empty", "is empty"),
        (b" \n\t\0\0", "a.txt", "empty", "is empty"),
        (png_file(), "a.pdf", "file_type_mismatch", "image/png; rename it to end in .png"),
        (word_file(), "a.txt", "file_type_mismatch", "rename it to end in .docx"),
        (b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0", "a.txt", "file_type_mismatch", "a Windows program"),
        (b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0", "setup.exe", "unsupported_file", "a Windows program"),
        (b"\x7fELF\x02\x01\x01\0", "a.csv", "file_type_mismatch", "a Linux program"),
        (b"\x1f\x8b\x08\0" + b"\0" * 9, "a.gz", "unsupported_file", "gzip archive"),
        (zip_file({"a.txt": b"x"}), "a.zip", "unsupported_file", "send the files in it one by one"),
        (zip_file({"a.txt": b"x"}), "a.docx", "file_type_mismatch", "zip archive"),
        (OLE, "a.doc", "unsupported_file", "save it as DOCX"),
        (OLE + "WordDocument".encode("utf-16-le"), "a.doc", "unsupported_file", "Word.*save it as DOCX, ODT or PDF$"),
        (OLE + "__properties_version1.0".encode("utf-16-le"), "a.msg", "unsupported_file", "save it as .eml"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "a.docx", "encrypted", "remove the password"),
        (b"{\\rtf1 hi}", "a.txt", "file_type_mismatch", "RTF; rename it to end in .rtf"),
        (b"plain words", "a.odt", "file_type_mismatch", "plain text"),
        (b"\x00\x01\x02\x03" * 50, "a", "unsupported_file", "no known format"),
        (b"\x00\x01\x02\x03" * 50, "a.md", "file_type_mismatch", "no known format"),
        (b"\x00\x01\x02\x03" * 50, "a.pdf", "damaged", "does not begin like one"),
        (b"This is not a PDF", "fake.pdf", "file_type_mismatch", "plain text; rename it to end in .txt"),
        (b"plain words", "report.docx", "file_type_mismatch", "plain text"),
        (b"plain words", "scan.png", "file_type_mismatch", "plain text"),
        (b"<html>a login page", "report.pdf", "file_type_mismatch", "a web page; rename it to end in .html"),
        (JUNK + b"x" * 1024 + ASCII_PDF, "a.pdf", "file_type_mismatch", "plain text"),
        (word_file()[:4000], "a.docx", "damaged", "not a whole DOCX file"),
        (b"PK\x03\x04" + b"\1" * 40, "a.docx", "damaged", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(content: bytes, filename: str, code: str, words: str) -> None:
    with pytest.raises(DocumentUnreadable, match=words) as caught:
        detect(content, filename)
    assert caught.value.code == code
    assert caught.value.http_status == 400


def test_a_declared_type_is_a_claim_where_the_name_makes_none() -> None:
    with pytest.raises(DocumentUnreadable) as caught:
        detect(b"plain words", "report", "application/pdf; version=1.7")
    assert caught.value.code == "file_type_mismatch"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\notes.txt", "notes.txt"),
        ("/", "document"),
        ("..", "document"),
        ("", "document"),
        ("a\0b\r\n\x1b[31m.txt", "ab[31m.txt"),
        ("x" * 500 + ".pdf", "x" * 196 + ".pdf"),
    ],
)
def test_a_name_holds_no_folders_and_nothing_unprintable(given: str, shown: str) -> None:
    assert display_name(given) == shown


TEXTS = {
    "cp1252": "Die Größe der Bestände wird täglich geprüft – „Öffnen“ Sie das Gerät nicht.",
    "iso8859-1": "El niño comió una piña; ¿dónde está el señor Núñez?",
    "cp1250": "Zażółć gęślą jaźń. Być może jutro będzie lepiej, powiedział Łukasz.",
    "cp1251": "Привет, как дела? Сегодня хорошая погода, и мы идём гулять.",
    "cp874": "สวัสดีครับ วันนี้อากาศดีมาก เราไปเดินเล่นกันเถอะ",
    "shift_jis": "これは日本語の文章です。今日は天気がいいので散歩に行きましょう。",
    "gb18030": "这是一个中文句子。今天天气很好，我们去散步吧。",
    "big5": "這是一個中文句子。今天天氣很好，我們去散步吧。",
    "euc_kr": "안녕하세요. 오늘은 날씨가 좋아서 산책하러 갑니다.",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_texts_in_older_encodings(encoding: str) -> None:
    assert decoded(TEXTS[encoding].encode(encoding))[0] == TEXTS[encoding]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("big5", "租賃合約由雙方簽訂。租金每月三日支付，提前三個月通知。請勿在室內吸煙，並保持安靜。"),
        ("euc_kr", "임대 계약은 양측이 체결합니다. 임대료는 매월 3일에 지불합니다."),
    ],
)
def test_what_is_no_thai_is_not_read_as_thai(encoding: str, text: str) -> None:
    assert decoded(text.encode(encoding))[0] == text


@pytest.mark.parametrize("word", ["PAR1 is a gene.", "RIFF is a container.", "OggS, fLaC: sounds.", "fLaC is a sound."])
def test_a_text_may_begin_like_a_binary_format(word: str) -> None:
    assert detect(word.encode(), "a.txt") == "text/plain"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"), (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_LE, "utf-32-le"), (b"", "utf-16-le"), (b"", "utf-16-be"),
    ],
)  # fmt: skip
def test_unicode_with_and_without_a_mark(mark: bytes, encoding: str) -> None:
    text = "Grüße aus Köln, mit vielen Wörtern.\r\nZweite Zeile.\rDritte."
    content = mark + text.encode(encoding)
    assert decoded(content)[0] == text.replace("\r\n", "\n").replace("\r", "\n")
    assert detect(content, "a.txt") == "text/plain"


def test_a_text_with_a_lone_nul_is_a_text() -> None:
    content = b"A log line.\0 " + b"Another one. " * 20
    assert detect(content, "a.log") == "text/plain"
    assert decoded(content)[0].startswith("A log line. Another")


def test_utf8_that_is_cut_within_a_letter_stays_utf8() -> None:
    text, encoding = decoded("Schöne Grüße aus München und Köln ß".encode()[:-1])
    assert (text, encoding) == ("Schöne Grüße aus München und Köln \ufffd", "utf-8")


def test_a_stray_control_character_is_left_out_and_many_are_no_text() -> None:
    assert decoded(b"one\x00two " * 1 + b"three " * 50)[0].startswith("onetwo")
    with pytest.raises(DocumentUnreadable) as caught:
        decoded(b"a\x01b\x02" * 50)
    assert caught.value.code == "unsupported_file"
