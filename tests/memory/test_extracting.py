"""The sentence of the passages that fits a question, and how a small model reads it."""

import pytest

from llama_stack.api.memory import Chunk
from llama_stack.memory.context import (
    EXTRACT_TOKENS,
    Passage,
    around_question,
    as_context,
    as_message_part,
    part_of,
    passages_for,
    passages_told,
    told_passages,
    without_context,
)
from llama_stack.memory.extracting import as_prose, extracts

KETTLE = """# The Brook kettle

It holds 1.7 litres. The cord is 75 cm long.

| Light | Meaning |
|---|---|
| blue | the water is heating |
| red | it is empty |

## Care

Remove limescale once a month. Vinegar works, *citric acid* works better!"""
TOASTER = "The toaster has six levels. Its cord is 90 cm long and can be wound up below it."


def chunk(text: str, name: str = "kettle", offset: int = 0) -> Chunk:
    return Chunk(chunk_id=f"{name}-0", document_id=name, content=text, start=offset, end=offset + len(text))


def chosen(question: str, *texts: str, max_tokens: int = EXTRACT_TOKENS, limit: int = 1) -> list[str]:
    chunks = [chunk(text, name) for name, text in zip(("kettle", "toaster", "third"), texts, strict=False)]
    return [one.chunk.content[one.start : one.end] for one in extracts(question, chunks, max_tokens, limit)]


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ("How many litres does it hold?", "It holds 1.7 litres."),
        ("What does the red light mean?", "| red | it is empty |"),
        ("How often should limescale be removed?", "Remove limescale once a month."),
        ("Does vinegar or citric acid work better?", "Vinegar works, *citric acid* works better!"),
        ("How long is the cord of the Brook?", "The cord is 75 cm long."),
        ("How long is the cord of the toaster?", "Its cord is 90 cm long and can be wound up below it."),
    ],
)
def test_the_sentence_with_the_question_s_words_is_chosen(question: str, sentence: str) -> None:
    assert chosen(question, KETTLE, TOASTER) == [sentence]


def test_a_sentence_counts_the_words_that_it_goes_back_to() -> None:
    lamp = "The lamp shines for 1,200 hours. Its warranty lasts 42 months."
    assert chosen("How long is the warranty of the lamp?", lamp) == ["Its warranty lasts 42 months."]
    assert chosen("How long does the lamp shine?", lamp) == ["The lamp shines for 1,200 hours."]


def test_a_sentence_goes_over_wrapped_lines_but_not_over_items_and_short_lines() -> None:
    lasts = "The warranty of all our kettles and toasters, which you need not register,\nlasts three years."
    wrapped = f"{lasts}\n- It ends\n- at once."
    assert chosen("How long does the warranty last?", wrapped) == [lasts]
    assert as_prose(lasts) == lasts.replace("\n", " ")
    assert chosen("When does it end?", wrapped) == ["- It ends"]
    assert chosen("Which phone?", "Name: Ann Horn\nPhone: 555 17\nTown: Bern") == ["Phone: 555 17"]


def test_code_answers_only_where_no_sentence_does() -> None:
    told = "Documents are deleted by name:\n\n```\nmemory.delete(documents=['a'], by='name')\n```"
    assert chosen("How are documents deleted by name?", told) == ["Documents are deleted by name:"]
    assert chosen("What does memory do?", told) == ["memory.delete(documents=['a'], by='name')"]


def test_where_no_word_is_shared_the_best_passage_speaks() -> None:
    assert chosen("Quid novi?", TOASTER, KETTLE) == ["The toaster has six levels."]
    assert chosen("", TOASTER) == ["The toaster has six levels."]


def test_headings_and_frames_of_tables_are_no_sentences_unless_there_is_nothing_else() -> None:
    assert chosen("What is the meaning of the light?", KETTLE) == ["| blue | the water is heating |"]
    assert chosen("The Brook kettle", "# The Brook kettle") == ["# The Brook kettle"]
    assert extracts("x", [chunk(" \n ")], EXTRACT_TOKENS, 1) == []
    assert extracts("x", [], EXTRACT_TOKENS, 1) == []


