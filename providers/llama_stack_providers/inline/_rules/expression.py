"""A regular expression as a tree, without what no finite automaton can do."""

import re
from dataclasses import dataclass


class BadPattern(ValueError):
    """Says what about the expression is wrong, or cannot be searched in linear time."""


@dataclass(frozen=True)
class Atom:
    """One character; `source` is the expression that decides it."""

    source: str


@dataclass(frozen=True)
class Assertion:
    kind: str


@dataclass(frozen=True)
class Sequence:
    parts: "tuple[Node, ...]"


@dataclass(frozen=True)
class Choice:
    options: "tuple[Node, ...]"


@dataclass(frozen=True)
class Repeat:
    """most: None for any number."""

    node: "Node"
    fewest: int
    most: int | None


Node = Atom | Assertion | Sequence | Choice | Repeat

_FLAGS = re.compile(r"\(\?([ims]+)\)")
_COUNTS = re.compile(r"\{(\d*)(,?)(\d*)\}")
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|0[0-7]{0,2}|.)", re.DOTALL)
_ASSERTIONS = {"\\b": "b", "\\B": "B", "\\A": "A", "\\Z": "Z", "\\z": "Z"}


def read_expression(pattern: str) -> tuple[Node, str]:
    """The tree, and the flags at the head of the expression (of `i`, `m` and `s`). Raises BadPattern."""
    try:
        re.compile(pattern)
        head = _FLAGS.match(pattern)
        flags = head[1] if head else ""
        return _Parser(pattern, head.end() if head else 0, multiline="m" in flags).choice(), flags
    except RecursionError:
        raise BadPattern("is nested too deeply") from None
    except (re.error, OverflowError) as error:
        raise BadPattern(f"is no regular expression: {error}") from error


class _Parser:
    """Reads an expression that Python has already accepted, so only what it must refuse itself is looked for."""

    def __init__(self, pattern: str, start: int, *, multiline: bool) -> None:
        self._pattern = pattern
        self._at = start
        self._multiline = multiline

    def choice(self) -> Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._item()))
        return Sequence(tuple(parts))

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _item(self) -> Node:
        char = self._peek()
        if char == "(":
            return self._group()
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        self._at += 1
        if char == "^":
            return Assertion("line start" if self._multiline else "A")
        if char == "$":
            return Assertion("line end" if self._multiline else "Z")
        return Atom("." if char == "." else re.escape(char))

    def _group(self) -> Node:
        head = re.compile(r"\((?:\?:|\?P<[^>]*>|(?!\?))").match(self._pattern, self._at)
        if head is None:
            opening = self._pattern[self._at : self._at + 4]
            raise BadPattern(f"{opening!r}: look-around, inline flags and conditions are not available")
        self._at = head.end()
        inside = self.choice()
        self._at += 1  # the closing bracket, which Python has seen
        return inside

    def _class(self) -> Node:
        start = self._at
        self._at += 2 if self._pattern[start + 1] == "^" else 1
        self._at += 1  # a first closing bracket is a member
        if self._pattern[self._at - 1] == "\\":
            self._at += 1
        while self._peek() != "]":
            self._at += 2 if self._peek() == "\\" else 1
        self._at += 1
        return Atom(self._pattern[start : self._at])

    def _escape(self) -> Node:
        found = _ESCAPE.match(self._pattern, self._at)
        if found is None:
            raise BadPattern("ends inside an escape")
        source = found[0]
        if source[1] in "123456789":
            raise BadPattern(f"{source}: back-references are not available")
        self._at = found.end()
        return Assertion(_ASSERTIONS[source]) if source in _ASSERTIONS else Atom(source)

    def _repeated(self, node: Node) -> Node:
        counts = self._counts()
        if counts is None:
            return node
        if isinstance(node, Assertion):
            raise BadPattern("an assertion cannot be repeated")
        if self._peek() == "+":
            raise BadPattern("possessive repeats are not available")
        if self._peek() == "?":
            self._at += 1  # lazy or greedy is the same to a search that wants any match
        return Repeat(node, *counts)

    def _counts(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        char = self._peek()
        if char in simple:
            self._at += 1
            return simple[char]
        found = _COUNTS.match(self._pattern, self._at)
        if found is None or found[0] in ("{}",):
            return None
        self._at = found.end()
        fewest, comma, most = found.groups()
        low = int(fewest or 0)
        return (low, low) if not comma else (low, int(most) if most else None)
