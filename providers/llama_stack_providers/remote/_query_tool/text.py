"""Text on its way to the model: cleaned of what is no text, and cut to size."""

import html
import re

_EMPHASIS = re.compile(r"</?(?:strong|b|em|i|mark|br)\s*/?>", re.IGNORECASE)
_CUT = " [...]"


def clean(text: object) -> str:
    """One line of plain text: emphasis tags, character references and control characters gone. "" for no text.

    Other markup stays, because in plain text it may be meant: `a < b`.
    """
    if not isinstance(text, str):
        return ""
    return _printable(html.unescape(_EMPHASIS.sub("", text)))


def printable_lines(text: str) -> str:
    """Plain text with its line breaks, at most one empty line between two lines; control characters are gone."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(map(_printable, text.splitlines()))).strip()


def _printable(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def cut(text: str, limit_bytes: int) -> str:
    """The text in at most `limit_bytes` bytes of UTF-8, its end marked where something was left out."""
    encoded = text.encode()
    if len(encoded) <= limit_bytes:
        return text
    return encoded[: max(0, limit_bytes - len(_CUT))].decode(errors="ignore").rstrip() + _CUT
