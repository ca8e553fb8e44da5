"""How well questions find the documents that answer them: recall, reciprocal rank and discounted gain.

Judged are documents, not chunks: a document counts where its best chunk stands. nDCG is that of Jaervelin and
Kekaelaeinen (ACM TOIS 2002) with gain 1 for each document that is listed for the question.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CORPUS = Path(__file__).parent
HALVES = ("english", "multilingual")
DEPTH = 10


@dataclass(frozen=True)
class Question:
    id: str
    language: str
    question: str
    documents: tuple[str, ...]
    answer: str
    kind: str


@dataclass(frozen=True)
class Measures:
    """Means over questions."""

    questions: int
    recall_at_5: float
    mrr: float
    ndcg_at_10: float

    def shown(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in vars(self).items()}


def corpus_files() -> dict[str, Path]:
    """Every document of the corpus by its name."""
    return {file.name: file for half in HALVES for file in sorted((CORPUS / half / "documents").iterdir())}


def corpus_questions() -> list[Question]:
    lines = [line for half in HALVES for line in (CORPUS / half / "questions.jsonl").read_text("utf-8").splitlines()]
    read = [json.loads(line) for line in lines if line.strip()]
    return [
        Question(one["id"], one["language"], one["question"], tuple(one["documents"]), one["answer"], one["kind"])
        for one in read
    ]


def measured(rankings: Mapping[str, Sequence[str]], questions: Iterable[Question]) -> Measures:
    """rankings: for each question's id the documents that were found, best first, without repetition."""
    recall, reciprocal, gain, count = 0.0, 0.0, 0.0, 0
    for question in questions:
        found = list(rankings[question.id])[:DEPTH]
        relevant = set(question.documents)
        count += 1
        recall += len(relevant & set(found[:5])) / len(relevant)
        reciprocal += next((1 / rank for rank, name in enumerate(found, 1) if name in relevant), 0.0)
        ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), DEPTH) + 1))
        gain += sum(1 / math.log2(rank + 1) for rank, name in enumerate(found, 1) if name in relevant) / ideal
    if not count:
        raise ValueError("there are no questions to measure")
    return Measures(count, recall / count, reciprocal / count, gain / count)
