"""Follows, character by character, text that may be nothing but tool calls.

A model's answer arrives in pieces, and a person should read prose as it comes, so the question "can this still be a
message of calls?" is asked after every piece. The scanner answers it in time proportional to the text, and notes
where the parts of each call stand. It judges form only: brackets, quotes and the keys a call may have.

Forms, any number of them, separated by blanks, line ends, `;` or `,`:

    {"name": "f", "parameters": {...}}      also inside a list: [{...}, {...}]
    [f(a=1), g()]
    f.call(query="...")                     for given names
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

CALL_KEYS = frozenset({"type", "id", "name", "function", "parameters", "arguments"})
"""Keys an object may have and still be a call."""

_CLOSERS = {"{": "}", "[": "]", "(": ")"}


class Brackets:
    """Finds where the bracket that was open at the start closes; brackets inside quotes do not count."""

    def __init__(self, closer: str) -> None:
        self._expected = [closer]
        self._quote = ""
        self._escaped = False

    @property
    def depth(self) -> int:
        """Brackets open inside the first one; 0 also while a quote is open directly in it."""
        return len(self._expected) - 1

    @property
    def quoted(self) -> bool:
        return bool(self._quote)

    def closed_by(self, char: str) -> bool:
        """Take the next character; whether it closed the first bracket."""
        if self._quote:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == self._quote:
                self._quote = ""
        elif char in "\"'":
            self._quote = char
        elif char in _CLOSERS:
            self._expected.append(_CLOSERS[char])
        elif char == self._expected[-1]:
            self._expected.pop()
        return not self._expected


@dataclass
class Member:
    """One `key: value` of an object; `end` is None while the value is under way."""

    key: str
    start: int
    end: int | None = None


@dataclass
class FoundCall:
    """Where the parts of one possible call stand in the text.

    form: an object with members, `name(...)` in a list, or `name.call(...)`. start: where it begins. end: behind its
    last character; None while it is under way. arguments_start: behind the opening parenthesis, where it has one.
    """

    form: Literal["object", "python", "dotted"]
    start: int
    end: int | None = None
    name: str = ""
    arguments_start: int | None = None
    members: list[Member] = field(default_factory=list)


class CallScanner:
    """Feed it text; `possible` says whether all of it may still be calls, `calls` what was found so far.

    dotted_names: tools that may be called as `name.call(...)` here; None for any name.
    """

    def __init__(self, dotted_names: Collection[str] | None) -> None:
        self.text = ""
        self.possible = True
        self.calls: list[FoundCall] = []
        self._dotted = None if dotted_names is None else [f"{name}.call(" for name in dotted_names]
        self._in_list = False
        self._at = 0
        self._brackets = Brackets("")
        self._key = ""
        self._key_quote = ""
        self._step: Callable[[str], None] = self._between

    def feed(self, text: str) -> bool:
        """Take more text; returns `possible`."""
        self.text += text
        while self.possible and self._at < len(self.text):
            self._step(self.text[self._at])
            self._at += 1
        return self.possible

    @property
    def calls_complete(self) -> bool:
        """Whether the text so far ends between calls and holds at least one."""
        return self.possible and bool(self.calls) and self.calls[-1].end is not None

    def _begin(self, form: Literal["object", "python", "dotted"], step: Callable[[str], None]) -> None:
        self.calls.append(FoundCall(form, self._at))
        self._step = step

    def _end_call(self) -> None:
        self.calls[-1].end = self._at + 1
        self._step = self._after_element if self._in_list else self._between

    # --- between calls ---

    def _between(self, char: str) -> None:
        if char.isspace() or (self.calls and char in ";,"):
            return
        if char == "{":
            self._begin("object", self._before_key)
        elif char == "[":
            self._in_list = True
            self._step = self._list_element
        elif char.isalpha() or char == "_":
            self._begin("dotted", self._dotted_name)
            self._dotted_name(char)
        else:
            # A brace too many at the end is a slip of small models; anything else is prose.
            self.possible = char == "}" and bool(self.calls)

    def _list_element(self, char: str) -> None:
        if char.isspace():
            return
        if char == "{":
            self._begin("object", self._before_key)
        elif char.isalpha() or char == "_":
            self._begin("python", self._python_name)
            self._python_name(char)
        else:
            self.possible = False

    def _after_element(self, char: str) -> None:
        if char == ",":
            self._step = self._list_element
        elif char == "]":
            self._in_list = False
            self._step = self._between
        else:
            self.possible = char.isspace()

    # --- objects ---

    def _before_key(self, char: str) -> None:
        if char in "\"'":
            self._key, self._key_quote = "", char
            self._step = self._in_key
        elif char == "}":
            self._end_call()
        else:
            self.possible = char.isspace() or char == ","

    def _in_key(self, char: str) -> None:
        if char != self._key_quote:
            self._key += char
            self.possible = any(key.startswith(self._key) for key in CALL_KEYS)
        else:
            self.possible = self._key in CALL_KEYS
            self._step = self._after_key

    def _after_key(self, char: str) -> None:
        if char == ":":
            self.calls[-1].members.append(Member(self._key, self._at + 1))
            self._brackets = Brackets("}")
            self._step = self._in_value
        else:
            self.possible = char.isspace()

    def _in_value(self, char: str) -> None:
        member = self.calls[-1].members[-1]
        if char == "," and not self._brackets.depth and not self._brackets.quoted:
            member.end = self._at
            self._step = self._before_key
        elif self._brackets.closed_by(char):
            member.end = self._at
            self._end_call()

    # --- calls with parentheses ---

    def _python_name(self, char: str) -> None:
        if char == "(":
            self._open_arguments()
        elif char.isalnum() or char in "_.-":
            self.calls[-1].name += char
        else:
            self.possible = False

    def _dotted_name(self, char: str) -> None:
        call = self.calls[-1]
        written = self.text[call.start : self._at + 1]
        if self._dotted is not None:
            self.possible = any(start.startswith(written) for start in self._dotted)
        else:
            self.possible = char.isalnum() or char in "_.-" or written.endswith(".call(")
        if self.possible and char == "(":
            call.name = written.removesuffix(".call(")
            self._open_arguments()

    def _open_arguments(self) -> None:
        self.calls[-1].arguments_start = self._at + 1
        self._brackets = Brackets(")")
        self._step = self._in_arguments

    def _in_arguments(self, char: str) -> None:
        if self._brackets.closed_by(char):
            self._end_call()
