"""The sentences of passages that fit a question best, for a model that cannot read whole passages.

Extractive and by words alone: the part of the question's words that a sentence has, each weighed by its rarity among
all the sentences (Jones, "A statistical interpretation of term specificity", 1972). It costs milliseconds and no model.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llama_stack.api.memory import Chunk
from llama_stack.api.token_estimate import estimated_text_tokens
from llama_stack.documents.sentences import sentence_ends
from llama_stack.memory.likeness import Said, Source
from llama_stack.text.languages import language_of
from llama_stack.text.words import stems

HEADING_WEIGHT = 0.8
"""Of a word that only the headings above a sentence have."""
EARLIER_WEIGHT = 0.5
"""Of a word that only sentences before it have: `it` and `this` go back to those."""
RANK_COST = 0.1
"""Off a sentence for every passage that the search put before its own."""
EASY_WORDS = 12
COST_A_WORD = 0.02
"""A long sentence has words of every question: it pays for those beyond `EASY_WORDS`."""
FEW_WORDS, FEW_WORDS_COST = 3, 0.1
WRITTEN_SHARE, CODE_COST = 0.8, 0.15
"""A line with fewer letters, digits and blanks is code, which answers less often than a sentence does."""
MAX_SENTENCES = 400
"""Looked at in one passage."""

WRAPPED_CHARACTERS = 60
"""A line that is longer and ends no sentence goes on in the next one."""

_STRUCTURE = re.compile(r"\s*(?:[-*+•–]\s|\d{1,3}[.)]\s|[|>]|#{1,6}\s|```|~~~)")
_HEADING = re.compile(r"#{1,6}\s|```|~~~")
_RULE = re.compile(r"[\s|:+=-]*[-=]{2,}[\s|:+=-]*")
_LIST_MARK = re.compile(r"^(?:[-*+•–]|\d{1,3}[.)])\s+")
_EMPHASIS = re.compile(r"\*\*|__|`|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)")


@dataclass(frozen=True)
class _Candidate:
    rank: int
    start: int
    end: int
    words: frozenset[str]
    headings: frozenset[str]
    earlier: frozenset[str]


@dataclass(frozen=True)
class Extract:
    """A sentence of a chunk: from which character of its content to which."""

    chunk: Chunk
    start: int
    end: int


def extracts(question: str, chunks: Sequence[Chunk], max_tokens: int, limit: int) -> list[Extract]:
    """The best sentence of each of the `limit` chunks that have the best ones, best first.

    chunks: best first, which counts, too. max_tokens: of one sentence; a longer one is cut at a word.
    """
    language = language_of(question)
    said = Said(question, language)
    sources = [Source(chunk, language) for chunk in chunks]
    candidates = [one for rank, source in enumerate(sources) for one in _candidates(source, rank)]
    frequency = Counter(word for one in candidates for word in one.words | one.headings)
    weights = {word: math.log(1 + (len(candidates) + 0.5) / (times + 0.5)) for word, times in frequency.items()}
    unseen = math.log(1 + (len(candidates) + 0.5) / 0.5)

    def fitness(one: _Candidate) -> float:
        words = said.words(sources[one.rank].language)
        total = sum(weights.get(word, unseen) for word in words)
        own = sum(weights[word] for word in words & one.words)
        above = sum(weights[word] for word in (words & one.headings) - one.words)
        before = sum(weights[word] for word in (words & one.earlier) - one.words - one.headings)
        fit = (own + HEADING_WEIGHT * above + EARLIER_WEIGHT * before) / total if total else 0.0
        fit /= 1 + COST_A_WORD * max(0, len(one.words) - EASY_WORDS)
        cost = RANK_COST * one.rank + (FEW_WORDS_COST if len(one.words) < FEW_WORDS else 0.0)
        return fit - cost - (CODE_COST if _is_code(chunks[one.rank].content[one.start : one.end]) else 0.0)

    best: dict[int, _Candidate] = {}
    for one in sorted(candidates, key=lambda one: (-fitness(one), one.rank, one.start)):
        best.setdefault(one.rank, one)
    return [
        Extract(chunks[one.rank], one.start, _end_within(chunks[one.rank].content, one.start, one.end, max_tokens))
        for one in list(best.values())[:limit]
    ]


def as_prose(text: str) -> str:
    """A sentence without the marks of Markdown, a table's row as its cells: small models have seen little markup."""
    line = " ".join(text.split())
    if line.startswith("|") or " | " in line:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        line = "; ".join(cell for cell in cells if cell)
        line += "." if line and line[-1].isalnum() else ""
    line = _EMPHASIS.sub("", _LIST_MARK.sub("", line))
    return line[:1].upper() + line[1:] or text


def _candidates(source: Source, rank: int) -> list[_Candidate]:
    """The sentences of a passage, without its headings and the frames of its tables where it has anything else."""
    content, above = source.chunk.content, set(stems(" ".join(source.chunk.headings), source.language))
    spans = _sentences(content)[:MAX_SENTENCES]
    lines = [content[start:end] for start, end in spans]
    told: list[_Candidate] = []
    earlier: frozenset[str] = frozenset()
    for number, (start, end) in enumerate(spans):
        words = frozenset(stems(lines[number], source.language))
        is_table_head = number + 1 < len(lines) and "|" in lines[number] and _RULE.fullmatch(lines[number + 1])
        if _HEADING.match(lines[number]) or is_table_head:
            above |= words
        elif not _RULE.fullmatch(lines[number]):
            told.append(_Candidate(rank, start, end, words, frozenset(above), earlier))
            earlier |= words
    if not told and spans:
        told = [_Candidate(rank, *spans[0], frozenset(), frozenset(above), earlier)]
    return told


def _is_code(line: str) -> bool:
    written = sum(character.isalnum() or character.isspace() for character in line)
    return "|" not in line and written < WRITTEN_SHARE * len(line)


def _sentences(text: str) -> list[tuple[int, int]]:
    """Sentences without the white space around them; items, rows and short lines are some, wrapped lines are none."""
    ends = sorted({*sentence_ends(text, 0, len(text)), *_ends_of_lines(text)})
    spans = []
    for start, end in zip([0, *ends], ends, strict=False):
        sentence = text[start:end]
        if inner := sentence.strip():
            begin = start + sentence.index(inner)
            spans.append((begin, begin + len(inner)))
    return spans


def _ends_of_lines(text: str) -> list[int]:
    """Where a line's end is a sentence's."""
    ends: list[int] = []
    begin = 0
    while (end := text.find("\n", begin)) >= 0:
        line, following = text[begin:end], text[end + 1 : end + 40]
        is_wrapped = len(line) > WRAPPED_CHARACTERS and not line.lstrip().startswith(("|", "#"))
        if not is_wrapped or _STRUCTURE.match(following):
            ends.append(end)
        begin = end + 1
    return ends


def _end_within(content: str, start: int, end: int, max_tokens: int) -> int:
    if estimated_text_tokens(content[start:end]) <= max_tokens:
        return end
    few, many = 1, end - start
    while few < many:
        middle = (few + many + 1) // 2
        if estimated_text_tokens(content[start : start + middle]) <= max_tokens:
            few = middle
        else:
            many = middle - 1
    blank = content.rfind(" ", start, start + few + 1)
    return blank if blank > start else start + few
