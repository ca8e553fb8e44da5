"""Keywords as whole words.

A keyword matches where no letter, digit or mark touches it: `kill` is not in `skill`. Scripts that put no spaces
between words, or hang endings on them (Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese), have no such edges:
there a keyword matches anywhere.
"""

import unicodedata
from collections.abc import Iterator

from llama_stack_providers.inline._rules.plain import PlainText, folded_text

_UNSPACED = (
    ("\u0e00", "\u0eff"),  # Thai, Lao
    ("\u1000", "\u109f"),  # Burmese
    ("\u1780", "\u17ff"),  # Khmer
    ("\u3040", "\u30ff"),  # Hiragana, Katakana
    ("\u3400", "\u9fff"),  # Chinese characters
    ("\uac00", "\ud7a3"),  # Hangul
    ("\uf900", "\ufaff"),
    ("\U00020000", "\U0003ffff"),
)


def keyword_key(keyword: str) -> str:
    """The keyword as it is looked for; empty when nothing of it can be seen."""
    return folded_text(keyword).text.strip()


def find_keyword(key: str, folded: PlainText) -> tuple[int, int] | None:
    """Where in the original the keyword stands first; `key` is a `keyword_key`."""
    for start in _finds(key, folded.text):
        end = start + len(key)
        if _edge(folded.text[start - 1 : start] if start else "", key[0]) and _edge(
            key[-1], folded.text[end : end + 1]
        ):
            return folded.span(start, end)
    return None


def _finds(key: str, text: str) -> Iterator[int]:
    start = text.find(key)
    while start >= 0:
        yield start
        start = text.find(key, start + 1)


def _edge(left: str, right: str) -> bool:
    """Whether a word may end between the two; either is empty at an end of the text."""
    return not left or not right or not _in_word(left) or not _in_word(right) or _unspaced(left) or _unspaced(right)


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")


def _unspaced(char: str) -> bool:
    return any(first <= char <= last for first, last in _UNSPACED)
