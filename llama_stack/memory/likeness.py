"""How much a sentence of an answer has in common with the passages it may rest on, by words and numbers."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set
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
PAIR_WORDS = 2
"""Two sentences are quoted where they have so much more of the words than one, and so many words more."""
MAX_WORDS = 400
"""Of a sentence; text without full stops has no end."""

_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:([.,'’\u00a0\u202f ])\d{3})(?:\1\d{3})*(?![\d])")
_LETTERS = re.compile(r"[^\W\d_]+")
_ASCII_DIGIT = re.compile("[0-9]")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")


def _plain_numbers(text: str) -> str:
    """Numbers written one way: without marks between thousands, with a decimal point."""
    if _ASCII_DIGIT.search(text) is None and (text.isascii() or not any(map(str.isdigit, text))):
        return text
    text = unicodedata.normalize("NFKC", text)
    text = _GROUPED.sub(lambda found: re.sub(r"\D", "", found[0]), text)
    return _DECIMAL_COMMA.sub(".", text)


@dataclass(frozen=True)
class _Match:
    """The words of a passage that are closest to something said. score: compares passages, higher is closer."""

    start: int
    end: int
    score: float
    share: float
    run: int


class Said:
    """Words of an answer, without the common ones of its language. They are stemmed in the language of what they are
    compared with.
    """

    def __init__(self, text: str, language: str) -> None:
        """language: of the whole answer, which a few words do not tell."""
        common = COMMON_WORDS.get(language, frozenset())
        said = _LETTERS.sub(lambda word: "" if word[0].casefold() in common else word[0], text)
        # An answer may consist of nothing else.
        self._text = _plain_numbers(said if re.search(r"\w", said) else text)
        self._stems: dict[str, list[str]] = {}
        self._words: dict[str, frozenset[str]] = {}
        self.matches: dict[str, _Match] = {}

    def words(self, language: str) -> frozenset[str]:
        if language not in self._words:
            self._words[language] = frozenset(self.stems(language))
        return self._words[language]

    def stems(self, language: str) -> list[str]:
        if language not in self._stems:
            self._stems[language] = [word for word in stems(self._text, language) if word][:MAX_WORDS]
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

    def __init__(self, chunk: Chunk, default_language: str = "") -> None:
        """default_language: where the passage's own cannot be told."""
        self.chunk = chunk
        self.language = chunk.language or language_of(chunk.content) or default_language
        self.words = set(stems(_plain_numbers(chunk.content), self.language))

    @cached_property
    def sentences(self) -> list[_Sentence]:
        content = self.chunk.content
        spans = sentence_spans(content)
        return [
            _Sentence(start, end, stems(_plain_numbers(content[start:end]), self.language)[:MAX_WORDS])
            for start, end in spans
        ]


class Likeness:
    """Compares what an answer says with passages, given best first."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = {source.chunk.chunk_id: source for source in sources}
        self._frequency = Counter(word for source in sources for word in source.words)
        count = len(sources)
        self._weights = [math.log(1.0 + (count + 0.5) / (times + 0.5)) for times in range(count + 1)]
        self._totals: dict[frozenset[str], float] = {}

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
        words = said.words(source.language)
        numbers = {word for word in words if word[0].isdigit()}
        if numbers and not numbers & source.words:
            return False
        if len(words) <= SHORT_WORDS:
            return match.share >= SHARE_OF_SHORT
        return match.share >= LEAST_SHARE or (match.run >= LEAST_RUN and match.share >= LEAST_SHARE_WITH_RUN)

    def _match(self, said: Said, source: Source) -> _Match:
        chunk_id = source.chunk.chunk_id
        if chunk_id not in said.matches:
            said.matches[chunk_id] = self._matched(said, source)
        return said.matches[chunk_id]

    def _matched(self, said: Said, source: Source) -> _Match:
        ordered, words = said.stems(source.language), said.words(source.language)
        sentences = source.sentences
        if not words or not sentences:
            end = sentences[0].end if sentences else len(source.chunk.content)
            return _Match(sentences[0].start if sentences else 0, end, 0.0, 0.0, 0)
        shares = [self._share(words, sentence.words) for sentence in sentences]
        closest = max(range(len(sentences)), key=lambda number: (shares[number], -number))
        # Of sentences that share as many words, the one with more of them in the same order.
        rivals = [number for number, share in enumerate(shares) if share >= shares[closest] * 0.9]
        runs = {number: _run(ordered, words, sentences[number]) for number in rivals[:CLOSELY_COMPARED]}
        closest = max(runs, key=lambda number: (shares[number] + RUN_WEIGHT * min(runs[number], MAX_RUN), -number))
        first, last = self._with_neighbour(words, sentences, closest)
        joined = set().union(*(sentence.words for sentence in sentences[first : last + 1]))
        share = len(words & joined) / len(words)
        run = runs[closest]
        score = self._share(words, joined) + RUN_WEIGHT * min(run, MAX_RUN)
        score += PASSAGE_WEIGHT * self._share(words, source.words)
        return _Match(sentences[first].start, sentences[last].end, score, share, run)

    def _with_neighbour(self, words: frozenset[str], sentences: Sequence[_Sentence], closest: int) -> tuple[int, int]:
        """The first and the last sentence to be quoted: the closest, and one beside it where that adds enough."""
        alone = sentences[closest].words
        best, span = self._share(words, alone) + PAIR_GAIN, (closest, closest)
        for neighbour in (closest - 1, closest + 1):
            if 0 <= neighbour < len(sentences):
                both = alone | sentences[neighbour].words
                share = self._share(words, both)
                if share >= best and len(words & both) >= len(words & alone) + PAIR_WORDS:
                    best, span = share, (min(closest, neighbour), max(closest, neighbour))
        return span

    def _shared_weight(self, said: Said, source: Source) -> float:
        return self._share(said.words(source.language), source.words)

    def _share(self, words: frozenset[str], found: Set[str]) -> float:
        """Part of the words that is found, each with the weight of its rarity among the passages."""
        common = words & found
        if not common:
            return 0.0
        return sum(map(self._weight, common)) / self._total(words)

    def _total(self, words: frozenset[str]) -> float:
        if words not in self._totals:
            self._totals[words] = sum(map(self._weight, words))
        return self._totals[words]

    def _weight(self, word: str) -> float:
        return self._weights[self._frequency.get(word, 0)]


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


def _run(ordered: Sequence[str], words: frozenset[str], sentence: _Sentence) -> int:
    shared = len(words & sentence.words)
    return longest_run(ordered, sentence.stems) if shared > 1 else shared


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
