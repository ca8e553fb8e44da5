"""Citations of scripted answers: with marks, with broken ones, with none, in several languages and with numbers."""

import random
from typing import Any

import pytest

from llama_stack.api.memory import Chunk, Citation
from llama_stack.memory.citing import cite
from llama_stack.memory.context import Passage, part_of, passages_of, passages_told, told_passages
from llama_stack.memory.likeness import longest_run, sentence_spans
from llama_stack.memory.markers import MAX_MARK_CHARACTERS, Mark, MarkFilter, natural_marks

BEGIN = 1_000
"""Where every chunk begins in its document."""


def chunk(name: str, content: str, *, page: int | None = None, document: str = "", **fields: Any) -> Chunk:
    return Chunk(
        chunk_id=f"chunk-{name}",
        document_id=document or f"file-{name}",
        document_name=f"{document or name}.pdf",
        content=content,
        page=page,
        start=BEGIN,
        end=BEGIN + len(content),
        **fields,
    )


OWLS = chunk("owls", "Owls hunt at night. Their eyes hold many rods, so they see well in little light.")
LAMP = chunk("lamp", "The lamp weighs 80 grams. Its warranty lasts 42 months. It shines for 1,200 hours.", page=3)
TAX = chunk("tax", "The rate rose from 7.5 percent in 2019 to 19 percent in 2024.")
ALL = [OWLS, LAMP, TAX]


def numbered(*chunks: Chunk) -> list[Passage]:
    return [Passage(number, one, "") for number, one in enumerate(chunks, start=1)]


def answered(answer: str, *groups: list[Passage]) -> tuple[str, list[Citation]]:
    """The text as it is told, and its citations; each of them checked against its chunk."""
    filtered = MarkFilter()
    text = filtered.feed(answer) + filtered.finish()
    searches = groups or (numbered(*ALL),)
    chunks = {one.chunk.chunk_id: one.chunk for group in searches for one in group}
    citations = cite(text, searches, filtered.marks)
    for one in citations:
        source = chunks[one.chunk_id]
        assert one.quote
        assert one.quote in source.content
        assert source.content[one.start - BEGIN : one.end - BEGIN] == one.quote
        assert (one.document_id, one.document_name, one.page) == (
            source.document_id,
            source.document_name,
            source.page,
        )
        assert 0 <= one.index <= len(text)
    return text, citations


def cited(answer: str, *groups: list[Passage]) -> list[tuple[str, str]]:
    """The words before each citation, back to the sentence's start, and the name of what is cited."""
    text, citations = answered(answer, *groups)
    places = []
    for one in citations:
        start = max((start for start, _ in sentence_spans(text) if start < one.index), default=0)
        places.append((text[start : one.index].strip(), one.chunk_id.removeprefix("chunk-")))
    return places


# --- marks that stay -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        "Owls see well [1].",
        "Owls see well[1].",
        "Owls see well [1]",
        "Owls see well 【1】。",
        "Owls see well [^1].",
        "Owls see well (passage 1).",
        "Owls see well (document 1).",
        "Owls see well [Document 1].",
        "Owls see well (Quelle 1).",
        "Owls see well (document owls.pdf).",
        "Owls see well (see owls.pdf).",
        "Owls see well [OWLS.PDF].",
        "Owls see well（文档 1）。",
    ],
)
def test_a_mark_that_is_text_stays_and_is_cited_where_it_stands(answer: str) -> None:
    text, [citation] = answered(answer)
    assert text == answer
    assert citation.chunk_id == "chunk-owls"
    assert text[: citation.index].rstrip() == "Owls see well"
    assert citation.quote.endswith("they see well in little light.")


def test_one_mark_may_name_several_passages() -> None:
    for mark in ("[1, 2]", "[1][2]", "[1] [2]", "[1-2]", "[1; 2]", "(documents 1 and 2)"):
        text, citations = answered(f"Both are told {mark}.")
        assert [one.chunk_id for one in citations] == ["chunk-owls", "chunk-lamp"], mark
        assert text == f"Both are told {mark}."


def test_a_mark_cites_the_words_of_its_own_sentence() -> None:
    _, citations = answered("The warranty is 42 months [2]. It shines for 1200 hours [2]. It weighs 80 grams. [2]")
    assert [one.quote for one in citations] == [
        "Its warranty lasts 42 months.",
        "It shines for 1,200 hours.",
        "The lamp weighs 80 grams.",
    ]


def test_a_mark_at_the_beginning_of_a_line_belongs_to_what_follows() -> None:
    _, citations = answered("[1] Owls see well.\n- [2] The warranty lasts 42 months.")
    assert [(one.chunk_id, one.quote) for one in citations] == [
        ("chunk-owls", "Their eyes hold many rods, so they see well in little light."),
        ("chunk-lamp", "Its warranty lasts 42 months."),
    ]


