"""The words a text is found by, and how its language is told."""

import threading

import pytest

from llama_stack.testing.memory_contract_words import SENTENCES
from llama_stack.text import language_of, query_stems, stem_text, stems
from llama_stack.text.words import MAX_QUERY_STEMS, MAX_STEM_CHARACTERS

PARAGRAPHS = {
    "en": "The warranty covers the frame for ten years, but it does not cover wear of the chain or of the tyres.",
    "de": "Die Garantie gilt zehn Jahre für den Rahmen, aber nicht für den Verschleiß der Kette und der Reifen.",
    "fr": "La garantie couvre le cadre pendant dix ans, mais elle ne couvre pas l'usure de la chaîne ni des pneus.",
    "it": "La garanzia copre il telaio per dieci anni, ma non copre l'usura della catena e degli pneumatici.",
    "pt": "A garantia cobre o quadro por dez anos, mas não cobre o desgaste da corrente nem dos pneus.",
    "es": "La garantía cubre el cuadro durante diez años, pero no cubre el desgaste de la cadena ni de los neumáticos.",
    "nl": "De garantie op het frame geldt tien jaar, maar niet voor slijtage van de ketting en de banden.",
    "sv": "Garantin gäller för ramen i tio år, men den täcker inte slitage på kedjan eller däcken.",
    "pl": "Gwarancja na ramę jest ważna przez dziesięć lat, ale nie obejmuje zużycia łańcucha i opon.",
    "tr": "Garanti kadro için on yıl geçerlidir, ancak zincir ve lastik aşınması bu kapsamda değildir.",
    "hi": "फ्रेम की वारंटी दस साल के लिए है, लेकिन चेन और टायर की घिसाई इसमें शामिल नहीं है।",
    "th": "การรับประกันครอบคลุมเฟรมเป็นเวลาสิบปี แต่ไม่ครอบคลุมการสึกหรอของโซ่และยาง",
    "zh": "保修涵盖车架十年,但不包括链条和轮胎的磨损。",
    "ja": "保証はフレームを十年間対象としますが、チェーンとタイヤの摩耗は含みません。",
    "ko": "보증은 프레임에 십 년간 적용되지만 체인과 타이어의 마모는 포함하지 않습니다.",
    "ru": "Гарантия на раму действует десять лет, но не распространяется на износ цепи и шин.",
    "ar": "يغطي الضمان الإطار لمدة عشر سنوات، لكنه لا يغطي تآكل السلسلة والإطارات.",
    "fa": "گارانتی بدنه را به مدت ده سال پوشش می‌دهد، اما سایش زنجیر و چرخ را پوشش نمی‌دهد.",
    "el": "Η εγγύηση καλύπτει τον σκελετό για δέκα χρόνια, αλλά όχι τη φθορά της αλυσίδας.",
    "he": "האחריות מכסה את השלדה לעשר שנים, אך לא את הבלאי של השרשרת.",
}


@pytest.mark.parametrize(("language", "text"), PARAGRAPHS.items())
def test_the_language_of_a_paragraph_is_told(language: str, text: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "   ", "12345 67-89", "xqzt vrrp", "\U0001f999\U0001f999", "ERR-4417"])
def test_a_text_that_tells_nothing_is_of_no_language(text: str) -> None:
    assert language_of(text) == ""


def test_a_few_foreign_words_do_not_change_the_language() -> None:
    assert language_of("The word 向量 means vector, and the Japanese call it ベクトル in most of their books.") == "en"
    assert language_of("サーバーは HTTP と JSON で答えます。詳しくは README を見てください。") == "ja"


@pytest.mark.parametrize(("language", "text", "forms"), SENTENCES)
def test_other_forms_of_a_word_share_its_stem(language: str, text: str, forms: tuple[str, ...]) -> None:
    indexed = set(stems(text, language))
    for form in forms:
        assert indexed & set(query_stems(form, [language])), form
        # A bank holds several languages, and nobody says which one a query is in.
        assert indexed & set(query_stems(form, list(PARAGRAPHS))), form


def test_common_words_are_left_out_unless_they_are_names() -> None:
    assert stems("What is the state of the art?", "en") == ["state", "art"]
    assert stems("Das ist der Stand der Technik.", "de") == ["stand", "technik"]
    assert stems("She moved to IT from the WHO.", "en") == ["move", "it", "who"]
    assert query_stems("IT", ["en"]) == ["it"]


