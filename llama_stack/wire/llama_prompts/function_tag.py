"""The call `<function=name>{...}</function>`, found at the beginning of a growing text."""

import re
from dataclasses import dataclass

from llama_stack.wire.llama_prompts.call_scanner import Brackets

OPENING = "<function="
CLOSING = "</function>"
_HEAD = re.compile(r"<function=([^\s<>{}()]+)>\s*")
_HEAD_BEGUN = re.compile(r"<function=[^\s<>{}()]*")


@dataclass(frozen=True)
class TaggedFunction:
    """arguments: text of the braces, "{}" where there are none. end: behind the call, closing tag included."""

    name: str
    arguments: str
    end: int


class FunctionTagReader:
    """Ask `read` again whenever the text, which begins with `<function=`, has grown."""

    def __init__(self) -> None:
        self.possible = True
        self._brackets = Brackets("}")
        self._looked_to: int | None = None

    def read(self, text: str, *, ended: bool = False) -> TaggedFunction | None:
        """The call once it is whole; None when more text is needed, or, if `possible` is then False, when it is none.

        ended: no more text will come; a closing tag that is missing or cut is then not waited for.
        """
        head = _HEAD.match(text)
        if head is None:
            self.possible = _HEAD_BEGUN.fullmatch(text) is not None and not ended
            return None
        rest = text[head.end() : head.end() + len(CLOSING)]
        if rest == CLOSING:
            return TaggedFunction(head[1], "{}", head.end() + len(CLOSING))
        if not rest.startswith("{"):
            self.possible = CLOSING.startswith(rest) and not ended
            return None
        end = self._object_end(text, head.end() + 1)
        if end is None:
            return None
        tail = text[end:].lstrip()
        arguments = text[head.end() : end]
        if tail.startswith(CLOSING):
            return TaggedFunction(head[1], arguments, len(text) - len(tail) + len(CLOSING))
        if CLOSING.startswith(tail):
            return TaggedFunction(head[1], arguments, len(text)) if ended else None
        return TaggedFunction(head[1], arguments, end)

    def cut(self, text: str) -> tuple[str, str] | None:
        """Name and arguments so far of a call that breaks off inside its arguments."""
        head = _HEAD.match(text)
        return (head[1], text[head.end() :]) if head is not None and text[head.end() :].startswith("{") else None

    def _object_end(self, text: str, start: int) -> int | None:
        position = start if self._looked_to is None else self._looked_to
        while position < len(text):
            closed = self._brackets.closed_by(text[position])
            position += 1
            if closed:
                # Looking again, for the closing tag, must find the same end.
                self._brackets, self._looked_to = Brackets("}"), start
                return position
        self._looked_to = position
        return None