def test_what_only_looks_like_a_mark_is_text() -> None:
    for answer in (
        "Use rows[1] as `a[2]` does.",
        "```\nx[1] = y[2]\n```",
        "See [1](https://example.org).",
        "In [2019] it was so.",
    ):
        text, citations = answered(answer, numbered(OWLS, LAMP, TAX))
        assert text == answer
        assert citations, answer
    assert cited("x = `owls[2]`. Owls hunt at night.") == [("Owls hunt at night.", "owls")]
    assert cited("See [7]. Owls hunt at night.") == [("Owls hunt at night.", "owls")]


def test_a_named_document_is_cited_by_the_page_and_by_the_words() -> None:
    first = chunk("a", "Boots are made of leather.", page=1, document="manual")
    second = chunk("b", "Boots are dried slowly, never on a stove.", page=2, document="manual")
    assert cited("Leather is what they use (manual.pdf, page 2).", numbered(first, second)) == [
        ("Leather is what they use", "b")
    ]
    assert cited("Boots are made of leather (manual.pdf).", numbered(first, second)) == [
        ("Boots are made of leather", "a")
    ]
    assert cited("Dry boots slowly (document manual.pdf, S. 2).", numbered(first, second)) == [
        ("Dry boots slowly", "b")
    ]


def test_a_number_of_several_searches_means_the_passage_that_fits_or_else_the_latest() -> None:
    first, second = numbered(LAMP), numbered(OWLS)
    assert cited("The warranty lasts 42 months [1]. Owls see well [1].", first, second) == [
        ("The warranty lasts 42 months", "lamp"),
        ("Owls see well", "owls"),
    ]
    assert cited("Nothing in common [1].", first, second) == [("Nothing in common", "owls")]


# --- marks that are taken out --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text", "names"),
    [
        ("Owls see well【1†source】.", "Owls see well.", ["owls"]),
        ("Owls see well 【1†source】.", "Owls see well.", ["owls"]),
        ("Owls see well 【1†owls.pdf】【2†L1-L4】 and hunt.", "Owls see well and hunt.", ["owls", "lamp"]),
        ("Owls see well [1†source].", "Owls see well.", ["owls"]),
        ("Owls see well [citation:1].", "Owls see well.", ["owls"]),
        ("Owls see well [[citation:1]].", "Owls see well.", ["owls"]),
        ("Owls see well [cite: 1, 2].", "Owls see well.", ["owls", "lamp"]),
        ("Owls see well \ue200cite\ue202turn0file0\ue201.", "Owls see well.", ["owls"]),
        ("The warranty lasts 42 months 【4:0†source】.", "The warranty lasts 42 months.", ["lamp"]),
        ("The warranty lasts 42 months 【8:13】", "The warranty lasts 42 months", ["lamp"]),
        ("【1†source】 Owls see well.", "Owls see well.", ["owls"]),
        ("Owls see well.\n【1†source】\nThey hunt.", "Owls see well.\n\nThey hunt.", ["owls"]),
        ("Owls see well 【1†source】  【2†source】 .", "Owls see well.", ["owls", "lamp"]),
        ("Eulen 【注意】 sehen【1†a】gut.", "Eulen 【注意】 sehengut.", ["owls"]),
    ],
)
def test_a_mark_that_is_no_text_is_taken_out(answer: str, text: str, names: list[str]) -> None:
    told, citations = answered(answer)
    assert told == text
    assert [one.chunk_id.removeprefix("chunk-") for one in citations] == names


def test_a_mark_that_names_no_passage_is_taken_out_and_cites_nothing() -> None:
    assert cited("The warranty lasts 42 months 【9†source】. Good night 【0†source】.") == [
        ("The warranty lasts 42 months.", "lamp")
    ]


def test_broken_marks_stay_as_they_were_said() -> None:
    for answer in (
        "Owls hunt at night 【1†source",
        "Owls hunt at night 【",
        "Owls hunt at night [citation:",
        "Owls hunt at night [1†\n",
        "Owls hunt at night 【" + "1†" * MAX_MARK_CHARACTERS + "】",
        "Owls hunt at night 【see [1]†】",
        "Owls hunt at night  ",
    ):
        assert answered(answer)[0] == answer


