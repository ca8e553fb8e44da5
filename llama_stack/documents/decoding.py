"""Bytes of a text file become characters: by its byte order mark, as UTF-8, or by what the bytes look like."""

import codecs
import re

from llama_stack.documents.failures import DocumentUnreadable

SAMPLE_BYTES = 64 * 1024
MAX_CONTROL_SHARE = 0.02
MIN_WIDE_BYTES = 16

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffe\uffff]")
_WESTERN = frozenset({"cp437", "cp850", "cp858", "cp775", "cp1252", "latin_1", "mac_roman", "ascii"})
_NOT_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"
MAX_HIGH_SHARE_OF_LATIN = 0.3
"""A text in Latin letters has at most so many others among its bytes; in Polish nearly so many, in Thai all."""
_NOT_THAI = re.compile(
    r"(?<![\u0e01-\u0e2e\u0e31-\u0e3a\u0e47-\u0e4e])[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]|[\u0e40-\u0e44](?![\u0e01-\u0e2e])"
)
"""A mark without a letter below it, or a vowel that stands before its letter with none behind."""
_THAI_LETTERS, _THAI_VOWELS = re.compile(r"[\u0e01-\u0e4e]"), re.compile(r"[\u0e30-\u0e3a\u0e40-\u0e4e]")
MIN_THAI_VOWEL_SHARE = 0.25
"""Vowels and marks are about two in five of Thai letters; in Korean and Chinese bytes, read as Thai, one in seven."""
MIN_KOREAN_SHARE = 0.9
_ODD_IN_WORDS = re.compile(r"[a-z][¹³¿¯£¥¼¾¶][a-z]")
"""Signs inside a word: letters of another code page, such as those of Central Europe."""


def decoded(content: bytes, declared: str = "") -> tuple[str, str]:
    """The text, its line ends as a line feed, and the encoding; lone NULs and other controls are left out.

    declared: an encoding that the file's surroundings name, tried where nothing in the bytes decides.
    Raises DocumentUnreadable (`unsupported_file`) when the bytes are no text in any encoding.
    """
    text, encoding = _characters(content, declared)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n").removeprefix("\ufeff")
    if _CONTROL.search(text):
        if len(_CONTROL.findall(text)) > max(1, len(text) * MAX_CONTROL_SHARE):
            raise _no_text()
        text = _CONTROL.sub("", text)
    return text, encoding


def is_text(head: bytes) -> bool:
    """Whether the first bytes of a file can be those of a text."""
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return True
    if _wide_without_mark(head) is not None:
        return True
    controls = sum(head.count(byte) for byte in (*range(8), *range(14, 27), *range(28, 32)))
    return controls <= max(1, len(head) * MAX_CONTROL_SHARE)


def _characters(content: bytes, declared: str) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace"), encoding.removesuffix("-sig")
    wide = _wide_without_mark(content[:SAMPLE_BYTES])
    if wide is not None:
        return content.decode(wide, "replace"), wide
    seven_bit = _seven_bit(content, declared)
    if seven_bit:
        return content.decode(seven_bit, "replace"), seven_bit
    try:
        return content.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        # A file that was cut within its last character, or that has one bad byte in a long text, is still UTF-8.
        good = content[: error.start]
        if not good.isascii() and (len(good) > 64 or error.end >= len(content) - 1):
            return content.decode("utf-8", "replace"), "utf-8"
    if declared:
        try:
            return content.decode(declared), declared.lower()
        except (LookupError, UnicodeDecodeError):
            pass
    encoding = _guess(content)
    return content.decode(encoding, "replace"), encoding


def _seven_bit(content: bytes, declared: str) -> str:
    """An encoding that writes all of its letters with the bytes of ASCII, which UTF-8 would take for its own."""
    if not content.isascii():
        return ""
    told = declared.lower()
    if told.startswith(("iso-2022-", "utf-7", "hz")):
        try:
            content.decode(told)
        except (LookupError, UnicodeDecodeError):
            return ""
        return told
    return "iso-2022-jp" if b"\x1b$B" in content and b"\x1b(" in content else ""


def _wide_without_mark(head: bytes) -> str | None:
    """UTF-16 of a Latin text shows as a NUL at every second place."""
    if len(head) < MIN_WIDE_BYTES or b"\0" not in head:
        return None
    even, odd = head[0::2], head[1::2]
    if odd.count(0) > len(odd) * 0.6 and even.count(0) < len(even) * 0.1:
        return "utf-16-le"
    if even.count(0) > len(even) * 0.6 and odd.count(0) < len(odd) * 0.1:
        return "utf-16-be"
    return None


def _guess(content: bytes) -> str:
    """The likeliest encoding of bytes that are not UTF-8."""
    sample = content[:SAMPLE_BYTES]
    high = sum(1 for byte in sample if byte >= 0x80)
    western = "latin-1" if any(byte in sample for byte in _NOT_IN_CP1252) else "cp1252"
    if high < len(sample) * MAX_HIGH_SHARE_OF_LATIN and not _ODD_IN_WORDS.search(sample.decode(western)):
        return western
    if sum(0xA1 <= byte <= 0xBF for byte in sample) > high * 0.3 and _is_thai(sample):
        return "cp874"
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    return western if best is None or best.encoding in _WESTERN else best.encoding


def _is_thai(sample: bytes) -> bool:
    """Whether the bytes, read as Thai, have its share of vowels and never break the order in which it is written."""
    text = sample.decode("cp874", "replace")
    if "\ufffd" in text or _NOT_THAI.search(text) is not None or _is_korean(sample):
        return False
    return len(_THAI_VOWELS.findall(text)) >= len(_THAI_LETTERS.findall(text)) * MIN_THAI_VOWEL_SHARE


def _is_korean(sample: bytes) -> bool:
    """Whether the bytes are Korean syllables; Thai, read as Korean, is full of Chinese characters and signs."""
    text = sample.decode("euc_kr", "replace")
    others = sum(not letter.isascii() for letter in text)
    return sum("\uac00" <= letter <= "\ud7a3" for letter in text) >= others * MIN_KOREAN_SHARE


def _no_text() -> DocumentUnreadable:
    return DocumentUnreadable(
        "it holds binary content that is no known format; send text, PDF, an office document, HTML, e-mail or an image",
        code="unsupported_file",
    )
