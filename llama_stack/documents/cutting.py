"""A document becomes pieces to be embedded and found: as large as allowed, parted where its own structure parts it."""

import asyncio
import math
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

from pydantic import Field, model_validator

from llama_stack.api.common import Word
from llama_stack.documents.blocks import BlockKind, ReadDocument
from llama_stack.documents.units import Unit, UnitKind, smaller, units_of

TokenCounter = Callable[[Sequence[str]], Awaitable[list[int]]]
"""How many tokens each of the texts has, in one call for many: a call may be a request."""

FULL_SHARE = 0.5
"""Of the allowed size: a piece with so much does not go on under another heading of the same or a higher level."""
WHOLE_BLOCK_SHARE = 0.7
"""A piece with so much ends with a whole block, rather than with some sentences of the next."""
PAGE_REST_SHARE = 0.5
"""What of a page goes beyond a full piece and is less than this is evened out with that piece: pages end pieces, and
would leave many small ones behind."""
EVEN_SHARE = 0.6
"""Of what is evened out, for the first of the two pieces; sentences do not end where one would like."""
MAX_HEADER_SHARE = 0.5
"""A table's header that takes more is not repeated."""
MAX_ROUNDS = 64
"""Of counting and making smaller. Each at least halves what is too large, so no document needs as many."""


class ChunkSettings(Word):
    """max_tokens: of a piece, by the counter. overlap_tokens: most that a piece repeats of the one before it, in whole
    sentences; at most half of `max_tokens`."""

    max_tokens: int = Field(512, ge=1, le=1_000_000)
    overlap_tokens: int = Field(64, ge=0)

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.overlap_tokens > self.max_tokens / 2:
            raise ValueError(
                f"overlap_tokens ({self.overlap_tokens}) must be at most half of max_tokens ({self.max_tokens})"
            )
        return self


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document.

    text: what is embedded and shown; `document.text[start:end]`, behind the table's header where it begins within a
    table. page: the one that all of it stands on, from 1. headings: the titles it stands under, outermost first.
    token_count: of `text`, by the counter.
    """

    text: str
    start: int
    end: int
    page: int | None
    headings: list[str]
    token_count: int


async def cut(document: ReadDocument, settings: ChunkSettings, count: TokenCounter) -> list[Piece]:
    """The document in pieces of at most `max_tokens`; every character that is no white space is in at least one.

    Only a single grapheme that has more tokens than that makes a larger piece. A piece never goes over to another page,
    nor repeats anything of one: whoever cites it names the right page. The counter is called a few times for the whole
    document. Its errors come through.
    """
    units = await asyncio.to_thread(units_of, document)
    if not units:
        return []
    (overhead,) = await count([""])
    budget = max(1, settings.max_tokens - overhead)
    units, tokens = await _fitting(document.text, units, budget, overhead, count)
    cutter = _Cutter(document, units, tokens, budget, settings.overlap_tokens)
    drafts = await asyncio.to_thread(cutter.drafts)
    return await _counted(cutter, drafts, settings.max_tokens, count)


async def _fitting(
    text: str, units: list[Unit], budget: int, overhead: int, count: TokenCounter
) -> tuple[list[Unit], list[int]]:
    """The units, made smaller until each fits, and the tokens of each, without what the counter adds to every text."""
    known: dict[Unit, int] = {}
    for _ in range(MAX_ROUNDS):
        unknown = [unit for unit in units if unit not in known]
        if not unknown:
            break
        counts = await count([_with_gap(text, unit) for unit in unknown])
        known.update(zip(unknown, (max(0, tokens - overhead) for tokens in counts), strict=True))
        units = await asyncio.to_thread(_made_smaller, text, units, known, budget)
    return units, [known.get(unit, budget) for unit in units]


def _with_gap(text: str, unit: Unit) -> str:
    """The unit's text with the white space behind it, which counts too when units are put together again."""
    end = unit.end
    while end < len(text) and text[end].isspace() and end - unit.end < 8:
        end += 1
    return text[unit.start : end]