def test_however_the_text_is_cut_the_same_comes_out_and_nothing_leaks() -> None:
    answer = (
        "Owls 【1†source】 see【2†a】well [1], [citation:2] [[citation:3]] and [c] [[ci] 【注意】[1†x]\n "
        "【1†b】 【4:0】.  \ue200cite\ue202turn0\ue201 End [cite: 1, 2]【3†"
    )
    whole = MarkFilter()
    text = whole.feed(answer) + whole.finish()
    assert "†" not in text.removesuffix("【3†")
    chance = random.Random(7)
    for _ in range(300):
        pieces, at = [], 0
        while at < len(answer):
            size = chance.randint(1, 6)
            pieces.append(answer[at : at + size])
            at += size
        filtered, told = MarkFilter(), ""
        for piece in pieces:
            told += filtered.feed(piece)
            # What was let out is never taken back.
            assert text.startswith(told)
        assert told + filtered.finish() == text
        assert filtered.marks == whole.marks


def test_text_is_held_back_only_while_it_may_become_a_mark() -> None:
    filtered = MarkFilter()
    assert filtered.feed("A list [") == "A list"
    assert filtered.feed("a, b]") == " [a, b]"
    assert filtered.feed(" 【") == ""
    assert filtered.feed("x" * MAX_MARK_CHARACTERS) == " 【" + "x" * MAX_MARK_CHARACTERS


# --- no marks ------------------------------------------------------------------------------------------------------


def test_sentences_are_cited_by_their_words_and_others_are_not() -> None:
    answer = "Good question! Owls can see well in little light. I hope this helps. The lamp has 42 months of warranty."
    assert cited(answer) == [
        ("Owls can see well in little light.", "owls"),
        ("The lamp has 42 months of warranty.", "lamp"),
    ]


def test_items_of_a_list_are_cited_one_by_one() -> None:
    answer = "Here is what I found:\n- Owls hunt at night\n- The lamp shines for 1200 hours\n\nAnything else?"
    assert cited(answer) == [("- Owls hunt at night", "owls"), ("- The lamp shines for 1200 hours", "lamp")]


@pytest.mark.parametrize("number", ["1,200", "1200", "1.200", "1 200", "1\u202f200", "1'200"])
def test_a_number_is_the_same_however_it_is_written(number: str) -> None:
    assert cited(f"It shines for {number} hours.") == [(f"It shines for {number} hours.", "lamp")]


def test_another_number_is_another_fact() -> None:
    """The passage that has the number is cited, not the one that has more of the words."""
    old = chunk("old", "In 2019 the rate of tax on books was 7.5 percent.")
    new = chunk("new", "Since 2024 the rate for books is 19 percent.")
    assert cited("The tax rate on books is 19 percent.", numbered(old, new)) == [
        ("The tax rate on books is 19 percent.", "new")
    ]
    assert cited("The rate was 7,5 percent.", numbered(new, old)) == [("The rate was 7,5 percent.", "old")]


def test_a_short_answer_is_cited_when_all_of_it_is_there() -> None:
    assert cited("42 months") == [("42 months", "lamp")]
    assert cited("19 percent.") == [("19 percent.", "tax")]


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Die Garantie der Lampe gilt 24 Monate.", "de"),
        ("La garantie de la lampe dure vingt-quatre mois.", "fr"),
        ("La garantía de la lámpara dura 24 meses.", "es"),
        ("Гарантия на лампу действует 24 месяца.", "ru"),
        ("ランプの保証期間は二十四か月です。", "ja"),
        ("灯的保修期为二十四个月。", "zh"),
        ("램프의 보증 기간은 24개월입니다.", "ko"),
        ("مدة ضمان المصباح 24 شهرا.", "ar"),
        ("दीपक की वारंटी 24 महीने की है।", "hi"),
    ],
)
def test_answers_are_cited_in_their_language(answer: str, name: str) -> None:
    passages = [
        chunk("de", "Die Lampe ist wasserdicht. Die Garantie für die Lampe beträgt 24 Monate ab Kauf."),
        chunk("fr", "La lampe est étanche. La garantie de la lampe est de vingt-quatre mois."),
        chunk("es", "La lámpara es estanca. La garantía de la lámpara es de 24 meses."),
        chunk("ru", "Лампа не боится воды. На лампу действует гарантия 24 месяца."),
        chunk("ja", "ランプは防水です。ランプの保証期間は購入日から二十四か月です。"),
        chunk("zh", "灯是防水的。灯的保修期为购买后二十四个月。"),
        chunk("ko", "램프는 방수입니다. 램프의 보증 기간은 구입 후 24개월입니다."),
        chunk("ar", "المصباح مقاوم للماء. مدة ضمان المصباح 24 شهرا من الشراء."),
        chunk("hi", "दीपक जलरोधी है। दीपक की वारंटी खरीद से 24 महीने की है।"),
    ]
    _, citations = answered(answer, numbered(*passages))
    assert [(one.chunk_id, one.index) for one in citations] == [(f"chunk-{name}", len(answer))]
    assert "24" in citations[0].quote or citations[0].quote != passages[0].content.split(". ")[0]


