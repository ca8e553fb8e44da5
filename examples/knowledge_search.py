"""A small knowledge source: the paragraphs of a folder of Markdown files, found by meaning.

The paragraphs are embedded once, when the source is opened; a question is embedded when it is asked, and the nearest
paragraphs are those whose unit vectors have the largest dot product with it.
"""

import asyncio
import math
import operator
from dataclasses import dataclass
from pathlib import Path

from llama_stack import LlamaStack

FOLDER = Path(__file__).parent / "knowledge"


@dataclass(frozen=True)
class Passage:
    file: str
    text: str
    vector: list[float]


class Knowledge:
    """Searches the passages of a folder through the stack's embedding model."""

    def __init__(self, stack: LlamaStack, passages: list[Passage]) -> None:
        self._stack = stack
        self._passages = passages

    @classmethod
    async def open(cls, stack: LlamaStack, folder: Path = FOLDER) -> "Knowledge":
        """Read and embed every paragraph; headings are embedded with what stands under them."""
        found = await asyncio.to_thread(_paragraphs, folder)
        answer = await stack.embed([embedded for _, _, embedded in found])
        vectors = map(_unit, answer.vectors)
        return cls(stack, [Passage(name, text, vector) for (name, text, _), vector in zip(found, vectors, strict=True)])

    async def nearest(self, question: str, count: int) -> list[Passage]:
        """The passages nearest to the question, best first."""
        (vector,) = map(_unit, (await self._stack.embed(question)).vectors)

        def distance(passage: Passage) -> float:
            return -math.fsum(map(operator.mul, vector, passage.vector))

        return sorted(self._passages, key=distance)[:count]

    async def knowledge_search(self, query: str) -> str:
        """Search the documents.

        Args:
            query: The query
        """
        passages = await self.nearest(query, count=2)
        return "\n\n".join(f"[{number}] {passage.file}\n{passage.text}" for number, passage in enumerate(passages, 1))


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
