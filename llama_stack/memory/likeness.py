"""How much a sentence of an answer has in common with the passages it may rest on, by words and numbers."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llama_stack.api.memory import Chunk
from llama_stack.documents.sentences import sentence_ends
from llama_stack.text.common_words import COMMON_WORDS
from llama_stack.text.languages import language_of
from llama_stack.text.words import stems

LEAST_SHARE = 0.4
"""Of a sentence's words that a passage must have so that the sentence rests on it."""
LEAST_RUN = 4
"""Words in the same order that are enough with a smaller share."""
LEAST_SHARE_WITH_RUN = 0.25
SHORT_WORDS = 3
"""A sentence of no more words must have nearly all of them in the passage."""
SHARE_OF_SHORT = 0.99
MAX_RUN = 8
"""Longer runs of the same words prove nothing more."""
RUN_WEIGHT = 0.15
PASSAGE_WEIGHT = 0.5
CLOSELY_COMPARED = 6
"""Passages whose sentences are looked at one by one, those that share most words."""
PAIR_GAIN = 0.12
"""Two sentences are quoted where they have so much more of the words than one."""
MAX_WORDS = 400
"""Of a sentence; text without full stops has no end."""

_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:([.,'’\u00a0\u202f ])\d{3})(?:\1\d{3})*(?![\d])")
_LETTERS = re.compile(r"[^\W\d_]+")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")


def _plain_numbers(text: str) -> str:
    """Numbers written one way: without marks between thousands, with a decimal point."""
    if not any(character.isdigit() for character in text):
        return text
    text = unicodedata.normalize("NFKC", text)
    text = _GROUPED.sub(lambda found: re.sub(r"\D", "", found[0]), text)
    return _DECIMAL_COMMA.sub(".", text)


class Said:
    """Words of an answer, without the common ones of its language. They are stemmed in the language of what they are
    compared with.
    """

    def __init__(self, text: str) -> None:
        common = COMMON_WORDS.get(language_of(text), frozenset())
        said = _LETTERS.sub(lambda word: "" if word[0].casefold() in common else word[0], text)
        # An answer may consist of nothing else.
        self._text = _plain_numbers(said if re.search(r"\w", said) else text)
        self._stems: dict[str, list[str]] = {}

    def stems(self, language: str) -> list[str]:
        if language not in self._stems:
            self._stems[language] = stems(self._text, language)[:MAX_WORDS]
        return self._stems[language]


@dataclass
class _Sentence:
    start: int
    end: int
    stems: list[str]
    words: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.words = set(self.stems)


class Source:
    """A passage, its words and its sentences."""

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.language = chunk.language or language_of(chunk.content)
        self.words = set(stems(_plain_numbers(chunk.content), self.language))

    @cached_property
    def sentences(self) -> list[_Sentence]:
        content = self.chunk.content
        spans = sentence_spans(content)
        return [
            _Sentence(start, end, stems(_plain_numbers(content[start:end]), self.language)[:MAX_WORDS])
            for start, end in spans
        ]


@dataclass(frozen=True)
class _Match:
    """The words of a passage that are closest to something said. score: compares passages, higher is closer."""

    start: int
    end: int
    score: float
    share: float
    run: int


class Likeness:
    """Compares what an answer says with passages, given best first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = {source.chunk.chunk_id: source for source in sources}
        self._frequency = Counter(word for source in sources for word in source.words)
        self._count = len(sources)

    def best(self, said: Said, chunks: Sequence[Chunk]) -> Chunk:
        """The chunk that has most in common with what is said; the first of equals."""
        if len(chunks) == 1:
            return chunks[0]
        scores = [self._match(said, self._sources[chunk.chunk_id]).score for chunk in chunks]
        return chunks[scores.index(max(scores))]

    def rests_on(self, said: Said) -> Chunk | None:
        """The chunk that what is said can be believed to come from."""
        ranked = sorted(self._sources.values(), key=lambda source: -self._shared_weight(said, source))
        best: tuple[float, Chunk] | None = None
        for source in ranked[:CLOSELY_COMPARED]:
            match = self._match(said, source)
            if self._is_enough(said, source, match) and (best is None or match.score > best[0]):
                best = match.score, source.chunk
        return None if best is None else best[1]

    def closest_words(self, said: Said, chunk: Chunk) -> tuple[int, int]:
        """The span of the chunk's content that what is said is closest to: a sentence or two."""
        match = self._match(said, self._sources[chunk.chunk_id])
        return match.start, match.end

    # --- comparing -------------------------------------------------------------------------------------------------

    def _is_enough(self, said: Said, source: Source, match: _Match) -> bool:
        words = set(said.stems(source.language))
        numbers = {word for word in words if word[0].isdigit()}
        if numbers and not numbers & source.words:
            return False
        if len(words) <= SHORT_WORDS:
            return match.share >= SHARE_OF_SHORT
        return match.share >= LEAST_SHARE or (match.run >= LEAST_RUN and match.share >= LEAST_SHARE_WITH_RUN)

    def _match(self, said: Said, source: Source) -> _Match:
        ordered = said.stems(source.language)
        words = set(ordered)
        sentences = source.sentences
        if not words or not sentences:
            end = sentences[0].end if sentences else len(source.chunk.content)
            return _Match(sentences[0].start if sentences else 0, end, 0.0, 0.0, 0)
        shares = [self._share(words, sentence.words) for sentence in sentences]
        closest = max(range(len(sentences)), key=lambda number: (shares[number], -number))
        # Of sentences that share as many words, the one with more of them in the same order.
        rivals = [number for number, share in enumerate(shares) if share >= shares[closest] * 0.9]
        runs = {number: longest_run(ordered, sentences[number].stems) for number in rivals[:CLOSELY_COMPARED]}
        closest = max(runs, key=lambda number: (shares[number] + RUN_WEIGHT * min(runs[number], MAX_RUN), -number))
        first = last = closest
        for neighbour in (closest - 1, closest + 1):
            if 0 <= neighbour < len(sentences):
                joint = self._share(words, sentences[closest].words | sentences[neighbour].words)
                if joint >= self._joint(words, sentences[first : last + 1]) + PAIR_GAIN:
                    first, last = min(closest, neighbour), max(closest, neighbour)
        joined = set().union(*(sentence.words for sentence in sentences[first : last + 1]))
        share = len(words & joined) / len(words)
        run = runs[closest]
        score = self._share(words, joined) + RUN_WEIGHT * min(run, MAX_RUN)
        score += PASSAGE_WEIGHT * self._share(words, source.words)
        return _Match(sentences[first].start, sentences[last].end, score, share, run)

    def _joint(self, words: set[str], sentences: Sequence[_Sentence]) -> float:
        return self._share(words, set().union(*(sentence.words for sentence in sentences)))

    def _shared_weight(self, said: Said, source: Source) -> float:
        return self._share(set(said.stems(source.language)), source.words)

    def _share(self, words: set[str], found: set[str]) -> float:
        """Part of the words that is found, each with the weight of its rarity among the passages."""
        total = sum(map(self._weight, words))
        return sum(self._weight(word) for word in words & found) / total if total else 0.0

    def _weight(self, word: str) -> float:
        return math.log(1.0 + (self._count + 0.5) / (self._frequency[word] + 0.5))


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Sentences without the white space around them; a line's end is a sentence's, as in lists and tables."""
    spans: list[tuple[int, int]] = []
    start = 0
    for end in sentence_ends(text, 0, len(text), lines=True):
        sentence = text[start:end]
        inner = sentence.strip()
        if inner:
            begin = start + len(sentence) - len(sentence.lstrip())
            spans.append((begin, begin + len(inner)))
        start = end
    return spans


def longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    """How many words follow each other in both."""
    longest = 0
    before: dict[int, int] = {}
    places: dict[str, list[int]] = {}
    for place, word in enumerate(other):
        places.setdefault(word, []).append(place)
    for word in one:
        now = {place: before.get(place - 1, 0) + 1 for place in places.get(word, ())}
        longest = max(longest, max(now.values(), default=0))
        before = now
    return longest