def test_each_passage_gives_one_sentence_the_best_first() -> None:
    assert chosen("How long is the toaster's cord?", KETTLE, TOASTER, limit=3) == [
        "Its cord is 90 cm long and can be wound up below it.",
        "The cord is 75 cm long.",
    ]


def test_words_are_compared_by_their_stems_in_the_passage_s_language() -> None:
    german = "Der Kessel fasst zwei Liter. Die Garantien gelten drei Jahre. Man reinigt ihn mit Essig."
    assert chosen("Wie lange gilt die Garantie?", german) == ["Die Garantien gelten drei Jahre."]
    assert chosen("保修期多长？", "容量为两升。保修期为三年。") == ["保修期为三年。"]


def test_a_sentence_that_is_too_long_is_cut_at_a_word() -> None:
    [cut] = chosen("where are words", "words and " * 500, max_tokens=20)
    assert cut.startswith("words and") and len(cut) <= 60 and cut.endswith(("words", "and"))
    [cut] = chosen("x", "é" * 500, max_tokens=20)
    assert cut == "é" * 30


@pytest.mark.parametrize(
    ("text", "prose"),
    [
        ("| red | it is empty |", "Red; it is empty."),
        ("E24 | water does not drain |  | pump 40-2280", "E24; water does not drain; pump 40-2280."),
        ("- **Never** open `it`!", "Never open it!"),
        ("3. Use *citric acid* and snake_case, 2*3*4.", "Use citric acid and snake_case, 2*3*4."),
        ("12 litres fit.", "12 litres fit."),
        ("**", "**"),
    ],
)
def test_a_small_model_reads_no_markup(text: str, prose: str) -> None:
    assert as_prose(text) == prose


# --- in the prompt -------------------------------------------------------------------------------------------------


async def test_a_larger_budget_shows_whole_passages_as_ever() -> None:
    chunks = [chunk(KETTLE), chunk(TOASTER, "toaster")]
    shown = await passages_for("How long is the cord?", chunks, 2 * EXTRACT_TOKENS)
    assert [(one.number, one.chunk, one.is_extract) for one in shown] == [(1, chunks[0], False), (2, chunks[1], False)]
    assert around_question(as_message_part(shown)) == ("", f"\n\n{as_context(shown)}")


async def test_a_small_budget_shows_one_sentence_with_its_place_in_the_document() -> None:
    whole = chunk(KETTLE, offset=1_000)
    shown = await passages_for("What does the red light mean?", [chunk(TOASTER, "toaster"), whole], EXTRACT_TOKENS)
    row = "| red | it is empty |"
    begin = 1_000 + KETTLE.index(row)
    assert shown == [
        Passage(
            1,
            whole.model_copy(update={"content": row, "start": begin, "end": begin + len(row)}),
            "Red; it is empty.",
            True,
        )
    ]
    assert as_context(shown) == "Red; it is empty."
    before, behind = around_question(as_message_part(shown))
    assert (before, behind) == ("Context:\nRed; it is empty.\n\nQuestion: ", "")
    assert without_context(f"{before}And the blue one?{behind}") == "And the blue one?"
    assert as_message_part([]) == as_context([]) == ""


def test_a_part_that_is_shown_is_told_beside_the_whole_chunk() -> None:
    # Twice the same words: the place tells them apart.
    text = "It is empty. It blinks. It is empty."
    whole = chunk(text, offset=50)
    passage = Passage(1, part_of(whole, 24, 36), "It is empty.", True)
    metadata = told_passages([passage], [whole])
    assert metadata["passages"] == [{"number": 1, "chunk": whole.model_dump(mode="json"), "shown": [24, 36]}]
    [told] = passages_told(metadata)
    assert (told.chunk.content, told.chunk.start, told.chunk.end) == ("It is empty.", 74, 86)
    # A chunk whose content is not literally in its document keeps the place it has.
    loose = whole.model_copy(update={"end": 500})
    [told] = passages_told(told_passages([Passage(1, part_of(loose, 13, 23), "")], [loose]))
    assert (told.chunk.content, told.chunk.start, told.chunk.end) == ("It blinks.", 50, 500)
