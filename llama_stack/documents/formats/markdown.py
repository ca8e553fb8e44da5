"""Markdown (CommonMark 0.31, with tables): its blocks, in the text as it stands."""

import re
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from llama_stack.documents.blocks import Block, BlockKind, DocumentBuilder
from llama_stack.documents.formats.plain import text_of

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"---[ \t]*\n(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_FRONT_TITLE = re.compile(r"^title:(.*)$", re.M)
_MARKUP = re.compile(r"!?\[([^\]\[]*)\]\([^()\s]*(?:\s\"[^\"]*\")?\)|[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}")
_KINDS = {
    "heading_open": BlockKind.HEADING,
    "bullet_list_open": BlockKind.LIST,
    "ordered_list_open": BlockKind.LIST,
    "table_open": BlockKind.TABLE,
    "fence": BlockKind.CODE,
    "code_block": BlockKind.CODE,
}


def read_markdown(content: bytes, builder: DocumentBuilder) -> None:
    add_markdown(text_of(content, builder), builder)


def add_markdown(text: str, builder: DocumentBuilder) -> None:
    front = _FRONT_MATTER.match(text)
    blocks = []
    body_start = 0
    if front is not None:
        body_start = front.end()
        blocks.append(Block(BlockKind.CODE, 0, len(front[0].rstrip())))
        title = _FRONT_TITLE.search(front[0])
        builder.title = builder.title or (title[1].strip().strip("\"'") if title else "")
    blocks += _blocks(text, body_start)
    if not builder.title:
        builder.title = next((b.title for b in blocks if b.kind is BlockKind.HEADING and b.level == 1), "")
    builder.add_source(text, blocks)


@lru_cache(maxsize=1)
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    # Only the blocks are wanted, not what is emphasised inside them.
    return MarkdownIt("commonmark").enable("table").disable("inline")


def _blocks(text: str, body_start: int) -> list[Block]:
    lines = text[body_start:].split("\n")
    starts = [body_start, *accumulate((len(line) + 1 for line in lines), initial=body_start)][1:]
    tokens = _parser().parse(text[body_start:])
    blocks: list[Block] = []
    reached = 0  # lines that belong to a block
    for index, token in enumerate(tokens):
        if token.level != 0 or token.map is None or token.nesting < 0:
            continue
        first, last = token.map
        # Link definitions and the like give no token; what they say is still text.
        _add(blocks, text, BlockKind.PARAGRAPH, starts[reached], starts[first])
        start, end = starts[first], min(starts[min(last, len(lines))], len(text))
        _add(blocks, text, _KINDS.get(token.type, BlockKind.PARAGRAPH), start, end, tokens[index : index + 2])
        reached = min(last, len(lines))
    _add(blocks, text, BlockKind.PARAGRAPH, starts[reached], len(text))
    return blocks


def _add(
    blocks: list[Block], text: str, kind: BlockKind, start: int, end: int, tokens: "list[Token] | None" = None
) -> None:
    """Add what stands between two positions, without the white space around it."""
    part = text[start:end]
    if not part.strip():
        return
    end = start + len(part.rstrip())
    # The indentation of code is part of it; elsewhere it is not.
    start += part.index(part.lstrip("\n" if kind is BlockKind.CODE else None)[0]) if part[0].isspace() else 0
    if kind is BlockKind.HEADING and tokens:
        level, title = int(tokens[0].tag[1]), plain_words(tokens[1].content)
        blocks.append(Block(kind, start, end, level=level, title=title))
    elif kind is BlockKind.TABLE:
        rows = text[start:end].split("\n", 2)
        blocks.append(Block(kind, start, end, header_end=start + len(rows[0]) + 1 + len(rows[1])))
    else:
        blocks.append(Block(kind, start, end))


def plain_words(markup: str) -> str:
    """A heading's words without links, emphasis and code marks."""
    return " ".join(_MARKUP.sub(lambda found: found[1] or "", markup).split())
