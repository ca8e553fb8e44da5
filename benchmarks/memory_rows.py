"""Rows for benchmarks of memory: texts, vectors and marks that are the same in every process and every run.

Vectors lie in clusters, as those of real texts do, so a graph of neighbours has something to hold on to. Texts are
sentences of a made-up vocabulary whose words are as unequally frequent as those of a language (Zipf's law), between
English function words, so that stemming, the detection of languages and BM25 have their usual work.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DIMENSIONS = 384
BLOCK_ROWS = 1_000
"""Rows are made by so many at once."""
DOCUMENT_CHUNKS = 20
SHARES = 100
"""A filter for one value of `share` selects one chunk of so many."""
_SEED = 20_261
_CLUSTERS = 2_000
_NOISE = 0.6
_WORDS = 30_000
_SENTENCES = 20_000
_SENTENCE_CHARACTERS = 100
_FUNCTION_WORDS = ("the", "of", "and", "to", "in", "is", "that", "for", "it", "with", "as", "was", "on", "by", "are")
_SYLLABLES = ("ba", "cor", "den", "fil", "gra", "hol", "ist", "jun", "kel", "lor", "mar", "nor", "pel", "rin", "sta")


@dataclass(frozen=True)
class Rows:
    """Consecutive rows. vectors: (n, DIMENSIONS), unit length."""

    first: int
    texts: list[str]
    vectors: "Floats"

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, start: int, count: int) -> "Rows":
        return Rows(self.first + start, self.texts[start : start + count], self.vectors[start : start + count])


def chunk_id(number: int) -> str:
    return f"chunk-{number:08}"


def share_of(number: int) -> int:
    return (number // DOCUMENT_CHUNKS) % SHARES


def chunks_of(rows: Rows) -> tuple[list[Chunk], Vectors]:
    """The rows as a chunk index takes them."""
    chunks = [
        Chunk(
            chunk_id=chunk_id(number),
            document_id=f"document-{number // DOCUMENT_CHUNKS:06}",
            document_name=f"document-{number // DOCUMENT_CHUNKS:06}.md",
            content=text,
            position=number % DOCUMENT_CHUNKS,
            start=(number % DOCUMENT_CHUNKS) * len(text),
            end=(number % DOCUMENT_CHUNKS + 1) * len(text),
            headings=["Part one", "What was measured"],
            token_count=len(text) // 4,
            metadata={"share": share_of(number), "kind": "report", "year": 2000 + number // DOCUMENT_CHUNKS % 20},
        )
        for number, text in enumerate(rows.texts, rows.first)
    ]
    return chunks, Vectors(rows.vectors.tobytes(), DIMENSIONS)


def block(number: int, characters: int) -> Rows:
    """Rows `number * BLOCK_ROWS` and on, with texts of about so many characters."""
    random = np.random.default_rng((_SEED, number))
    centres = _centres()[random.integers(0, _CLUSTERS, BLOCK_ROWS)]
    noise = random.standard_normal((BLOCK_ROWS, DIMENSIONS), dtype=np.float32)
    sentences = _sentences()
    count = max(1, characters // _SENTENCE_CHARACTERS)
    chosen = random.integers(0, _SENTENCES, (BLOCK_ROWS, count))
    texts = [" ".join([sentences[position] for position in row]) for row in chosen.tolist()]
    return Rows(number * BLOCK_ROWS, texts, _unit(centres + _NOISE * _unit(noise)))


def questions(count: int, among: int) -> tuple["Floats", list[str]]:
    """Vectors near those of some of the first `among` rows, and four words of one of the sentences for each."""
    random = np.random.default_rng((_SEED, among, count))
    numbers = random.integers(0, max(1, among // BLOCK_ROWS), count).tolist()
    places = random.integers(0, min(among, BLOCK_ROWS), count).tolist()
    near = np.stack([_block_vectors(number)[place] for number, place in zip(numbers, places, strict=True)])
    noise = random.standard_normal((count, DIMENSIONS), dtype=np.float32)
    sentences = [_sentences()[position].split() for position in random.integers(0, _SENTENCES, count).tolist()]
    words = [" ".join(word for word in sentence if word not in _FUNCTION_WORDS) for sentence in sentences]
    return _unit(near + 0.3 * _unit(noise)), [" ".join(some.split()[:4]) for some in words]


@lru_cache(maxsize=4)
def _block_vectors(number: int) -> "Floats":
    return block(number, 1).vectors


@lru_cache(maxsize=1)
def _centres() -> "Floats":
    random = np.random.default_rng((_SEED, _CLUSTERS))
    return _unit(random.standard_normal((_CLUSTERS, DIMENSIONS), dtype=np.float32))


@lru_cache(maxsize=1)
def _sentences() -> list[str]:
    random = np.random.default_rng((_SEED, _SENTENCES, _WORDS))
    syllables = random.integers(0, len(_SYLLABLES), (_WORDS, 4))
    lengths = random.integers(2, 5, _WORDS)
    words = np.array(
        ["".join(_SYLLABLES[one] for one in row[:length]) for row, length in zip(syllables, lengths, strict=True)]
    )
    frequency = 1 / np.arange(10, _WORDS + 10)
    frequency /= frequency.sum()
    content = words[random.choice(_WORDS, (_SENTENCES, 9), p=frequency)]
    function = np.array(_FUNCTION_WORDS)[random.integers(0, len(_FUNCTION_WORDS), (_SENTENCES, 7))]
    sentences = []
    for long, short in zip(content.tolist(), function.tolist(), strict=True):
        mixed = [word for pair in zip(long, [*short, "", ""], strict=True) for word in pair if word]
        sentences.append(f"{' '.join(mixed)[: _SENTENCE_CHARACTERS - 1]}.")
    return sentences


def _unit(rows: "Floats") -> "Floats":
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
