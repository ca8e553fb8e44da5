"""Search by words: Chroma finds the documents that hold a stem, and BM25 is worked out here.

Every chunk that shares a word with the query is read, some 50 microseconds each, so very common words of very large
banks take their time.
"""

import asyncio
import math
from array import array
from collections.abc import AsyncIterator
from typing import Any

from llama_stack_providers._chroma.records import stem_counts
from llama_stack_providers._vector_database.terms import rarity, saturated


class Candidates:
    """What is remembered of each chunk that shares a stem with the query: its id and a weight for each stem."""

    def __init__(self, stems: list[str]) -> None:
        self._stems = stems
        self._with_stem = [0] * len(stems)
        self._ids: list[str] = []
        self._weights: list[tuple[array[int], array[float]]] = []

    def add(self, ids: list[str], documents: list[str]) -> None:
        for record, document in zip(ids, documents, strict=True):
            length, shared = stem_counts(document, self._stems)
            for number in shared:
                self._with_stem[number] += 1
            self._ids.append(record)
            self._weights.append(
                (array("H", shared), array("d", (saturated(count, length) for count in shared.values())))
            )

    def ranked(self, chunks: int) -> list[tuple[str, float]]:
        """Ids with their scores, best first. chunks: of the whole bank."""
        rarities = [rarity(count, chunks) for count in self._with_stem]
        scores = [
            math.fsum(rarities[number] * weight for number, weight in zip(numbers, weights, strict=True))
            for numbers, weights in self._weights
        ]
        return sorted(zip(self._ids, scores, strict=True), key=lambda one: (-one[1], one[0]))


async def candidates_of(stems: list[str], pages: AsyncIterator[dict[str, Any]]) -> Candidates:
    candidates = Candidates(stems)
    async for page in pages:
        await asyncio.to_thread(candidates.add, page["ids"], page["documents"])
    return candidates