def _made_smaller(text: str, units: list[Unit], known: dict[Unit, int], budget: int) -> list[Unit]:
    fitting: list[Unit] = []
    for unit in units:
        tokens = known[unit]
        if tokens <= budget or unit.end - unit.start == 1:
            fitting.append(unit)
        else:
            # A little more parts than needed: they are not equally dense, and are put together again.
            fitting += smaller(text, unit, math.ceil(tokens / budget * 1.3))
    return fitting


@dataclass(frozen=True, slots=True)
class _Draft:
    """A piece that is not counted yet: units side by side, of which the first `repeated` repeat the piece before.

    header: of the table it begins within, to be repeated. Drafts are told apart by identity, not by value.
    """

    units: list[Unit]
    repeated: int = 0
    header: Unit | None = None

    def text(self, text: str) -> str:
        own = text[self.units[0].start : self.units[-1].end]
        return own if self.header is None else f"{text[self.header.start : self.header.end]}\n{own}"

    def halves(self, text: str) -> "list[_Draft]":
        """What to try instead of a piece that came out too large; nothing where it cannot be smaller."""
        if self.repeated:
            return [_Draft(self.units[self.repeated :], header=self.header)]
        if len(self.units) > 1:
            middle = len(self.units) // 2
            return [_Draft(self.units[:middle], header=self.header), _Draft(self.units[middle:], header=self.header)]
        if self.header is not None:
            return [_Draft(self.units)]
        parts = smaller(text, self.units[0], 2)
        return [_Draft([part]) for part in parts] if len(parts) > 1 else []


class _Cutter:
    """Puts units together."""

    def __init__(
        self, document: ReadDocument, units: list[Unit], tokens: list[int], budget: int, overlap_tokens: int
    ) -> None:
        self.text = document.text
        self._blocks = document.blocks
        self._units = units
        self._budget = budget
        self._overlap_tokens = overlap_tokens
        self._before = list(accumulate(tokens, initial=0))
        self._levels, self._paths = _sections(document)
        self._page_ends = self._ends_of_pages()
        self._headers = {unit.block: number for number, unit in enumerate(units) if unit.kind is UnitKind.TABLE_HEADER}

    def drafts(self) -> list[_Draft]:
        found: list[_Draft] = []
        previous, fresh = 0, 0
        while fresh < len(self._units):
            first = self._overlap_start(previous, fresh) if found else fresh
            last = self._last(first, fresh)
            found.append(_Draft(self._units[first:last], fresh - first, self._header(first)))
            previous, fresh = first, last
        return found

    def piece(self, draft: _Draft, token_count: int) -> Piece:
        fresh = draft.units[draft.repeated :]
        told = next((unit for unit in fresh if unit.kind is not UnitKind.HEADING), fresh[-1])
        first, last = draft.units[0], draft.units[-1]
        return Piece(
            text=draft.text(self.text),
            start=first.start,
            end=last.end,
            page=self._blocks[first.block].page,
            headings=list(self._paths[told.block]),
            token_count=token_count,
        )

    def _ends_of_pages(self) -> list[int]:
        """For each unit the first one after it that is not on its page; the number of units where there is none."""
        ends = [len(self._units)] * len(self._units)
        for number in range(len(self._units) - 2, -1, -1):
            is_last = self._page(number) != self._page(number + 1)
            ends[number] = number + 1 if is_last else ends[number + 1]
        return ends

    def _page(self, number: int) -> int | None:
        return self._blocks[self._units[number].block].page

    def _header(self, number: int) -> Unit | None:
        """The header to repeat for a piece that begins with this unit."""
        unit = self._units[number]
        at = self._headers.get(unit.block)
        if at is None or unit.kind is UnitKind.TABLE_HEADER or self._tokens(at, at + 1) > self._share(MAX_HEADER_SHARE):
            return None
        return self._units[at]

    def _tokens(self, first: int, last: int) -> int:
        return self._before[last] - self._before[first]

    def _share(self, share: float) -> float:
        return self._budget * share

    def _room(self, first: int) -> float:
        """Tokens for the piece that begins with this unit, its header left out."""
        room, header = self._budget, self._header(first)
        if header is not None:
            at = self._headers[header.block]
            room -= self._tokens(at, at + 1)
        left = self._tokens(first, self._page_ends[first])
        goes_on = self._page(first) is not None and room < left < room * (1 + PAGE_REST_SHARE)
        return left * EVEN_SHARE if goes_on else room

    def _last(self, first: int, fresh: int) -> int:
        """Where the piece ends that begins with `first` and must go beyond `fresh`."""
        fits = bisect_right(self._before, self._before[first] + self._room(first)) - 1
        page_end = self._page_ends[fresh]
        fits = min(max(fits, fresh + 1), page_end)
        for number in range(fresh + 1, fits):
            if self._parts_sections(number) and self._tokens(first, number) >= self._share(FULL_SHARE):
                return number
        if fits == page_end:
            return fits
        last = self._best_before(first, fresh, fits)
        while last - 1 > fresh and self._units[last - 1].kind in (UnitKind.HEADING, UnitKind.TABLE_HEADER):
            last -= 1
        return last

    def _parts_sections(self, number: int) -> bool:
        """Whether a heading stands here that ends the section before it."""
        unit, before = self._units[number], self._units[number - 1]
        if unit.kind is not UnitKind.HEADING or before.kind is UnitKind.HEADING:
            return False
        return self._levels[unit.block] <= self._levels[before.block]

    def _best_before(self, first: int, fresh: int, fits: int) -> int:
        """The best end at or before the unit that no longer fits."""
        for number in range(fits, fresh, -1):
            filled = self._tokens(first, number)
            if filled >= self._share(FULL_SHARE) and self._units[number].kind is UnitKind.HEADING:
                return number
            if filled < self._share(FULL_SHARE):
                break
        for number in range(fits, fresh, -1):
            if self._tokens(first, number) < self._share(WHOLE_BLOCK_SHARE):
                break
            if self._begins_block(number):
                return number
        return fits

    def _begins_block(self, number: int) -> bool:
        """Whether a block begins here, or code goes on after a blank line."""
        unit, before = self._units[number], self._units[number - 1]
        if unit.kind is UnitKind.CODE_LINE:
            return unit.block != before.block or "\n\n" in self.text[before.end : unit.start]
        return unit.block != before.block

    def _overlap_start(self, previous: int, fresh: int) -> int:
        """The first unit to repeat of the piece that began with `previous`.

        Whole sentences are repeated, none over a heading or of another page, and room is left for something new.
        """
        if self._units[fresh].kind is UnitKind.HEADING or self._page(fresh) != self._page(fresh - 1):
            return fresh
        first = fresh
        room = min(self._overlap_tokens, self._budget - self._tokens(fresh, fresh + 1))
        while (
            first - 1 > previous
            and self._units[first - 1].kind is UnitKind.SENTENCE
            and self._tokens(first - 1, fresh) <= room
        ):
            first -= 1
        return first


