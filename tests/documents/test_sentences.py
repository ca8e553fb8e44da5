"""Where sentences end in the languages that Llama 3.1 was made for, and in those without blanks between words."""

import pytest

from llama_stack.documents.sentences import sentence_ends

SENTENCES = {
    "English": [
        "Dr. Smith paid $3.50 at 5 p.m. on Jan. 3.", "He left.", "See https://x.org/a.b?c=d, or v1.2!",
        '"Really?"', "She nodded (twice).", "J. R. R. Tolkien wrote it.", "The U.S. Army came…", "Why?!", "So.",
    ],
    "German": [
        "Am 3. Oktober 2020 kam Dr. Müller, z. B. mit dem Zug.", "Das kostet 3,50 €, d. h. viel.", "Nr. 5!", "Warum?",
        "„Darum.“", "Sie wohnt in der 2. Etage bzw. darüber.", "Ende 1999.", "Danach nichts.",
    ],
    "French": [
        "M. Dupont est parti.", "Voilà !", "Pourquoi ?", "« Oui. »", "Il dit p. ex. cela.", "Mme. Curie aussi.",
    ],
    "Italian": ["Il Sig. Rossi è qui.", "Perché?", "Costa 1.000,50 euro ecc. e basta.", "Fine."],
    "Portuguese": ["O Sr. Silva chegou.", "A Dra. Ana também!", "Veja a pág. 7.", "Até amanhã."],
    "Spanish": ["¿Dónde está el Sr. Núñez?", "¡Aquí!", "La pág. 5 dice eso.", "Fin."],
    "Hindi": ["यह पहला वाक्य है।", "यह 3.5 रुपये का है।", "क्या यह तीसरा है?", "हाँ॥"],
    "Thai": ["สวัสดีครับ", "วันนี้อากาศดี", "เราไปเดินเล่นกัน version 2"],
    "Korean": ["안녕하세요.", "오늘은 날씨가 좋습니다.", "3.5달러입니다!", "갈까요?"],
    "Arabic": ["هل هذا صحيح؟", "نعم، هذا صحيح.", "شكرا!"],
}  # fmt: skip
UNSPACED = {
    "Chinese": ["这是第一句。", "价格是3.5元！", "“真的吗？”", "他问。"],
    "Japanese": ["これは文です。", "「そうですか。」", "はい！", "バージョン2.0です。"],
}


def parted(text: str, *, lines: bool = False) -> list[str]:
    ends = sentence_ends(text, 0, len(text), lines=lines)
    assert ends[-1] == len(text)
    assert ends == sorted(set(ends))
    return [text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_of_languages_with_blanks(language: str) -> None:
    assert parted(" ".join(SENTENCES[language])) == SENTENCES[language]


@pytest.mark.parametrize("language", UNSPACED)
def test_sentences_of_languages_without_blanks(language: str) -> None:
    assert parted("".join(UNSPACED[language])) == UNSPACED[language]


def test_a_blank_line_ends_a_sentence_and_a_single_line_end_does_not() -> None:
    assert parted("a title\n \nand a\nsentence") == ["a title", "and a\nsentence"]


def test_each_line_of_a_list_stands_for_itself() -> None:
    assert parted("1. First\n2. Second. More\n- third", lines=True) == ["1. First", "2. Second.", "More", "- third"]


def test_only_the_given_part_of_a_text_is_looked_at() -> None:
    text = "One. Two. Three. Four."
    assert sentence_ends(text, 5, 16) == [9, 16]


@pytest.mark.parametrize("text", ["." * 200_000, "a. " * 60_000, "\n" * 200_000, "ก " * 100_000, "!" * 200_000 + " x"])
def test_odd_texts_take_time_in_proportion_to_their_length(text: str) -> None:
    # A search that goes back would take hours; the suite's own time limit would end it.
    assert sentence_ends(text, 0, len(text))[-1] == len(text)
