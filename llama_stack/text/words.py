"""The words a text is found by: case, form, accents and the lack of spaces taken away.

`stem_text` and `stems` are for indexing and `query_stems` for looking up; what those make of a word, this makes of it,
too. Every stem consists of letters, marks and digits alone, so a joined list of them can be given to any full-text
index that splits at spaces.

Words are stemmed by Snowball (Porter, https://snowballstem.org). Scripts that are written without spaces become
overlapping pairs of characters, as in Lucene's CJKBigramFilter. A name such as `ERR-4417`, `snake_case` or `CamelCase`
is kept whole, without its joints, beside its parts.
"""

import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import add

import Stemmer

from llama_stack.text.common_words import COMMON_WORDS
from llama_stack.text.languages import language_of

MAX_STEM_CHARACTERS = 64
"""Longer words are cut."""
MAX_QUERY_STEMS = 256
"""A query's first ones count; it may be a whole page of text."""
_MAX_REMEMBERED = 50_000
"""Pieces of text in one language whose stems are kept in memory."""

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
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_SEPARATORS = bytes(
    code if code > 127 or chr(code).isalnum() or chr(code) in "_-." else ord(" ") for code in range(256)
)
"""Makes ASCII characters that no word holds spaces; leaves what else there is in UTF-8."""


def stem_text(text: str, language: str) -> str:
    """The stems of the text in its order, repeated as often as they stand there, each after a space; common words are
    left out.

    language: ISO 639-1 code. Where it is unknown or has no stemmer, words lose English endings, none is left out: a
    heading is often too short to tell its language, and other languages are not hurt when both sides lose the same.
    """
    return "".join(map(_analysis_of(language).remembered.__getitem__, _pieces(text)))


def stems(text: str, language: str) -> list[str]:
    """`stem_text` as a list."""
    return stem_text(text, language).split()


def query_stems(text: str, languages: Iterable[str]) -> list[str]:
    """What to look for in an index whose texts are in these languages: each stem once, at most MAX_QUERY_STEMS.

    The common words of the question's own language are looked for in none of them. Any other word that is common in one
    of the languages counts where it is none in another.
    """
    analyses = [_analysis_of(language) for language in sorted(set(languages)) or [""]]
    found: dict[str, None] = {}
    for word in dict.fromkeys(_telling(_words(text), language_of(text))):
        for analysis in analyses:
            found.update(dict.fromkeys(analysis.query_stems(word)))
        if len(found) >= MAX_QUERY_STEMS:
            break
    return list(found)[:MAX_QUERY_STEMS]


def _telling(words: list[str], language: str) -> list[str]:
    """Those that are not common in the language; all of them where no other is left."""
    common = COMMON_WORDS.get(language, frozenset())
    # In capitals it is rather a name: the WHO, an IT department.
    telling = [word for word in words if word.casefold() not in common or (len(word) > 1 and word.isupper())]
    return telling or words


def _words(text: str) -> list[str]:
    return _WORD.findall(_normal(text))


def _pieces(text: str) -> list[str]:
    """The text in pieces, none of which ends within a word.

    Most are one word, and most of the others a word before a full stop; which of them it is need be found out once,
    while looking for words in a text costs as much as all the rest.
    """
    encoded = _normal(text).encode("utf-8", "surrogatepass")
    return encoded.translate(_SEPARATORS).decode("utf-8", "surrogatepass").split()


def _normal(text: str) -> str:
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text)
    for character in _INVISIBLE:
        # Hardly a text holds one, and looking for one is all but free.
        if character in text:
            text = text.replace(character, "")
    return text


class _Remembered(dict[str, str]):
    """Stems by piece of text; what is missing is made, which is where it is remembered or not."""

    def __init__(self, make: Callable[[str], str]) -> None:
        self._make = make

    def __missing__(self, piece: str) -> str:
        return self._make(piece)


class _Analysis:
    """What becomes of the words of one language. Belongs to one thread, because Snowball's stemmers do."""

    def __init__(self, language: str) -> None:
        name = _SNOWBALL.get(language, "english")
        self._stemmer = Stemmer.Stemmer(name if name in Stemmer.algorithms() else "english")
        # What it would remember is remembered below, with all that comes before and after.
        self._stemmer.maxCacheSize = 0
        self._common = COMMON_WORDS.get(language, frozenset())
        self.remembered = _Remembered(self._stem_text)

    def _stem_text(self, piece: str) -> str:
        """What the words of a piece, with any joints in them, are found by: each stem after a space."""
        if len(piece) > MAX_STEM_CHARACTERS or _SPACELESS_CHARACTER.search(piece):
            # Hardly any of these comes again, so they are not worth a place in the memory.
            return _spaced(self._of_runs(word, singles=True) for word in _WORD.findall(piece))
        if piece.isascii() and piece.isalpha() and (piece.islower() or piece.istitle()):
            found = _spaced([self._of_piece(piece)])
        else:
            found = _spaced(map(self._of_word, _WORD.findall(piece)))
        if len(self.remembered) >= _MAX_REMEMBERED:
            self.remembered.clear()
        self.remembered[piece] = found
        return found

    def query_stems(self, word: str) -> tuple[str, ...]:
        if _SPACELESS_CHARACTER.search(word):
            return tuple(self._of_runs(word, singles=False))
        # Whoever leaves the accents out may hide the ending that the stemmer looks for, or not: both are tried.
        plain = _without_accents(word)
        return (*self._of_word(word), *(self._of_word(plain) if plain != word else ()))

    def _of_runs(self, word: str, *, singles: bool) -> list[str]:
        found: list[str] = []
        for run in _RUNS.finditer(word):
            if run["spaceless"]:
                found += _pairs(run[0].casefold(), singles=singles)
            else:
                found += self._of_word(run[0])
        return found

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

    def _of_piece(self, piece: str) -> tuple[str, ...]:
        lowered = piece.casefold()
        # In capitals it is rather a name: the WHO, an IT department.
        if lowered in self._common and not (len(piece) > 1 and piece.isupper()):
            return ()
        return (_without_accents(self._stemmer.stemWord(lowered))[:MAX_STEM_CHARACTERS],)


def _spaced(found: Iterable[Iterable[str]]) -> str:
    together = " ".join(chain.from_iterable(found))
    return f" {together}" if together else ""


def _pairs(run: str, *, singles: bool) -> list[str]:
    """Overlapping pairs. singles: every Han character alone, too, for it often is a word."""
    if len(run) == 1:
        return [run]
    pairs = list(map(add, run, run[1:]))
    return pairs + _HAN_CHARACTER.findall(run) if singles else pairs


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
