"""Which language a text is in: by its script, and by the common words of languages that share one.

Good enough to choose a stemmer for a paragraph; a wrong guess costs a little recall, never an error. A model for it
would weigh more than all the rest of the text area.
"""

import re
import struct
import unicodedata

from llama_stack.text.common_words import COMMON_WORDS

SAMPLE_CHARACTERS = 4_000
"""Read from the start of a text; more does not change the answer."""

_DENSE = 3
"""A Han character, kana or a syllable of Hangul says about as much as a word of five letters."""
_SCRIPTS = (
    ("ja", re.compile("[\u3041-\u30ff\u31f0-\u31ff]+")),
    ("zh", re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")),
    ("ko", re.compile("[\uac00-\ud7af\u1100-\u11ff\u3130-\u318f]+")),
    ("th", re.compile("[\u0e01-\u0e5b]+")),
    ("hi", re.compile("[\u0900-\u097f]+")),
    ("ar", re.compile("[\u0620-\u06ff\u0750-\u077f]+")),
    ("ru", re.compile("[\u0400-\u04ff]+")),
    ("el", re.compile("[\u0370-\u03ff\u1f00-\u1fff]+")),
    ("he", re.compile("[\u05d0-\u05ea]+")),
    ("hy", re.compile("[\u0531-\u0587]+")),
    ("ta", re.compile("[\u0b80-\u0bff]+")),
)
_LATIN = re.compile("[\u00c0-\u024f\u1e00-\u1eff]+")
_NO_LATIN_WORD = re.compile("[^ a-z\u00df-\u024f\u1e00-\u1eff]+")
_PERSIAN = re.compile("[\u067e\u0686\u0698\u06af]+")

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
_VOTES = struct.Struct(f"<{len(_LATIN_LANGUAGES)}H")
"""The votes for each of them, of which a sample holds fewer than 16 bits count."""

_ASCII = bytes(range(128))
_ASCII_LETTERS = bytes(code for code in _ASCII if chr(code).isalpha())
_LOWER_WORDS = bytes(
    code if code > 127 else ord(chr(code).lower()) if chr(code).isalpha() else 32 for code in range(256)
)
"""Makes ASCII letters small and all other ASCII characters spaces; leaves what else there is in UTF-8."""


def _votes_by_word() -> dict[str, int]:
    """What each common word adds to the packed votes: this way round a text is gone through once, not once for each
    language, and all that is done for a word is one addition."""
    votes: dict[str, int] = {}
    for place, name in enumerate(_LATIN_LANGUAGES):
        for word in COMMON_WORDS[name]:
            votes[word] = votes.get(word, 0) + (1 << 16 * place)
    return votes


_VOTES_OF = _votes_by_word()


def language_of(text: str) -> str:
    """The ISO 639-1 code of the language most of the text is in; "" where that cannot be told.

    Devanagari is taken for Hindi, Cyrillic for Russian, Han without kana for Chinese.
    """
    sample = unicodedata.normalize("NFC", text[:SAMPLE_CHARACTERS])
    if sample.isascii():
        return _by_common_words(sample)
    encoded = _encoded(sample)
    others = _without_ascii(encoded)
    latin = len(encoded) - len(encoded.translate(None, _ASCII_LETTERS)) + _count(_LATIN, others)
    if latin * 2 > len(sample):
        return _by_common_words(sample)
    counts = _by_script(others)
    name, most = max(counts.items(), key=lambda entry: entry[1])
    if most <= latin:
        return _by_common_words(sample)
    if name == "zh" and counts["ja"] * 10 > most:
        return "ja"
    if name == "ar" and _count(_PERSIAN, others) * 50 > most:
        return "fa"
    return name


def _by_script(text: str) -> dict[str, int]:
    """How much of the text is in each script; those that cannot be the most any more are not counted."""
    counts: dict[str, int] = {}
    left = len(text)
    for name, letters in _SCRIPTS:
        count = _count(letters, text)
        left -= count
        counts[name] = count * _DENSE if name in ("ja", "zh", "ko") else count
        if counts[name] > left * _DENSE:
            break
    return counts


def _by_common_words(sample: str) -> str:
    # Case goes before all else, for what is small may be other letters than what was great.
    encoded = _encoded(sample if sample.isascii() else sample.lower())
    words = encoded.translate(_LOWER_WORDS).decode("utf-8", "surrogatepass")
    if not words.isascii():
        words = _NO_LATIN_WORD.sub(" ", words)
    # A generator would cost more than all the rest.
    counted = sum(filter(None, map(_VOTES_OF.get, words.split(" "))))
    votes = list(_VOTES.unpack(counted.to_bytes(_VOTES.size, "little")))
    if not sample.isascii():
        others = _without_ascii(encoded)
        for letter, name in _TELLING_LETTERS.items():
            if letter in others:
                votes[_LATIN_LANGUAGES.index(name)] += min(others.count(letter), 3)
    most = max(votes)
    return _LATIN_LANGUAGES[votes.index(most)] if votes.count(most) == 1 else ""


def _encoded(text: str) -> bytes:
    # Half a surrogate pair is refused where it would be written; it tells no language.
    return text.encode("utf-8", "surrogatepass")


def _without_ascii(encoded: bytes) -> str:
    return encoded.translate(None, _ASCII).decode("utf-8", "surrogatepass")


def _count(letters: re.Pattern[str], text: str) -> int:
    """letters: finds runs of them."""
    return len("".join(letters.findall(text)))
