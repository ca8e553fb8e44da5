"""What a file really is, told by its content; its name decides only between kinds of text.

Signatures are those of the formats' own specifications, as collected in the `file` program's magic and on
https://www.garykessler.net/library/file_sigs.html.
"""

import io
import re
import zipfile
import zlib
from pathlib import PurePosixPath

from llama_stack.documents.decoding import is_text
from llama_stack.documents.failures import DocumentUnreadable, damaged

HEAD_BYTES = 4096
PDF_HEADER_BYTES = 1024
"""At either end of a PDF, where readers look for its header and for where its table of objects lies."""
READABLE = (
    "text, Markdown, HTML, PDF, DOCX, PPTX, XLSX, ODT, ODP, ODS, RTF, EPUB, CSV, JSON, e-mail (.eml), source code or an"
    " image"
)

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT = "application/vnd.oasis.opendocument.text"
ODP = "application/vnd.oasis.opendocument.presentation"
ODS = "application/vnd.oasis.opendocument.spreadsheet"
EPUB, RTF, NOTEBOOK = "application/epub+zip", "application/rtf", "application/x-ipynb+json"
TEXT, MARKDOWN, HTML, CSV, TSV = "text/plain", "text/markdown", "text/html", "text/csv", "text/tab-separated-values"
JSON, JSON_LINES, MAIL, PYTHON, CODE = (
    "application/json", "application/jsonl", "message/rfc822", "text/x-python", "text/x-source",
)  # fmt: skip

_PACKED = {"word/": DOCX, "ppt/": PPTX, "xl/": XLSX}
_EXTENSIONS = {
    PDF: "pdf",
    DOCX: "docx docm dotx dotm",
    PPTX: "pptx pptm potx ppsx",
    XLSX: "xlsx xlsm xltx",
    ODT: "odt ott",
    ODP: "odp otp",
    ODS: "ods ots",
    EPUB: "epub",
    RTF: "rtf",
    MARKDOWN: "md markdown mdx mkd",
    HTML: "html htm xhtml",
    CSV: "csv",
    TSV: "tsv tab",
    JSON: "json geojson webmanifest",
    JSON_LINES: "jsonl ndjson",
    NOTEBOOK: "ipynb",
    MAIL: "eml",
    PYTHON: "py pyi",
    CODE: "c h cc cpp cxx hpp cs go java js jsx mjs ts tsx kt kts php pl ps1 r rb rs scala sh bash sql swift lua css"
    " scss xml yaml yml toml ini cfg tf proto graphql vue dart ex exs hs jl m zig",
    TEXT: "txt text log rst tex adoc org srt vtt",
    "image/png": "png",
    "image/jpeg": "jpg jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/tiff": "tif tiff",
    "image/bmp": "bmp",
}
_BY_EXTENSION = {extension: mime for mime, extensions in _EXTENSIONS.items() for extension in extensions.split()}
_BY_MIME_TYPE = {
    **{mime: mime for mime in _EXTENSIONS},
    "text/rtf": RTF,
    "text/x-markdown": MARKDOWN,
    "application/xhtml+xml": HTML,
    "application/csv": CSV,
    "application/x-ndjson": JSON_LINES,
    "application/jsonlines": JSON_LINES,
    "text/x-script.python": PYTHON,
    "application/x-python-code": PYTHON,
    "application/xml": CODE,
    "text/xml": CODE,
    "text/javascript": CODE,
    "application/javascript": CODE,
    "application/x-yaml": CODE,
    "image/jpg": "image/jpeg",
}
_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
_UNREADABLE = (
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xce\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a Java class or a macOS program"),
    (b"\0asm", "a WebAssembly program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"OggS", "a sound or video file"),
    (b"fLaC", "a sound file"),
    (b"ID3", "a sound file"),
    (b"\x1aE\xdf\xa3", "a video file"),
    (b"%!PS", "a PostScript document, which is not read; save it as PDF"),
)
_OPEN_PACKAGES = {
    **{mime_type.encode(): mime_type for mime_type in (ODT, ODP, ODS, EPUB)},
    **{f"{mime_type}-template".encode(): mime_type for mime_type in (ODT, ODP, ODS)},
}
"""By what their member `mimetype` says (OpenDocument 1.3 part 2, 3.3; EPUB OCF 3.3, 4.3)."""
_RTF_START = b"{\\rtf"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_COMPOUND = {
    "WordDocument": "a Word document of 97-2003 (.doc), which is not read; save it as DOCX, ODT or PDF",
    "Workbook": "an Excel file of 97-2003 (.xls), which is not read; save it as XLSX, ODS or CSV",
    "PowerPoint Document": "a PowerPoint file of 97-2003 (.ppt), which is not read; save it as PPTX, ODP or PDF",
    "__properties_version1.0": "a message of Outlook (.msg), which is not read; save it as .eml or as text",
}
# Never going back, because a head of nothing but comments could otherwise be parted in more ways than there is time.
_HTML_START = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*+)*+<(?:!doctype\s+html|html[\s>])", re.I | re.S)
_CHARSET = re.compile(r";\s*charset\s*=\s*[\"']?([\w.:-]{1,40})", re.I)
_MAIL_START = re.compile(
    rb"(?:(?:from|to|cc|subject|date|message-id|received|return-path|mime-version|delivered-to|x-[\w-]+):[^\n]*\n"
    rb"(?:[ \t][^\n]*\n)*){3}",
    re.I,
)


