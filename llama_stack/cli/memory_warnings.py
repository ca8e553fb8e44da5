"""What of a document was left out although the rest of it was read, told under what a command says."""

from collections.abc import Iterable, Sequence

from llama_stack.cli.chat_screen import printable
from llama_stack.cli.printing import print_note

SHOWN = 3
"""Of one document; `--json` has them all."""


def tell_warnings(documents: Iterable[tuple[str, Sequence[str]]]) -> None:
    """documents: what each is called and its warnings; those without any are passed over."""
    for name, warnings in documents:
        for warning in warnings[:SHOWN]:
            print_note(printable(f"{name}: {warning}"))
        if len(warnings) > SHOWN:
            print_note(printable(f"{name}: and {len(warnings) - SHOWN} more warnings; --json tells them"))
