"""Secrets by the shapes their issuers document, and card numbers by their check digit.

The expressions are our own and fixed; each repeat in them is bounded or ends at a character it cannot contain, so
that Python's engine needs time linear in the text.
"""

import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llama_stack_providers.inline._rules.linear import OutOfTime

LONGEST_CHARS = 16_384
"""No shape matches more."""
_PIECE_CHARS = 65_536

MIN_ENTROPY_BITS = 3.0
"""Per character, of a value that its name calls a secret; words are around 2.5, random letters and digits above 3.5."""


def _always(value: str) -> bool:
    return True


@dataclass(frozen=True)
class SecretShape:
    """expression: its group `secret`, or else the whole of it, is the secret. holds: a last check of that text."""

    expression: re.Pattern[str]
    holds: Callable[[str], bool] = _always

    def find(self, text: str, deadline: float | None = None) -> tuple[int, int] | None:
        """The first one in the text. deadline: of time.monotonic(); raises OutOfTime when it passes."""
        group = "secret" if "secret" in self.expression.groupindex else 0
        # Python's engine lets nobody else run while it searches: a long text is searched in pieces.
        for start in range(0, len(text), _PIECE_CHARS):
            if deadline is not None and time.monotonic() > deadline:
                raise OutOfTime
            for match in self.expression.finditer(text, start, start + _PIECE_CHARS + LONGEST_CHARS):
                if match.start() < start + _PIECE_CHARS and self.holds(match[group]):
                    return match.span(group)
        return None


def _looks_random(value: str) -> bool:
    """Not a word, a path, a placeholder or a reference to where the secret is kept."""
    counts = Counter(value)
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    mixed = any(char.isdigit() for char in value) and any(char.isalpha() for char in value)
    return mixed and bits >= MIN_ENTROPY_BITS


_CARDS = (
    # First digits and lengths of the large schemes (ISO/IEC 7812 issuer numbers as the schemes publish them).
    (re.compile(r"4"), {13, 16, 19}),
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), {16}),
    (re.compile(r"3[47]"), {15}),
    (re.compile(r"6011|65|64[4-9]"), {16, 19}),
    (re.compile(r"3(?:0[0-5]|[68])"), {14}),
    (re.compile(r"35(?:2[89]|[3-8])"), {16}),
    (re.compile(r"62"), {16, 17, 18, 19}),
)


def _is_card(value: str) -> bool:
    digits = re.sub(r"[ -]", "", value)
    known = any(start.match(digits) and len(digits) in lengths for start, lengths in _CARDS)
    return known and len(set(digits)) > 1 and luhn_holds(digits)


def luhn_holds(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right doubled, the sum of all digits divisible by ten."""
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


_NAMED = (
    r"(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|auth[_-]?key|secret|token|passwd|password|"
    r"credentials?)[\"']?[ \t]{0,4}(?:=>|:=|=|:)[ \t]{0,4}[\"']?(?P<secret>[A-Za-z0-9+/_=.~!@#$%^&*-]{16,512})"
)

SECRETS: Mapping[str, SecretShape] = {
    "private-key": SecretShape(re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")),
    "aws-access-key": SecretShape(re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])")),
    "github-token": SecretShape(re.compile(r"(?<!\w)(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_\w{22,255})")),
    "gitlab-token": SecretShape(re.compile(r"(?<!\w)glpat-[\w-]{20,64}")),
    "openai-key": SecretShape(
        re.compile(r"(?<![\w-])sk-(?:(?:proj|svcacct|admin|ant)-)?[\w-]{20,256}"), holds=_looks_random
    ),
    "google-key": SecretShape(re.compile(r"(?<![\w-])AIza[\w-]{35}(?![\w-])")),
    "hugging-face-token": SecretShape(re.compile(r"(?<!\w)hf_[A-Za-z0-9]{30,64}")),
    "slack-token": SecretShape(re.compile(r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,255}")),
    "stripe-key": SecretShape(re.compile(r"(?<!\w)(?:sk|rk)_live_[A-Za-z0-9]{16,255}")),
    "jwt": SecretShape(re.compile(r"(?<![\w-])eyJ[\w-]{8,4096}\.eyJ[\w-]{4,8192}\.[\w-]{16,2048}")),
    "url-password": SecretShape(re.compile(r"://[^\s/:@]{1,128}:(?P<secret>[^\s/:@]{3,256})@")),
    "named-secret": SecretShape(re.compile(_NAMED, re.IGNORECASE), holds=_looks_random),
}
# As a card shows them: in groups of 4-4-4-4, 4-6-5 or 4-6-4, or without any gap.
_CARD = r"(?<!\d)(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{13,19})(?!\d)"
CARDS: Mapping[str, SecretShape] = {"card-number": SecretShape(re.compile(_CARD), holds=_is_card)}