def image_type(head: bytes) -> str | None:
    """The MIME type of an image, from its first bytes; None for anything else."""
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(b"BM") and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    return next((mime_type for signature, mime_type in _IMAGES if head.startswith(signature)), None)


def display_name(filename: str) -> str:
    """The file's own name, whatever folders came with it: fit for a message and for a title, never for opening."""
    name = PurePosixPath(filename.replace("\\", "/").replace("\0", "")).name
    name = "".join(letter for letter in name if letter.isprintable()).strip()
    return name[-200:] if name not in ("", ".", "..") else "document"


def detect(content: bytes, filename: str, mime_type: str = "") -> str:
    """The MIME type the content is read as.

    Of text the name says which one it is. Raises DocumentUnreadable: `file_type_mismatch` for binary content whose
    name or type claims something else, and for text that claims to be PDF, an office document or an image,
    `unsupported_file` for what nobody here reads, `encrypted` for an office document behind a password, `empty`.
    """
    if not content.strip(b"\0 \t\r\n\f\v"):
        raise DocumentUnreadable("the file is empty; send one with content", code="empty")
    claimed = _claimed(filename, mime_type)
    binary = _binary_type(content, claimed)
    if binary is not None:
        if claimed is not None and claimed != binary and not _both_images(claimed, binary):
            raise _mismatch(filename, binary)
        return binary
    unreadable = _unreadable(content)
    if unreadable is not None:
        if claimed is not None:
            raise _mismatch(filename, unreadable)
        remedy = "" if ";" in unreadable else f"; send {READABLE}"
        raise DocumentUnreadable(f"it is {unreadable}{remedy}", code="unsupported_file")
    if not is_text(content[:HEAD_BYTES]):
        if claimed in _BY_NAME:
            raise damaged(f"{_BY_NAME[claimed]} file", "it does not begin like one")
        if claimed is not None:
            raise _mismatch(filename, "binary content of no known format")
        raise DocumentUnreadable(f"it is binary content of no known format; send {READABLE}", code="unsupported_file")
    found = _text_type(content[:HEAD_BYTES], claimed)
    if _is_no_text(claimed):
        raise _mismatch(filename, found)
    return found


def charset_of(mime_type: str) -> str:
    """The encoding that a type names, as in `text/html; charset=iso-8859-2`; empty where it names none."""
    found = _CHARSET.search(mime_type)
    return found[1] if found else ""


def claims_no_text(filename: str, mime_type: str) -> bool:
    """Whether the name, or else the type, is that of a PDF, an office document or an image."""
    return _is_no_text(_claimed(filename, mime_type))


_BY_NAME = {
    PDF: "PDF", DOCX: "DOCX", PPTX: "PPTX", XLSX: "XLSX", ODT: "ODT", ODP: "ODP", ODS: "ODS", EPUB: "EPUB", RTF: "RTF",
}  # fmt: skip
_IN_WORDS = {**_BY_NAME, TEXT: "plain text", HTML: "a web page", MAIL: "an e-mail"}


def _is_no_text(claimed: str | None) -> bool:
    return claimed is not None and (claimed in _BY_NAME or claimed.startswith("image/"))


def _claimed(filename: str, mime_type: str) -> str | None:
    """What name and type claim, the name first; None where they claim nothing that is known."""
    extension = PurePosixPath(display_name(filename)).suffix.lstrip(".").lower()
    return _BY_EXTENSION.get(extension) or _BY_MIME_TYPE.get(mime_type.partition(";")[0].strip().lower())


