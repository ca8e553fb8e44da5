"""Half characters in JSON, mended before it is read.

A server that cuts a text at a length may cut through an emoji, which takes two code units, and writes the half that
is left as an escape. It is no character (RFC 8259, 8.2): a strict parser refuses the whole message for it.
"""

import re

_PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
_ANY_HALF = re.compile(_HALF)
_ESCAPE = re.compile(rb"%b|(?P<half>%b)|\\." % (_PAIR, _HALF), re.DOTALL)
_REPLACEMENT = rb"\ufffd"


def mended(text: bytes) -> bytes:
    """The JSON with the replacement character for each half of a pair that stands alone."""
    if _ANY_HALF.search(text) is None:
        return text
    return _ESCAPE.sub(lambda escape: _REPLACEMENT if escape["half"] else escape[0], text)


class MendedLines:
    """A text that comes in pieces, given on in whole lines: no escape goes over the end of one."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def feed(self, piece: bytes) -> bytes:
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        if not end:
            self._begun.append(piece)
            return b""
        lines = b"".join([*self._begun, piece[:end]])
        self._begun = [piece[end:]]
        return mended(lines)

    def rest(self) -> bytes:
        """What stands behind the last line's end."""
        return mended(b"".join(self._begun))