def _sections(document: ReadDocument) -> tuple[list[int], list[tuple[str, ...]]]:
    """For each block the level of the heading it stands under, and the titles; a heading stands under itself."""
    levels: list[int] = []
    paths: list[tuple[str, ...]] = []
    above: list[tuple[int, str]] = []
    path: tuple[str, ...] = ()
    for block in document.blocks:
        if block.kind is BlockKind.HEADING:
            above = [*(entry for entry in above if entry[0] < block.level), (block.level, block.title)]
            path = tuple(title for _, title in above)
        levels.append(above[-1][0] if above else 99)
        paths.append((*path, block.title) if block.kind is BlockKind.CODE and block.title else path)
    return levels, paths


async def _counted(cutter: _Cutter, drafts: list[_Draft], max_tokens: int, count: TokenCounter) -> list[Piece]:
    """The pieces with their counts. A whole may have more tokens than its parts together: then it is halved."""
    counted: list[tuple[_Draft, int | None]] = [(draft, None) for draft in drafts]
    for _ in range(MAX_ROUNDS):
        texts = [draft.text(cutter.text) for draft, tokens in counted if tokens is None]
        if not texts:
            break
        counts = iter(await count(texts))
        following: list[tuple[_Draft, int | None]] = []
        for draft, known in counted:
            tokens = next(counts) if known is None else known
            halves = draft.halves(cutter.text) if tokens > max_tokens else []
            following += [(half, None) for half in halves] or [(draft, tokens)]
        counted = following
    return [cutter.piece(draft, tokens or 0) for draft, tokens in counted]
