"""A text as it is searched: written one way only, without what nobody sees, each character with its place.

Unicode can write a word in many ways (full-width letters, ligatures, accents apart) and hide characters inside it.
NFKC (Unicode Standard Annex 15) undoes the former; format characters (category Cf, such as zero-width spaces and
soft hyphens) and variation selectors are left out. Letters of another script that only look alike are left alone.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_LONG_SPACE = re.compile(r"\s\s|[^\S ]")


@dataclass(frozen=True)
class PlainText:
    """places: for each character of `text`, where in the original it came from; None where nothing moved."""

    text: str
    places: Sequence[int] | None
    original_length: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The part of the original from which a part of `text` came."""
        if self.places is None:
            return start, end
        last = self.places[end] if end < len(self.places) else self.original_length
        return self.places[start], max(last, self.places[start] + 1)


def plain_text(text: str) -> PlainText:
    """For expressions and secrets: normalised, but upper and lower case and white space as they were."""
    if text.isascii():
        return PlainText(text, None, len(text))
    return _written(text, [(place, unicodedata.normalize("NFKC", cluster)) for place, cluster in _clusters(text)])


def folded_text(text: str) -> PlainText:
    """For keywords: case is folded too, and white space of any length is one space."""
    if text.isascii() and _LONG_SPACE.search(text) is None:
        return PlainText(text.lower(), None, len(text))
    pieces: list[tuple[int, str]] = []
    after_space = False
    for place, cluster in _clusters(text):
        for char in _folded(cluster):
            if char.isspace():
                if not after_space:
                    pieces.append((place, " "))
            else:
                pieces.append((place, char))
            after_space = char.isspace()
    return _written(text, pieces)


def _folded(cluster: str) -> str:
    if cluster.isascii():
        return cluster.lower()
    folded = unicodedata.normalize("NFKC", cluster).casefold()
    return unicodedata.normalize("NFKC", folded)


def _written(text: str, pieces: list[tuple[int, str]]) -> PlainText:
    places = [place for place, piece in pieces for _ in piece]
    return PlainText("".join(piece for _, piece in pieces), places, len(text))


def _clusters(text: str) -> list[tuple[int, str]]:
    """What must be normalised together, by where it begins: a character and the marks that join it."""
    clusters: list[tuple[int, str]] = []
    for place, char in enumerate(text):
        if char.isascii():
            clusters.append((place, char))
        elif _invisible(char):
            continue
        elif clusters and _joins(char):
            start, before = clusters[-1]
            clusters[-1] = (start, before + char)
        else:
            clusters.append((place, char))
    return clusters


def _invisible(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _joins(char: str) -> bool:
    """Combining marks, and the vowels and finals of Hangul, which have no combining class of their own."""
    return unicodedata.combining(char) != 0 or "\u1160" <= char <= "\u11ff"