def _binary_type(content: bytes, claimed: str | None) -> str | None:
    """The readable binary format that the content is, if it is one."""
    if _is_pdf(content, claimed):
        return PDF
    image = image_type(content)
    if image is not None:
        return image
    if content.startswith(b"PK\x03\x04"):
        return _packed_type(content)
    return RTF if content[:HEAD_BYTES].lstrip().startswith(_RTF_START) else None


def _is_pdf(content: bytes, claimed: str | None) -> bool:
    """Its header may follow a little of something else (ISO 32000-1, annex H, implementation note 13), and the start
    of such a file may be all text; a text may also speak of the header.
    """
    head = content[:PDF_HEADER_BYTES]
    if head.lstrip().startswith(b"%PDF-"):
        return True
    if b"%PDF-" not in head:
        return False
    is_whole = claimed is None and b"startxref" in content[-PDF_HEADER_BYTES:]
    return claimed == PDF or is_whole or not is_text(content[:HEAD_BYTES])


def _packed_type(content: bytes) -> str | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            told = _told_by_member(archive) if "mimetype" in names else None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, OSError):
        # The first member's name stands near the start, so that a broken archive still tells what it was.
        for folder, mime_type in _PACKED.items():
            if folder.encode() in content[:HEAD_BYTES]:
                raise damaged(f"{_BY_NAME[mime_type]} file", "its end is missing") from None
        for name, mime_type in _OPEN_PACKAGES.items():
            if b"mimetype" + name in content[:200]:
                raise damaged(f"{_BY_NAME[mime_type]} file", "its end is missing") from None
        raise damaged("zip archive or office document", "its list of contents cannot be read") from None
    if "[Content_Types].xml" in names:
        for folder, mime_type in _PACKED.items():
            if any(name.startswith(folder) for name in names):
                return mime_type
    if told is None and "META-INF/container.xml" in names:
        return EPUB
    return told


def _told_by_member(archive: zipfile.ZipFile) -> str | None:
    with archive.open("mimetype") as stream:
        return _OPEN_PACKAGES.get(stream.read(200).strip())


def _unreadable(content: bytes) -> str | None:
    """What known format the content is that nobody here reads, in words."""
    if content.startswith(_OLE):
        # MS-OFFCRYPTO 2.3.4: an office document behind a password is such a container with these streams.
        if "EncryptedPackage".encode("utf-16-le") in content:
            raise DocumentUnreadable(
                "the document is protected by a password; remove the password and send it again", code="encrypted"
            )
        return _compound_file(content)
    if content.startswith(b"PK\x03\x04"):
        if b"mimetypeapplication/vnd.oasis.opendocument" in content[:200]:
            return "an OpenDocument drawing, formula or database, which is not read; save it as ODT, ODP, ODS or PDF"
        return "a zip archive; send the files in it one by one"
    is_plain = is_text(content[:HEAD_BYTES])
    if (content.startswith(b"RIFF") or content[4:8] == b"ftyp") and not is_plain:
        return "a sound, video or HEIC file"
    for signature, words in _UNREADABLE:
        # A text may begin with the same letters.
        if content.startswith(signature) and not (is_plain and signature.isalnum()):
            return words
    return None


def _compound_file(content: bytes) -> str:
    """Which of the formats before 2007 a compound file (MS-CFB) is, by the names of its streams."""
    for stream, words in _COMPOUND.items():
        if stream.encode("utf-16-le") in content:
            return words
    return "a document of Office 97-2003 (.doc, .xls, .ppt), which is not read; save it as DOCX, XLSX or PPTX"


def _text_type(head: bytes, claimed: str | None) -> str:
    """Which text it is. The name decides, unless the content is plainly a web page or the name tells of no text."""
    is_page = _HTML_START.match(head.removeprefix(b"\xef\xbb\xbf")) is not None
    if is_page and (claimed in (None, TEXT, MARKDOWN, MAIL, CSV, JSON) or claimed in _BY_NAME):
        return HTML
    if claimed is None or _is_no_text(claimed):
        if _MAIL_START.match(head):
            return MAIL
        return TEXT
    return claimed


def _both_images(claimed: str, found: str) -> bool:
    return claimed.startswith("image/") and found.startswith("image/")


def _mismatch(filename: str, found: str) -> DocumentUnreadable:
    extension = _EXTENSIONS.get(found, "").partition(" ")[0]
    remedy = f"; rename it to end in .{extension}" if extension else "" if ";" in found else f"; send {READABLE}"
    return DocumentUnreadable(
        f"the name or type of {display_name(filename)!r} does not fit its content, which is"
        f" {_IN_WORDS.get(found, found)}{remedy}",
        code="file_type_mismatch",
    )
