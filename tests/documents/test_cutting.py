"""Pieces fit, lose nothing, and end where the document itself parts."""

from collections.abc import Callable, Sequence

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llama_stack.documents.blocks import BlockKind, DocumentBuilder, ReadDocument
from llama_stack.documents.cutting import ChunkSettings, Piece, TokenCounter, cut
from llama_stack.documents.formats.markdown import add_markdown
from llama_stack.documents.formats.plain import add_plain
from llama_stack.documents.formats.source_code import read_python

Count = Callable[[str], int]

COUNTERS: dict[str, Count] = {
    "characters": len,
    "words": lambda text: len(text.split()),
    "bytes by four": lambda text: -(-len(text.encode()) // 4),
    "word pieces": lambda text: len(regex.findall(r"\w{1,4}|\S", text)),
    "with begin and end": lambda text: len(text.split()) + 2,
    "more than its parts": lambda text: len(text) + len(text) // 10,
}


class Counter:
    """Counts, and remembers how often it was asked."""

    def __init__(self, count: Count) -> None:
        self.calls = 0
        self._count = count

    async def __call__(self, texts: Sequence[str]) -> list[int]:
        self.calls += 1
        return [self._count(text) for text in texts]


def words(text: str) -> int:
    return len(text.split())


def document_of(text: str, add: Callable[[str, DocumentBuilder], None] = add_markdown) -> ReadDocument:
    builder = DocumentBuilder(10_000_000)
    add(text, builder)
    return builder.built()


async def pieces_of(text: str, max_tokens: int, overlap_tokens: int = 0, count: Count = words) -> list[Piece]:
    settings = ChunkSettings(max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return await cut(document_of(text), settings, Counter(count))


def check(document: ReadDocument, pieces: list[Piece], max_tokens: int, count: Count) -> None:
    """What holds of every document, size and counter."""
    smallest = max(max_tokens, count("x"))
    reached = 0
    for piece in pieces:
        assert piece.text.endswith(document.text[piece.start : piece.end])
        assert piece.token_count == count(piece.text)
        assert piece.token_count <= smallest or regex.fullmatch(r"\X", piece.text), piece
        assert not document.text[reached : piece.start].strip()
        assert piece.end >= reached
        reached = piece.end
    assert not document.text[reached:].strip()


MARKUP = st.text(st.sampled_from("ab. \n#|-`!?,1é漢。ก่ी।\u200d👨👩"), max_size=400)
LINES = st.lists(
    st.sampled_from(
        ["# A", "## B c", "### D", "", "", "One two three. Four five!", "| a | b |", "|---|---|", "| 1 | 2 |", "- item",
         "```", "x = 1", "def f():", "    return 1", "यह वाक्य है। दूसरा।", "这是一句话。第二句。", "สวัสดี ครับ", "w" * 40]
    ),
    max_size=60,
).map("\n".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    text=st.one_of(MARKUP, LINES),
    max_tokens=st.sampled_from([1, 2, 3, 7, 20, 60]),
    overlap_share=st.sampled_from([0, 0.2, 0.5]),
    counter=st.sampled_from(sorted(COUNTERS)),
    add=st.sampled_from([add_markdown, add_plain]),
)
async def test_every_piece_fits_and_nothing_is_lost(
    text: str, max_tokens: int, overlap_share: float, counter: str, add: Callable[[str, DocumentBuilder], None]
) -> None:
    document = document_of(text, add)
    sizes = ChunkSettings(max_tokens=max_tokens, overlap_tokens=int(max_tokens * overlap_share))
    pieces = await cut(document, sizes, Counter(COUNTERS[counter]))
    check(document, pieces, max_tokens, COUNTERS[counter])


GRAPHEMES = ["👨‍👩‍👧‍👦", "e\u0301", "कि", "กำ", "🇩🇪", "한"]


@pytest.mark.parametrize("grapheme", GRAPHEMES)
async def test_what_a_reader_sees_as_one_letter_is_never_cut(grapheme: str) -> None:
    pieces = await pieces_of(grapheme * 50, 8, count=len)
    assert all(regex.fullmatch(f"(?:{grapheme})+", piece.text) for piece in pieces)
    assert "".join(piece.text for piece in pieces) == grapheme * 50


async def test_an_allowance_smaller_than_a_letter_still_ends() -> None:
    pieces = await pieces_of("👨‍👩‍👧 x", 1, count=lambda text: len(text.encode()))
    assert [piece.text for piece in pieces] == ["👨‍👩‍👧", "x"]


async def test_sentences_are_whole_while_they_fit() -> None:
    text = "One two three. Four five six. Seven eight nine. Ten."
    assert [piece.text for piece in await pieces_of(text, 7)] == [
        "One two three. Four five six.",
        "Seven eight nine. Ten.",
    ]


async def test_a_sentence_that_is_too_long_is_cut_between_words() -> None:
    text = "one two three four, five six seven eight nine ten"
    pieces = [piece.text for piece in await pieces_of(text, 6)]
    assert len(pieces) == 2
    assert " ".join(pieces) == text


async def test_the_overlap_is_whole_sentences_of_the_piece_before() -> None:
    text = "Ann ate. Bob bit. Cas cut. Dan dug. Eva ended."
    pieces = await pieces_of(text, 5, overlap_tokens=2)
    assert [piece.text for piece in pieces] == [
        "Ann ate. Bob bit.",
        "Bob bit. Cas cut.",
        "Cas cut. Dan dug.",
        "Dan dug. Eva ended.",
    ]
    assert [piece.start for piece in pieces] == [0, 9, 18, 27]


async def test_a_sentence_longer_than_the_overlap_is_not_repeated() -> None:
    pieces = await pieces_of("Ann ate it all. Bob bit her hand. Cas cut the cake.", 4, overlap_tokens=2)
    assert [piece.text for piece in pieces] == ["Ann ate it all.", "Bob bit her hand.", "Cas cut the cake."]


SECTIONS = "# Guide\n\nIntro.\n\n## One\n\n{one}\n\n## Two\n\n{two}\n\n# Other\n\nEnd."


async def test_small_sections_stand_together() -> None:
    (piece,) = await pieces_of(SECTIONS.format(one="Short.", two="Short too."), 60)
    assert piece.headings == ["Guide"]


async def test_a_full_piece_ends_before_the_next_heading() -> None:
    text = SECTIONS.format(one="Words in a row. " * 8, two="More of the same. " * 8)
    pieces = await pieces_of(text, 50, overlap_tokens=10)
    assert [(piece.headings, piece.text.split("\n")[0]) for piece in pieces] == [
        (["Guide"], "# Guide"), (["Guide", "Two"], "## Two"), (["Other"], "# Other"),
    ]  # fmt: skip


async def test_a_heading_stays_with_what_it_is_the_heading_of() -> None:
    text = "# A\n\n" + "One two. " * 4 + "\n\n## B\n\n" + "Three four. " * 4
    assert all(not piece.text.endswith(("# A", "## B")) for piece in await pieces_of(text, 11))


async def test_a_table_is_cut_between_rows_and_its_header_repeated() -> None:
    rows = [f"| key {number} | value {number} |" for number in range(9)]
    pieces = await pieces_of("Before.\n\n| k | v |\n|---|---|\n" + "\n".join(rows) + "\n\nAfter.", 27)
    document = document_of("Before.\n\n| k | v |\n|---|---|\n" + "\n".join(rows) + "\n\nAfter.")
    header = "| k | v |\n|---|---|\n"
    assert [piece.text for piece in pieces] == [
        "Before.\n\n" + header + "\n".join(rows[:2]), header + "\n".join(rows[2:5]), header + "\n".join(rows[5:8]),
        header + rows[8] + "\n\nAfter.",
    ]  # fmt: skip
    assert document.text[pieces[1].start : pieces[1].end] == "\n".join(rows[2:5])


async def test_a_header_as_long_as_its_rows_is_not_repeated() -> None:
    table = "| a b c d e f | g |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |"
    assert [piece.text.count("---") for piece in await pieces_of(table, 16)] == [2, 0]


async def test_code_is_whole_while_it_fits() -> None:
    code = "```\n" + "\n\n".join(f"x{number} = 1" for number in range(5)) + "\n```"
    pieces = await pieces_of("Words before it stand here. " * 3 + "\n\n" + code, 20)
    assert [piece.text for piece in pieces][-1] == code


async def test_code_that_is_too_long_is_cut_at_blank_lines() -> None:
    functions = [f"def f{number}():\n    a = 1\n    return a" for number in range(4)]
    pieces = await pieces_of("```\n" + "\n\n".join(functions) + "\n```", 17)
    assert [piece.text for piece in pieces] == [
        "```\n" + "\n\n".join(functions[:2]), "\n\n".join(functions[2:]) + "\n```",
    ]  # fmt: skip


async def test_a_function_is_named_among_the_headings() -> None:
    builder = DocumentBuilder(10_000)
    read_python(b"import os\n\n\ndef first():\n    return 1\n\n\ndef second():\n    return 2\n", builder)
    pieces = await cut(builder.built(), ChunkSettings(max_tokens=5, overlap_tokens=0), Counter(words))
    assert [piece.headings for piece in pieces] == [[], ["first"], ["second"]]


def paged(*pages: str) -> ReadDocument:
    builder = DocumentBuilder(100_000, pages=len(pages))
    for number, text in enumerate(pages, 1):
        builder.add(BlockKind.PARAGRAPH, text, page=number)
    return builder.built()


async def test_a_piece_stands_on_one_page() -> None:
    document = paged(*(f"Text of page {page} here." for page in (1, 2, 3)))
    pieces = await cut(document, ChunkSettings(max_tokens=100, overlap_tokens=50), Counter(words))
    assert [(piece.page, piece.text) for piece in pieces] == [
        (page, f"Text of page {page} here.") for page in (1, 2, 3)
    ]


async def test_the_overlap_stays_on_its_page() -> None:
    document = paged("One two. Three four. Five six.", "Seven eight. Nine ten. Eleven twelve.")
    pieces = await cut(document, ChunkSettings(max_tokens=4, overlap_tokens=2), Counter(words))
    assert [(piece.page, piece.text) for piece in pieces] == [
        (1, "One two. Three four."),
        (1, "Three four. Five six."),
        (2, "Seven eight. Nine ten."),
        (2, "Nine ten. Eleven twelve."),
    ]


async def test_a_page_a_little_too_long_for_a_piece_does_not_end_in_a_small_one() -> None:
    document = paged(*["Two words. " * 11] * 3)
    pieces = await cut(document, ChunkSettings(max_tokens=20, overlap_tokens=0), Counter(words))
    check(document, pieces, 20, words)
    assert [(piece.page, piece.token_count) for piece in pieces] == [
        (1, 12),
        (1, 10),
        (2, 12),
        (2, 10),
        (3, 12),
        (3, 10),
    ]


@settings(max_examples=50, deadline=None)
@given(
    pages=st.lists(MARKUP.map(lambda text: text[:80]).filter(str.strip), max_size=8),
    max_tokens=st.sampled_from([2, 7, 20]),
    counter=st.sampled_from(sorted(COUNTERS)),
)
async def test_pages_are_told_of_everything_and_nothing_is_lost(
    pages: list[str], max_tokens: int, counter: str
) -> None:
    document = paged(*pages)
    pieces = await cut(document, ChunkSettings(max_tokens=max_tokens, overlap_tokens=1), Counter(COUNTERS[counter]))
    check(document, pieces, max_tokens, COUNTERS[counter])
    for piece in pieces:
        blocks = [block for block in document.blocks if block.start < piece.end and piece.start < block.end]
        assert [block.page for block in blocks] == [piece.page]


@pytest.mark.parametrize(
    "text",
    ["A sentence of words. " * 20_000, "word " * 60_000, "x" * 200_000, "| a | b |\n|--|--|\n" + "| c | d |\n" * 20_000,
     "```\n" + "x = 1\n" * 30_000 + "```", "# h\n\ntext.\n\n" * 10_000, "这是一句话。" * 30_000],
    ids=["sentences", "no sentences", "one word", "table", "code", "headings", "Chinese"],
)  # fmt: skip
async def test_the_counter_is_asked_a_few_times_for_a_whole_document(text: str) -> None:
    counter = Counter(COUNTERS["bytes by four"])
    document = document_of(text)
    pieces = await cut(document, ChunkSettings(), counter)
    check(document, pieces, 512, COUNTERS["bytes by four"])
    assert counter.calls <= 6
    assert len(pieces) < len(text.encode()) / 4 / 512 * 3 + 2


async def test_a_document_without_blocks_has_no_pieces() -> None:
    assert await pieces_of(" \n", 10) == []


async def test_what_the_counter_raises_comes_through() -> None:
    async def broken(texts: Sequence[str]) -> list[int]:
        raise ConnectionError("the model is away")

    counter: TokenCounter = broken
    with pytest.raises(ConnectionError):
        await cut(document_of("text"), ChunkSettings(), counter)


def test_an_overlap_that_leaves_too_little_room_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"overlap_tokens \(60\) must be at most half of max_tokens \(100\)"):
        ChunkSettings(max_tokens=100, overlap_tokens=60)
