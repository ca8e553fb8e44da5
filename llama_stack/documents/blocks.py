"""What reading a file gives: its readable text, and where in it headings, paragraphs, tables and code lie."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llama_stack.documents.failures import DocumentUnreadable

BETWEEN_BLOCKS = "\n\n"
MAX_BLOCKS = 2_000_000
"""Of one document: a bound on memory that a file of nothing but structure could otherwise take."""

_NOBODYS_TITLE = re.compile(
    r"untitled(?: document| presentation| spreadsheet)?[ -]?\d*|unspecified|\(unspecified\)|microsoft word - .*"
    r"|powerpoint presentation",
    re.IGNORECASE,
)
"""Titles that programs write where a person gave none; a citation would repeat them."""
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class BlockKind(StrEnum):
    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST = "list"
    TABLE = "table"
    CODE = "code"
    CAPTION = "caption"


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a document's text that belongs together. Between two blocks there is nothing but white space.

    start, end: character span in the document's text. page: from 1, where the document has pages (a slide is one).
    level: of a heading, 1 the highest; 0 otherwise. title: of a heading, its text without markup; of code, what it
    defines. header_end: of a table, where its header row ends (position in the document's text); 0 without a header.
    """

    kind: BlockKind
    start: int
    end: int
    page: int | None = None
    level: int = 0
    title: str = ""
    header_end: int = 0


@dataclass(frozen=True, slots=True)
class ReadDocument:
    """A file as text.

    blocks: in the order of the text, not overlapping, and every character that is no white space lies in one of them.
    mime_type: what the file really is. pages: how many there are, None where the format has none. warnings: what could
    not be read, in sentences for a person.
    """

    text: str
    blocks: tuple[Block, ...]
    mime_type: str
    title: str = ""
    pages: int | None = None
    warnings: tuple[str, ...] = ()

    def text_of(self, block: Block) -> str:
        return self.text[block.start : block.end]


@dataclass
class DocumentBuilder:
    """Collects the blocks of a document, in order, within a limit.

    max_text_characters: of the whole text. charset: an encoding that came with the file, such as in its type.
    mime_type, title and pages are set by whoever reads.
    """

    max_text_characters: int
    mime_type: str = ""
    charset: str = ""
    title: str = ""
    pages: int | None = None
    warnings: list[str] = field(default_factory=list)
    _parts: list[str] = field(default_factory=list, init=False)
    _blocks: list[Block] = field(default_factory=list, init=False)
    _length: int = field(default=0, init=False)

    @property
    def is_empty(self) -> bool:
        return not self._blocks

    def add(
        self,
        kind: BlockKind,
        text: str,
        *,
        page: int | None = None,
        level: int = 0,
        title: str = "",
        header_length: int = 0,
    ) -> None:
        """Add a block; nothing happens where the text is blank.

        header_length: of a table, characters of its header row at the start of `text`.
        Raises DocumentUnreadable (`too_large`) when the document's text grows over the limit.
        """
        text = _of_whole_characters(text)
        trimmed = text.strip("\n") if kind is BlockKind.CODE else text.strip()
        if not trimmed.strip():
            return
        if self._parts:
            self._parts.append(BETWEEN_BLOCKS)
            self._length += len(BETWEEN_BLOCKS)
        start = self._length
        self._parts.append(trimmed)
        self._length += len(trimmed)
        self._keep(Block(kind, start, self._length, page, level, title, start + header_length if header_length else 0))

    def add_heading(self, title: str, level: int, *, page: int | None = None) -> None:
        title = _of_whole_characters(" ".join(title.split()))
        self.add(BlockKind.HEADING, title, page=page, level=level, title=title)

    def add_source(self, text: str, blocks: list[Block]) -> None:
        """Add a text as it stands, with blocks whose spans are positions in it."""
        if not blocks:
            return
        if self._parts:
            self._parts.append(BETWEEN_BLOCKS)
            self._length += len(BETWEEN_BLOCKS)
        by = self._length
        self._parts.append(_of_whole_characters(text))
        self._length += len(text)
        for block in blocks:
            header_end = block.header_end + by if block.header_end else 0
            self._keep(
                Block(block.kind, block.start + by, block.end + by, block.page, block.level, block.title, header_end)
            )

    def warn(self, sentence: str) -> None:
        """Note once what could not be read; of very many notes the first are kept."""
        if sentence not in self.warnings and len(self.warnings) < 20:
            self.warnings.append(sentence)

    def _keep(self, block: Block) -> None:
        self._blocks.append(block)
        if self._length > self.max_text_characters or len(self._blocks) > MAX_BLOCKS:
            raise DocumentUnreadable(
                f"its text is longer than {self.max_text_characters} characters; split it into several files, or raise"
                " max_text_characters",
                code="too_large",
            )

    def built(self) -> ReadDocument:
        title = "" if _NOBODYS_TITLE.fullmatch(self.title) else self.title
        return ReadDocument(
            "".join(self._parts), tuple(self._blocks), self.mime_type, title, self.pages, tuple(self.warnings)
        )


def _of_whole_characters(text: str) -> str:
    """The text with a mark for each half of a surrogate pair, which is no character and cannot be written anywhere.

    One for one: spans hold on both sides of it.
    """
    return _HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", text)


def to_json(document: ReadDocument) -> dict[str, Any]:
    """The document as a JSON value, its blocks as rows: there may be a hundred thousand of them."""
    rows = [(str(b.kind), b.start, b.end, b.page, b.level, b.title, b.header_end) for b in document.blocks]
    return {
        "text": document.text,
        "blocks": rows,
        "mime_type": document.mime_type,
        "title": document.title,
        "pages": document.pages,
        "warnings": document.warnings,
    }


def from_json(value: dict[str, Any]) -> ReadDocument:
    """Reverse of `to_json`."""
    blocks = tuple(Block(BlockKind(kind), *rest) for kind, *rest in value["blocks"])
    return ReadDocument(
        value["text"], blocks, value["mime_type"], value["title"], value["pages"], tuple(value["warnings"])
    )
