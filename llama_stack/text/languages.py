"""Which language a text is in: by its script, and by the common words of languages that share one.

Good enough to choose a stemmer for a paragraph; a wrong guess costs a little recall, never an error. A model for it
would weigh more than all the rest of the text area.
"""

import re
import unicodedata
from collections import Counter

from llama_stack.text.common_words import COMMON_WORDS

SAMPLE_CHARACTERS = 4_000
"""Read from the start of a text; more does not change the answer."""

_SCRIPTS = (
    ("th", re.compile("[\u0e01-\u0e5b]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("ko", re.compile("[\uac00-\ud7af\u1100-\u11ff\u3130-\u318f]")),
    ("ja", re.compile("[\u3041-\u30ff\u31f0-\u31ff]")),
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")),
    ("ar", re.compile("[\u0620-\u06ff\u0750-\u077f]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("el", re.compile("[\u0370-\u03ff\u1f00-\u1fff]")),
    ("he", re.compile("[\u05d0-\u05ea]")),
    ("hy", re.compile("[\u0531-\u0587]")),
    ("ta", re.compile("[\u0b80-\u0bff]")),
)
_LATIN = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_LATIN_WORD = re.compile("[a-z\u00df-\u024f\u1e00-\u1eff]+")
_PERSIAN = re.compile("[\u067e\u0686\u0698\u06af]")

# Letters that one language writes and its neighbours do not count as a common word.
_TELLING_LETTERS = {
    "ß": "de",
    "ñ": "es",
    "¿": "es",
    "¡": "es",
    "ã": "pt",
    "õ": "pt",
    "œ": "fr",
    "ł": "pl",
    "ż": "pl",
    "ř": "cs",
    "ě": "cs",
    "ů": "cs",
    "ț": "ro",
    "ș": "ro",
    "ğ": "tr",
    "ı": "tr",
    "ő": "hu",
    "ű": "hu",
}
_LATIN_LANGUAGES = [name for name in COMMON_WORDS if name not in ("ru", "hi")]


def _by_word() -> dict[str, list[str]]:
    languages: dict[str, list[str]] = {}
    for name in _LATIN_LANGUAGES:
        for word in COMMON_WORDS[name]:
            languages.setdefault(word, []).append(name)
    return languages


# This way round a text is gone through once, not once for each language.
_LANGUAGES_OF = _by_word()


def language_of(text: str) -> str:
    """The ISO 639-1 code of the language most of the text is in; "" where that cannot be told.

    Devanagari is taken for Hindi, Cyrillic for Russian, Han without kana for Chinese.
    """
    sample = unicodedata.normalize("NFC", text[:SAMPLE_CHARACTERS])
    if sample.isascii():
        return _by_common_words(sample)
    latin = len(_LATIN.findall(sample))
    if latin * 2 > len(sample):
        return _by_common_words(sample)
    counts = Counter({name: len(letters.findall(sample)) for name, letters in _SCRIPTS})
    # A Han character says about as much as a word of five letters.
    for dense in ("zh", "ja", "ko"):
        counts[dense] *= 3
    name, most = max(counts.items(), key=lambda entry: entry[1])
    if most <= latin:
        return _by_common_words(sample)
    if name == "zh" and counts["ja"] * 10 > most:
        return "ja"
    if name == "ar" and len(_PERSIAN.findall(sample)) * 50 > most:
        return "fa"
    return name


def _by_common_words(sample: str) -> str:
    lowered = sample.casefold() if sample.isascii() else sample.lower()
    votes = dict.fromkeys(_LATIN_LANGUAGES, 0)
    for word in _LATIN_WORD.findall(lowered):
        for name in _LANGUAGES_OF.get(word, ()):
            votes[name] += 1
    if not sample.isascii():
        for letter, name in _TELLING_LETTERS.items():
            votes[name] += min(lowered.count(letter), 3)
    first, second, *_ = sorted(votes, key=votes.__getitem__, reverse=True)
    return first if votes[first] > votes[second] else ""
