"""The labelled corpus is fit to measure with: every question can be answered from the documents it names.

Each half is a folder with `documents/` and `questions.jsonl`, one `Question` a line.
"""

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

HERE = Path(__file__).parent

# half -> the fewest documents and questions it may hold
MINIMA = {"english": (170, 130), "multilingual": (150, 110)}
HALVES = sorted(file.parent.name for file in HERE.glob("*/questions.jsonl"))


class Question(BaseModel):
    """One labelled question: the whole set of documents that answers it and the words that prove it."""

    model_config = ConfigDict(extra="forbid", str_min_length=1)

    id: str
    language: str
    question: str
    documents: list[str] = Field(min_length=1)
    answer: str
    evidence: str
    kind: Literal["paraphrase", "keyword", "identifier", "multi"]


def read_documents(half: str) -> dict[str, str]:
    """Name of each document -> its text."""
    return {file.name: file.read_text(encoding="utf-8") for file in sorted((HERE / half / "documents").iterdir())}


def read_questions(half: str) -> list[Question]:
    lines = (HERE / half / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [Question.model_validate_json(line) for line in lines]


def repeated(values: list[str]) -> list[str]:
    return [value for value, times in Counter(values).items() if times > 1]


def test_every_half_states_how_large_it_must_be() -> None:
    assert set(HALVES) <= set(MINIMA)
    assert "english" in HALVES


def test_ids_and_questions_are_unique_across_the_halves() -> None:
    questions = [question for half in HALVES for question in read_questions(half)]
    assert repeated([question.id for question in questions]) == []
    assert repeated([f"{question.language} {question.question}" for question in questions]) == []


def test_names_of_documents_are_unique_across_the_halves() -> None:
    assert repeated([name for half in HALVES for name in read_documents(half)]) == []


@pytest.mark.parametrize("half", HALVES)
def test_a_half_is_large_enough(half: str) -> None:
    documents, questions = MINIMA[half]
    assert len(read_documents(half)) >= documents
    assert len(read_questions(half)) >= questions


@pytest.mark.parametrize("half", HALVES)
def test_every_document_has_words_of_its_own(half: str) -> None:
    documents = read_documents(half)
    assert [name for name, text in documents.items() if not text.strip()] == []
    assert repeated([" ".join(text.split()) for text in documents.values()]) == []


@pytest.mark.parametrize("half", HALVES)
def test_a_markdown_document_begins_with_its_title(half: str) -> None:
    documents = read_documents(half)
    assert [name for name, text in documents.items() if name.endswith(".md") and not text.startswith("# ")] == []


@pytest.mark.parametrize("half", HALVES)
def test_text_is_composed_unicode(half: str) -> None:
    # Evidence is looked up literally: one letter in two spellings would make a right answer count as wrong.
    texts = {**read_documents(half), "questions.jsonl": (HERE / half / "questions.jsonl").read_text(encoding="utf-8")}
    assert [name for name, text in texts.items() if not unicodedata.is_normalized("NFC", text)] == []


@pytest.mark.parametrize("half", HALVES)
def test_every_named_document_exists_and_is_named_once(half: str) -> None:
    documents = read_documents(half)
    questions = read_questions(half)
    assert [(one.id, name) for one in questions for name in one.documents if name not in documents] == []
    assert [one.id for one in questions if repeated(one.documents)] == []


@pytest.mark.parametrize("half", HALVES)
def test_evidence_stands_literally_in_a_named_document(half: str) -> None:
    documents = read_documents(half)
    unproven = [
        question.id
        for question in read_questions(half)
        if not any(question.evidence in documents.get(name, "") for name in question.documents)
    ]
    assert unproven == []


@pytest.mark.parametrize("half", HALVES)
def test_just_the_questions_of_kind_multi_need_several_documents(half: str) -> None:
    assert [one.id for one in read_questions(half) if (one.kind == "multi") != (len(one.documents) > 1)] == []


@pytest.mark.parametrize("half", HALVES)
def test_every_kind_of_question_is_asked_often_enough_to_count(half: str) -> None:
    kinds = Counter(question.kind for question in read_questions(half))
    for kind in ("paraphrase", "keyword", "identifier", "multi"):
        assert kinds[kind] >= 10, kind
