"""What a person types: lines at a terminal, edited and remembered, or lines of a pipe."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llama_stack.cli.printing import colours_wanted

REMEMBERED_LINES = 1000


class ChatInput:
    """is_terminal: somebody sits there, so questions are worth asking."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty() and sys.stdout.isatty()

    def ask(self, prompt: str) -> str | None:
        """The next line, None at the end. Raises KeyboardInterrupt."""
        if not self.is_terminal:
            line = sys.stdin.readline()
            return line.rstrip("\n") if line else None
        try:
            return input(_bold(prompt))
        except EOFError:
            return None


@contextmanager
def remembered(file: Path) -> Iterator[None]:
    """Lines typed here can be had again with the arrow keys, in later chats, too. Where there is no readline, not."""
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_history_length(REMEMBERED_LINES)
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.touch(mode=0o600)
            readline.write_history_file(file)


def _bold(prompt: str) -> str:
    """Codes that take no room on the screen stand between \\x01 and \\x02: readline counts the rest."""
    return f"\x01\x1b[1m\x02{prompt}\x01\x1b[0m\x02" if colours_wanted() else prompt