def test_an_answer_in_another_language_is_cited_by_its_names_and_numbers() -> None:
    german = chunk("de", "Die Stirnlampe Beacon 300 wiegt 80 g und leuchtet 1.200 Stunden.")
    other = chunk("other", "Die Jacke Gale wiegt 410 g.")
    assert cited("The Beacon 300 headlamp shines for 1,200 hours.", numbered(other, german))[0][1] == "de"


def test_an_answer_with_nothing_in_common_cites_the_closest_passage_or_the_first() -> None:
    text, [citation] = answered("I cannot tell. Perhaps at some hours?  ")
    assert citation.index == len(text.rstrip())
    assert citation.chunk_id == "chunk-lamp"
    assert cite("Sorry.", [numbered(*ALL)], always=False) == []
    _, [first] = answered("Sorry.")
    assert (first.chunk_id, first.quote) == ("chunk-owls", "Owls hunt at night.")


def test_nothing_is_cited_where_nothing_was_said_or_nothing_was_found() -> None:
    assert cite("Owls hunt at night.", []) == []
    assert cite("Owls hunt at night.", [[]]) == []
    assert cite(" \n", [numbered(*ALL)]) == []


def test_two_sentences_of_a_passage_are_quoted_where_both_are_told() -> None:
    _, [citation] = answered("The lamp weighs 80 grams and its warranty lasts 42 months.")
    assert citation.quote == "The lamp weighs 80 grams. Its warranty lasts 42 months."


def test_the_span_is_the_chunks_where_a_chunk_does_not_tell_its_own() -> None:
    brought = Chunk(chunk_id="c", document_id="d", content="Owls hunt at night. Bats do, too.", start=5, end=9)
    [citation] = cite("Owls hunt at night [1].", [numbered(brought)])
    assert (citation.start, citation.end, citation.quote) == (5, 9, "Owls hunt at night.")


def test_a_continued_table_is_cited_where_its_rows_stand() -> None:
    header, rows = "| lamp | weight |\n| --- | --- |", "| Vega | 80 grams |\n| Lyra | 95 grams |"
    table = Chunk(chunk_id="t", document_id="d", content=f"{header}\n{rows}", start=700, end=700 + len(rows))
    [citation] = cite("The lamp Lyra has a weight of 95 grams [1].", [numbered(table)])
    assert "Lyra" in citation.quote
    assert citation.quote in rows
    assert rows[citation.start - 700 : citation.end - 700] == citation.quote
    assert table.span_of(2, 6) == (700, 700 + len(rows))
    row = table.content.index("| Lyra")
    part = part_of(table, row, len(table.content))
    assert (part.content, part.start, part.end) == (rows[20:], 720, 700 + len(rows))


def test_odd_texts_are_cited_without_a_fault() -> None:
    chance = random.Random(3)
    letters = "owl lamp 42 [1] 【1†x】 。\n\t.![]()†：\ue200\ue201\u0301\U0001f989 42,000 (owls.pdf 1.2.3 ,,"
    odd = chunk("odd", "")
    blank = chunk("blank", "  \n ")
    long = chunk("long", "owl " * 5_000)
    for _ in range(200):
        answer = "".join(chance.choices(letters, k=chance.randint(1, 80)))
        filtered = MarkFilter()
        text = filtered.feed(answer) + filtered.finish()
        for one in cite(text, [numbered(OWLS, odd, blank, long), numbered(LAMP)], filtered.marks):
            assert 0 <= one.index <= len(text)
            assert one.start <= one.end


# --- parts ---------------------------------------------------------------------------------------------------------


def test_longest_run() -> None:
    assert longest_run(["a", "b", "c", "d"], ["x", "b", "c", "d", "b"]) == 3
    assert longest_run([], ["a"]) == 0
    assert longest_run(["a", "a", "a"], ["a", "a"]) == 2


def test_natural_marks_tell_numbers_names_and_pages() -> None:
    assert natural_marks("A [1, 3-5] b (see a.pdf, p. 12).", [("a.pdf", "file-1")]) == [
        Mark(2, 10, (1, 3, 4, 5)),
        Mark(13, 31, (), "file-1", 12),
    ]
    assert natural_marks("A [1-400].", []) == [Mark(2, 9, (1, 400))]


def test_passages_survive_the_way_through_a_tools_metadata() -> None:
    passages = passages_of([OWLS, LAMP])
    metadata = told_passages(passages, [OWLS, TAX, LAMP])
    assert [(one.number, one.chunk) for one in passages_told(metadata)] == [(1, OWLS), (2, LAMP)]
    assert [one["number"] for one in metadata["passages"]] == [1, None, 2]
    strange: list[Any] = [None, "x", [1, {}, {"number": 1}, {"number": 1, "chunk": {}}, {"number": "x", "chunk": 3}]]
    for one in strange:
        assert passages_told({"passages": one}) == []
