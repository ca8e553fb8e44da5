"""Plain text: paragraphs are what blank lines part. The text stays as it stands."""

import re

from llama_stack.documents.blocks import Block, BlockKind, DocumentBuilder
from llama_stack.documents.decoding import decoded

_PARAGRAPH = re.compile(r"\S[^\n]*(?:\n[^\S\n]*\S[^\n]*)*")
_LIST = re.compile(r"[ \t]*(?:[-*+•‣◦]|\d{1,3}[.)])\s")


def read_plain(content: bytes, builder: DocumentBuilder) -> None:
    add_plain(text_of(content, builder), builder)


def add_plain(text: str, builder: DocumentBuilder) -> None:
    """Add a text of paragraphs and lists."""
    blocks = []
    for found in _PARAGRAPH.finditer(text):
        kind = BlockKind.LIST if _LIST.match(found[0]) else BlockKind.PARAGRAPH
        start, end = found.span()
        blocks.append(Block(kind, start, start + len(text[start:end].rstrip())))
    builder.add_source(text, blocks)


def text_of(content: bytes, builder: DocumentBuilder, declared: str = "") -> str:
    """The file's text, with a warning where its encoding had to be guessed.

    declared: an encoding that the file names itself; what came with the file is believed before it.
    """
    declared = builder.charset or declared
    text, encoding = decoded(content, declared)
    if not encoding.startswith(("utf", declared.lower() or "utf")):
        builder.warn(f"the text names no encoding and is not UTF-8; it was read as {encoding}")
    return text
