"""A document as units: what is not cut when it fits, such as a sentence, a table's row, a heading, a block of code."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto

import regex

from llama_stack.documents.blocks import Block, BlockKind, ReadDocument
from llama_stack.documents.sentences import sentence_ends


class UnitKind(Enum):
    HEADING = auto()
    SENTENCE = auto()
    TABLE_HEADER = auto()
    ROW = auto()
    CODE = auto()
    CODE_LINE = auto()
    PART = auto()


@dataclass(frozen=True, slots=True)
class Unit:
    """start, end: span in the document's text, without white space around it. block: number of its block."""

    kind: UnitKind
    start: int
    end: int
    block: int


_GRAPHEME = regex.compile(r"\X")
_CLAUSE_ENDS = ",;:、，；،"


def units_of(document: ReadDocument) -> list[Unit]:
    """All units in the order of the text; together they hold every character that is no white space."""
    units: list[Unit] = []
    for number, block in enumerate(document.blocks):
        units += _of_block(document.text, block, number)
    return units


def _of_block(text: str, block: Block, number: int) -> Iterator[Unit]:
    match block.kind:
        case BlockKind.HEADING:
            yield Unit(UnitKind.HEADING, block.start, block.end, number)
        case BlockKind.CODE:
            yield Unit(UnitKind.CODE, block.start, block.end, number)
        case BlockKind.TABLE:
            yield from _rows(text, block, number)
        case BlockKind.PARAGRAPH | BlockKind.LIST | BlockKind.CAPTION:
            ends = sentence_ends(text, block.start, block.end, lines=block.kind is BlockKind.LIST)
            yield from _between(text, block.start, ends, UnitKind.SENTENCE, number)


def _rows(text: str, block: Block, number: int) -> Iterator[Unit]:
    start = block.start
    if block.header_end:
        yield Unit(UnitKind.TABLE_HEADER, start, block.header_end, number)
        start = block.header_end
    yield from _between(text, start, _line_ends(text, start, block.end), UnitKind.ROW, number)


def _line_ends(text: str, start: int, end: int) -> list[int]:
    ends = []
    while (found := text.find("\n", start, end)) >= 0:
        ends.append(found)
        start = found + 1
    return [*ends, end]


def _between(text: str, start: int, ends: list[int], kind: UnitKind, block: int) -> Iterator[Unit]:
    """A unit for each stretch up to the next end that is not blank. Code keeps its indentation."""
    for end in ends:
        part = text[start:end]
        bare = part.rstrip()
        if bare:
            lead = len(bare) - len(bare.lstrip("\n" if kind is UnitKind.CODE_LINE else None))
            yield Unit(kind, start + lead, start + len(bare), block)
        start = end


def smaller(text: str, unit: Unit, parts: int) -> list[Unit]:
    """The unit in about so many parts, at least two, of about equal length: code at its lines, anything else between
    clauses, words, or at last graphemes (UAX 29). A single grapheme comes back alone."""
    if unit.kind is UnitKind.CODE:
        lines = list(_between(text, unit.start, _line_ends(text, unit.start, unit.end), UnitKind.CODE_LINE, unit.block))
        return lines if len(lines) > 1 else [replace(unit, kind=UnitKind.PART)]
    ends = _part_ends(text, unit.start, unit.end, max(2, parts))
    return list(_between(text, unit.start, ends, UnitKind.PART, unit.block))


def _part_ends(text: str, start: int, end: int, parts: int) -> list[int]:
    size = max(1, (end - start) // parts)
    ends: list[int] = []
    position = start
    graphemes: list[int] | None = None
    while end - position > size:
        target = position + size
        found = _last_gap(text, position + (size + 1) // 2, target + 1)
        if found is None:
            if graphemes is None:
                graphemes = _grapheme_ends(text, position, end)
                taken = 0
            while taken < len(graphemes) - 1 and (graphemes[taken] <= position or graphemes[taken + 1] <= target):
                taken += 1
            found = graphemes[taken]
        if found >= end:
            break
        ends.append(found)
        position = found
    return [*ends, end]


def _last_gap(text: str, low: int, high: int) -> int | None:
    """The best place between two positions to part words: behind a clause rather than behind any word."""
    for position in range(min(high, len(text)) - 1, low - 1, -1):
        if text[position].isspace() and position > 0 and text[position - 1] in _CLAUSE_ENDS:
            return position
    for position in range(min(high, len(text)) - 1, low - 1, -1):
        if text[position].isspace():
            return position
    return None


def _grapheme_ends(text: str, start: int, end: int) -> list[int]:
    if text[start:end].isascii():
        return list(range(start + 1, end + 1))
    return [found.end() for found in _GRAPHEME.finditer(text, start, end)]
