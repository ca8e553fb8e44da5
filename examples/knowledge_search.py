"""A small knowledge source: the paragraphs of a folder of Markdown files, found by meaning.

The paragraphs are embedded once, when the source is opened; a question is embedded when it is asked, and the nearest
paragraphs are those whose unit vectors have the largest dot product with it.
"""

import math
import operator
from dataclasses import dataclass
from pathlib import Path

from llama_stack import SyncLlamaStack

FOLDER = Path(__file__).parent / "knowledge"


@dataclass(frozen=True)
class Passage:
    file: str
    text: str
    vector: list[float]


class Knowledge:
    """Searches the passages of a folder through the stack's embedding model."""

    def __init__(self, stack: SyncLlamaStack, folder: Path = FOLDER, count: int = 1) -> None:
        """Read and embed every paragraph; headings are embedded with what stands under them.

        count: passages a search gives. A larger model makes good use of several; the shipped one copies best from one.
        """
        self._stack = stack
        self._count = count
        found = _paragraphs(folder)
        vectors = stack.embed([embedded for _, _, embedded in found]).vectors
        self._passages = [
            Passage(name, text, _unit(vector)) for (name, text, _), vector in zip(found, vectors, strict=True)
        ]

    def nearest(self, question: str, count: int) -> list[Passage]:
        """The passages nearest to the question, best first."""
        (vector,) = map(_unit, self._stack.embed(question).vectors)

        def distance(passage: Passage) -> float:
            return -math.fsum(map(operator.mul, vector, passage.vector))

        return sorted(self._passages, key=distance)[:count]

    def knowledge_search(self, query: str) -> str:
        """Search the documents.

        Args:
            query: The query
        """
        passages = self.nearest(query, self._count)
        return "\n\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(passages, 1))


def _paragraphs(folder: Path) -> list[tuple[str, str, str]]:
    """(file name, paragraph, paragraph under its heading) of every Markdown file."""
    found: list[tuple[str, str, str]] = []
    for file in sorted(folder.glob("*.md")):
        heading, *paragraphs = file.read_text(encoding="utf-8").strip().split("\n\n")
        found += [(file.name, paragraph, f"{heading.lstrip('# ')}: {paragraph}") for paragraph in paragraphs]
    return found


def _unit(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [number / length for number in vector]
