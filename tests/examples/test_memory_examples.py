"""The samples of memory, on the shipped models: what they find, what they answer, and what they cite."""

import json
import shutil
from pathlib import Path

import pypdfium2
import pytest

from llama_stack import Chunk
from tests.examples.test_examples import EXAMPLES, output_of
from tools.make_example_pdfs import DOCUMENTS, write_pdf

CHAT = "chat_with_documents/chat.py"
DESK = "support_desk/desk.py"


def pages_of(file: Path) -> list[str]:
    with pypdfium2.PdfDocument(file) as pdf:
        return [page.get_textpage().get_text_bounded() for page in pdf]


def test_the_shipped_pdfs_say_what_their_script_writes(tmp_path: Path) -> None:
    shipped = {file.name: file for file in (EXAMPLES / "chat_with_documents").glob("*.pdf")}
    assert shipped.keys() == DOCUMENTS.keys()
    for name, (title, pages) in DOCUMENTS.items():
        write_pdf(tmp_path / name, title, pages)
        assert pages_of(shipped[name]) == pages_of(tmp_path / name), "run python -m tools.make_example_pdfs"


@pytest.mark.engine
def test_answers_from_pdfs_name_file_and_page() -> None:
    first = output_of(CHAT, "--ask", "How high is the deposit?", "--ask", "Who approves a flight?")
    added, _, talk = first.partition("you ")
    assert sorted(line.split(",")[0] for line in added.splitlines()) == [
        f"added   {name}" for name in sorted(DOCUMENTS)
    ]
    assert talk.splitlines() == [
        "    How high is the deposit?",
        "found   rental-contract.pdf, page 1",
        "        The deposit is 1880 euros.",
        "agent   The deposit is 1880 euros.",
        'source  rental-contract.pdf, page 1: "The deposit is 1880 euros."',
        "you     Who approves a flight?",
        "found   travel-rules.pdf, page 1, Travelling for work: the rules > Booking",
        "        A flight needs the approval of the head of department.",
        "agent   A flight needs the approval of the head of department.",
        'source  travel-rules.pdf, page 1: "A flight needs the approval of the head of department."',
    ]
    again = output_of(CHAT, typed="How long does charging the battery take?\n\n")
    assert "added" not in again
    assert "agent   Charging the battery takes 4 hours.\nsource  bicycle-manual.pdf, page 2: " in again


@pytest.mark.engine
def test_a_file_that_cannot_be_read_ends_no_chat(tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7")
    shutil.copy(EXAMPLES / "chat_with_documents" / "rental-contract.pdf", tmp_path)
    output = output_of(CHAT, str(tmp_path), "--bank", "mine", "--ask", "How high is the deposit?")
    assert "error   broken.pdf: it is not a whole PDF file" in output
    assert "agent   The deposit is 1880 euros." in output


@pytest.mark.engine
def test_the_desk_answers_for_the_product_in_question_and_hands_over_the_rest(tmp_path: Path) -> None:
    assert output_of(DESK, cwd=tmp_path) == (
        "kettle: How do I remove limescale?\n"
        "  Limescale is removed with vinegar and hot water.\n"
        "  [kettle/cleaning.md, Cleaning the kettle > Limescale]\n"
        "toaster: Until when may products be returned?\n"
        "  Products may be returned within 30 days.\n"
        "  [all/returns.md, Returns]\n"
        "toaster: May I connect it to the internet?\n"
        "  The handbook does not say; a colleague will answer.\n"
    )
    output = output_of(DESK, "--product", "toaster", "How do I remove limescale?", cwd=tmp_path)
    assert "a colleague will answer" in output
    tickets = [json.loads(line) for line in (tmp_path / "tickets.jsonl").read_text().splitlines()]
    assert tickets == [
        {"product": "toaster", "question": "May I connect it to the internet?"},
        {"product": "toaster", "question": "How do I remove limescale?"},
    ]


@pytest.mark.engine
def test_what_was_said_in_one_run_is_known_in_the_next() -> None:
    output_of("session_memory.py")
    colour = output_of("session_memory.py", "What is my favourite colour?").splitlines()
    assert colour[1] == "recalled my favourite colour is teal" and "teal" in colour[2]
    assert output_of("session_memory.py", "--forget") == "Everything is forgotten.\n"
    assert "recalled" not in output_of("session_memory.py", "What is my favourite colour?")


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        ("mein Hund heiENatet Bello", "mein Hund heißt Bello"),
        ("mein Hund heißt Bello", "mein Hund heißt Bello"),
        ("mein Hund heißt Belo", "mein Hund heißt Bello"),
        ("The user has a dog called Bello", "The user has a dog called Bello"),
        ("", ""),
    ],
)
def test_a_note_is_kept_in_the_users_own_words(note: str, kept: str) -> None:
    from examples.session_memory import in_own_words

    assert in_own_words(note, "Merke dir, mein Hund heißt Bello") == kept


@pytest.mark.engine
def test_code_is_cited_with_its_lines(tmp_path: Path) -> None:
    for name in ("handoff.py", "docstrings.py", "budget.py"):
        shutil.copy(EXAMPLES.parent / "llama_stack" / "agents" / name, tmp_path)
    output = output_of("code_questions.py", "How is a docstring read?", "--code", str(tmp_path))
    place = next(line for line in output.splitlines() if line.startswith("found"))
    file, _, lines = place.removeprefix("found  ").partition(":")
    first, last = map(int, lines.split("-"))
    shown = output.split(place)[1].split("found")[0].rstrip().splitlines()[1:]
    assert file == "docstrings.py"
    source = (tmp_path / file).read_text().splitlines()[first - 1 : last]
    assert [line.strip() for line in shown] == [line.strip() for line in source][: len(shown)]


def test_the_lines_of_a_passage_are_counted_from_one(tmp_path: Path) -> None:
    from examples.code_questions import lines_of

    file = tmp_path / "a.py"
    file.write_text("one\ntwo\nthree\nfour\n")
    passage = Chunk(chunk_id="c", document_id="d", content="two\nthree", start=4, end=13, metadata={"path": str(file)})
    assert lines_of(passage) == (2, 3)
