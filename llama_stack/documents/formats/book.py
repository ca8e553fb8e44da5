"""EPUB (EPUB 3.3, W3C, and EPUB 2): the chapters in the order in which they are read, each a page of HTML."""

import io
import posixpath
import zipfile
from dataclasses import dataclass
from urllib.parse import unquote
from xml.etree import ElementTree

from llama_stack.documents.archives import declares_entities
from llama_stack.documents.blocks import DocumentBuilder
from llama_stack.documents.decoding import decoded
from llama_stack.documents.failures import DocumentUnreadable, damaged
from llama_stack.documents.formats.web_page import add_html, named_charset

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "text/x-oeb1-document"})
_NO_PROTECTION = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Methods by which fonts are mingled; text is never protected so."""


@dataclass(frozen=True)
class _Chapter:
    """path: in the package."""

    path: str
    is_contents: bool


def read_book(content: bytes, builder: DocumentBuilder) -> None:
    """The package has been checked already. Raises DocumentUnreadable: `encrypted`, `damaged` or `too_complex`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            protected = _protected(archive) if _ENCRYPTION in names else frozenset()
            chapters = _chapters(archive, builder)
            if any(chapter.path in protected for chapter in chapters):
                raise DocumentUnreadable(
                    "the book is protected against copying; send one without protection", code="encrypted"
                )
            for chapter in chapters:
                if chapter.path not in names:
                    builder.warn(f"the chapter {chapter.path[-80:]!r} is missing and was left out")
                elif not chapter.is_contents:
                    page = archive.read(chapter.path)
                    add_html(decoded(page, named_charset(page))[0], builder, whole=True)
    except (ElementTree.ParseError, LookupError, ValueError, zipfile.BadZipFile) as error:
        raise damaged("EPUB book", "a part of it is missing or malformed") from error


def _chapters(archive: zipfile.ZipFile, builder: DocumentBuilder) -> list[_Chapter]:
    """The chapters that the book's package document lists, and its title."""
    root = _xml(archive, _CONTAINER).find(".//{*}rootfile")
    path = "" if root is None else root.get("full-path", "")
    package = _xml(archive, path)
    title = package.find(".//{http://purl.org/dc/elements/1.1/}title")
    builder.title = "" if title is None else " ".join((title.text or "").split())
    folder = posixpath.dirname(path)
    listed = {item.get("id", ""): item for item in package.iterfind(".//{*}manifest/{*}item")}
    chapters = []
    for reference in package.iterfind(".//{*}spine/{*}itemref"):
        item = listed.get(reference.get("idref", ""))
        if item is not None and item.get("media-type", "") in _PAGES:
            href = unquote(item.get("href", "").partition("#")[0])
            is_contents = "nav" in item.get("properties", "").split()
            chapters.append(_Chapter(posixpath.normpath(posixpath.join(folder, href)), is_contents))
    if not chapters:
        raise damaged("EPUB book", "it lists no chapters")
    # No chapter may stand in a book twice (EPUB 3.3, 5.7.2).
    return list(dict.fromkeys(chapters))


def _protected(archive: zipfile.ZipFile) -> frozenset[str]:
    """Paths whose content is enciphered."""
    paths = set()
    for one in _xml(archive, _ENCRYPTION).iterfind(".//{*}EncryptedData"):
        method, reference = one.find("{*}EncryptionMethod"), one.find(".//{*}CipherReference")
        if reference is not None and (method is None or method.get("Algorithm") not in _NO_PROTECTION):
            paths.add(unquote(reference.get("URI", "")))
    return frozenset(paths)


def _xml(archive: zipfile.ZipFile, path: str) -> ElementTree.Element:
    part = archive.read(path)
    if declares_entities(part):
        raise DocumentUnreadable(f"its part {path[-80:]} declares XML entities; save it anew", code="too_complex")
    return ElementTree.fromstring(part)  # noqa: S314  # without entities there is nothing that grows or reaches out