def test_a_word_common_in_one_language_counts_in_another() -> None:
    assert query_stems("die", ["de"]) == []
    assert query_stems("die", ["de", "en"]) == ["die"]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("ERR-4417", "err4417"),
        ("ERR-4417", "4417"),
        ("err4417", "ERR-4417"),
        ("max_infer_iters", "maxInferIters"),
        ("max_infer_iters", "infer"),
        ("HTTPServer", "server"),
        ("HTTPServer", "http_server"),
        ("llama3", "llama 3"),
        ("version 1.2.3", "1.2.3"),
        ("2024-05-17", "2024"),
        ("well-known", "known"),
        ("example.com", "example"),
        ("JavaScript", "javascript"),
        ("naïve café", "cafe"),
        ("cafe", "café"),
        ("Straße", "STRASSE"),
        ("\ufb01nal", "final"),
        ("\uff21\uff22\uff23", "abc"),
        ("co\u00adoperation", "cooperation"),
        ("e\u0301tude", "\u00e9tude"),
        ("向量db数据", "db"),
        ("猫が好き", "猫"),
        ("Ёлка", "елка"),
    ],
)
def test_what_is_written_is_found_by_what_is_asked(written: str, asked: str) -> None:
    assert set(stems(written, "")) & set(query_stems(asked, [""]))


def test_the_common_words_of_a_question_are_looked_for_in_no_language() -> None:
    assert query_stems("What does a tent cost?", ["en", ""]) == ["tent", "cost"]


def test_a_query_of_one_word_does_not_ask_for_every_character_of_it() -> None:
    assert query_stems("数据库", ["zh"]) == ["数据", "据库"]
    assert stems("数据库", "zh") == ["数据", "据库", "数", "据", "库"]


def test_stems_hold_nothing_that_an_index_would_split_at() -> None:
    texts = [*PARAGRAPHS.values(), "a-b_c.d 'x' \"y\" (z) {1} [2] <3> a&b|c!d:e*f^g~h`i@j#k$l%m;n,o?p/q\\r=s+t"]
    for text in texts:
        for stem in stems(text, language_of(text)):
            assert stem
            assert not any(letter.isspace() or (letter.isascii() and not letter.isalnum()) for letter in stem), stem


def test_long_words_and_long_queries_are_bounded() -> None:
    assert stems("r" * 10_000, "en") == ["r" * MAX_STEM_CHARACTERS]
    assert len(query_stems(" ".join(f"word{number}" for number in range(5_000)), ["en"])) == MAX_QUERY_STEMS
    assert len(query_stems("字典" * 5_000 + "数据库文档", ["zh"])) < MAX_QUERY_STEMS


def test_a_language_is_told_from_all_of_a_long_sample() -> None:
    text = f"{PARAGRAPHS['de']} " * 100
    assert language_of(text) == "de"
    assert language_of(PARAGRAPHS["de"].upper()) == "de"
    assert language_of(PARAGRAPHS["zh"] * 2 + PARAGRAPHS["ru"]) == "zh"
    assert language_of(f"{PARAGRAPHS['ru']}\ud800") == "ru"


def test_the_stems_of_repeated_words_are_repeated() -> None:
    assert stems("Runs, running, run.", "en") == ["run", "run", "run"]
    assert query_stems("Run run RUN", ["en"]) == ["run"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rivers; run,rivers.run", ["river", "run", "river", "run"]),
        ("\u201crunning\u201d\u2013\u00abrivers\u00bb (runs)\u2026", ["run", "river", "run"]),
        (
            "running\u00a0rivers\u3000runs\u2028running\x1frivers\x00runs",
            ["run", "river", "run", "run", "river", "run"],
        ),
        ("The river's run... Running-.", ["river", "s", "run", "run"]),
        ("..", []),
        ("ERR-4417. Rivers", ["err4417", "err", "4417", "river"]),
    ],
)
def test_words_end_at_every_sign_that_is_no_joint(text: str, expected: list[str]) -> None:
    # Twice, for the second time they are remembered.
    assert [stems(text, "en"), stems(text, "en")] == [expected, expected]


def test_stems_as_a_text_stand_after_a_space_each() -> None:
    assert stem_text("Running rivers, and 東京.", "en") == " run river 東京 東 京"
    assert stem_text("And the ...", "en") == ""


def test_more_words_than_are_remembered_keep_their_stems() -> None:
    expected = stems("Running rivers", "en")
    for number in range(60):
        stems(" ".join(f"w{number}x{other}" for other in range(1_000)), "en")
    assert stems("Running rivers", "en") == expected


def test_an_unknown_language_is_no_error() -> None:
    assert stems("The running rivers", "xx") == ["the", "run", "river"]
    assert query_stems("River runs", ["xx", "../../etc"]) == ["river", "run"]


def test_threads_do_not_disturb_each_other() -> None:
    expected = {language: stems(text, language) for language, text in PARAGRAPHS.items()}
    wrong: list[str] = []

    def work(language: str) -> None:
        for _ in range(200):
            if stems(PARAGRAPHS[language], language) != expected[language]:
                wrong.append(language)

    threads = [threading.Thread(target=work, args=(language,)) for language in ("en", "de", "fr", "en", "de", "hi")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
