"""The words a text is found by: case, form, accents and the lack of spaces taken away.

`stems` is for indexing and `query_stems` for looking up; what one makes of a word, the other makes of it, too. Every
stem consists of letters, marks and digits alone, so a joined list of them can be given to any full-text index that
splits at spaces.

Words are stemmed by Snowball (Porter, https://snowballstem.org). Scripts that are written without spaces become
overlapping pairs of characters, as in Lucene's CJKBigramFilter. A name such as `ERR-4417`, `snake_case` or `CamelCase`
is kept whole, without its joints, beside its parts.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise

import Stemmer

from llama_stack.text.common_words import COMMON_WORDS

MAX_STEM_CHARACTERS = 64
"""Longer words are cut."""
MAX_QUERY_STEMS = 256
"""A query's first ones count; it may be a whole page of text."""
_MAX_REMEMBERED = 50_000
"""Words of one language whose stems are kept in memory."""

_SNOWBALL = {
    "ar": "arabic",
    "ca": "catalan",
    "cs": "czech",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "ga": "irish",
    "hi": "hindi",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}

# Python's \w leaves out the vowel signs that words of Indic and South-East Asian scripts consist of.
_LETTERS = (
    "\\w\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u064b-\u065f\u0670\u0900-\u0963\u0971-\u0dff"
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3"
)
_WORD = re.compile(f"[{_LETTERS}]+(?:[-.][{_LETTERS}]+)*")
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_NO_SPACES = f"{_HAN}\u3040-\u30ff\u31f0-\u31ff\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_SPACELESS = f"{_NO_SPACES}\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3"
_HAN_CHARACTER = re.compile(f"[{_HAN}]")
_SPACELESS_CHARACTER = re.compile(f"[{_SPACELESS}]")
_RUNS = re.compile(f"(?P<spaceless>[{_SPACELESS}]+)|[^{_SPACELESS}]+")
_JOINTS = re.compile("[-._]+")
_PARTS = re.compile("[A-Z]+(?![a-z])|[A-Z]?[^\\W\\dA-Z_]+|\\d+|[^\\W_]+")
_CAMEL = re.compile("[a-z][A-Z]|[A-Z]{2}[a-z]")
_DIGIT = re.compile("\\d")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_INVISIBLE = dict.fromkeys((0x00AD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))


def stems(text: str, language: str) -> list[str]:
    """The stems of the text in its order, repeated as often as they stand there; common words are left out.

    language: ISO 639-1 code. Where it is unknown or has no stemmer, words lose English endings, none is left out: a
    heading is often too short to tell its language, and other languages are not hurt when both sides lose the same.
    """
    return list(chain.from_iterable(map(_analysis_of(language).remembered.__getitem__, _words(text))))


def query_stems(text: str, languages: Iterable[str]) -> list[str]:
    """What to look for in an index whose texts are in these languages: each stem once, at most MAX_QUERY_STEMS.

    A word that is common in one of the languages counts where it is none in another.
    """
    analyses = [_analysis_of(language) for language in sorted(set(languages)) or [""]]
    found: dict[str, None] = {}
    for word in dict.fromkeys(_words(text)):
        for analysis in analyses:
            found.update(dict.fromkeys(analysis.query_stems(word)))
        if len(found) >= MAX_QUERY_STEMS:
            break
    return list(found)[:MAX_QUERY_STEMS]


def _words(text: str) -> list[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_INVISIBLE)
    return _WORD.findall(text)


class _Remembered(dict[str, tuple[str, ...]]):
    """Stems by word; what is missing is made, which is where it is remembered or not."""

    def __init__(self, make: Callable[[str], tuple[str, ...]]) -> None:
        self._make = make

    def __missing__(self, word: str) -> tuple[str, ...]:
        return self._make(word)


class _Analysis:
    """What becomes of the words of one language. Belongs to one thread, because Snowball's stemmers do."""

    def __init__(self, language: str) -> None:
        name = _SNOWBALL.get(language, "english")
        self._stemmer = Stemmer.Stemmer(name if name in Stemmer.algorithms() else "english")
        # What it would remember is remembered below, with all that comes before and after.
        self._stemmer.maxCacheSize = 0
        self._common = COMMON_WORDS.get(language, frozenset())
        self.remembered = _Remembered(self.index_stems)

    def index_stems(self, word: str) -> tuple[str, ...]:
        """What a word, with any joints in it, is found by."""
        if _SPACELESS_CHARACTER.search(word):
            # Hardly any run of such characters comes again, so it is not worth a place in the memory.
            return tuple(self._of_runs(word, singles=True))
        found = tuple(self._of_word(word))
        if len(self.remembered) >= _MAX_REMEMBERED:
            self.remembered.clear()
        if len(word) <= MAX_STEM_CHARACTERS:
            self.remembered[word] = found
        return found

    def query_stems(self, word: str) -> tuple[str, ...]:
        if _SPACELESS_CHARACTER.search(word):
            return tuple(self._of_runs(word, singles=False))
        # Whoever leaves the accents out may hide the ending that the stemmer looks for, or not: both are tried.
        plain = _without_accents(word)
        return (*self._of_word(word), *(self._of_word(plain) if plain != word else ()))

    def _of_runs(self, word: str, *, singles: bool) -> Iterator[str]:
        for run in _RUNS.finditer(word):
            if run["spaceless"]:
                yield from _pairs(run[0].casefold(), singles=singles)
            else:
                yield from self._of_word(run[0])

    def _of_word(self, word: str) -> Iterator[str]:
        pieces = [piece for piece in _JOINTS.split(word[: 4 * MAX_STEM_CHARACTERS]) if piece]
        digits = _DIGIT.search(word) is not None
        if len(pieces) > 1 and (digits or "_" in word):
            yield from self._of_piece("".join(pieces))
        for piece in pieces:
            yield from self._of_piece(piece)
            if _CAMEL.search(piece) or (digits and not piece.isdecimal()):
                parts = [part for part in _PARTS.findall(piece) if len(part) > 1 or part.isdecimal()]
                if parts != [piece]:
                    for part in parts:
                        yield from self._of_piece(part)

    def _of_piece(self, piece: str) -> Iterator[str]:
        lowered = piece.casefold()
        # In capitals it is rather a name: the WHO, an IT department.
        if lowered in self._common and not (len(piece) > 1 and piece.isupper()):
            return
        yield _without_accents(self._stemmer.stemWord(lowered))[:MAX_STEM_CHARACTERS]


def _pairs(run: str, *, singles: bool) -> Iterator[str]:
    """Overlapping pairs. singles: every Han character alone, too, for it often is a word."""
    if len(run) == 1:
        yield run
        return
    for left, right in pairwise(run):
        yield left + right
    if singles:
        yield from _HAN_CHARACTER.findall(run)


def _without_accents(word: str) -> str:
    """Latin, Greek and Cyrillic letters without their marks; the marks of other scripts are letters of theirs."""
    if word.isascii():
        return word
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare)


class _Analyses(threading.local):
    def __init__(self) -> None:
        self.by_language: dict[str, _Analysis] = {}


_ANALYSES = _Analyses()


def _analysis_of(language: str) -> _Analysis:
    # Codes that nothing is known of share one, or anybody could fill the memory with made-up languages.
    known = language if language in _SNOWBALL or language in COMMON_WORDS else ""
    analysis = _ANALYSES.by_language.get(known)
    if analysis is None:
        analysis = _ANALYSES.by_language[known] = _Analysis(known)
    return analysis
