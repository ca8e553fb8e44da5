"""What an answer rests on, in the terminal: the documents and pages, and the words of each that are cited."""

import shutil
import textwrap
from dataclasses import dataclass

from llama_stack.api.agents import Turn
from llama_stack.sdk.session import AgentResult

MAX_QUOTES = 4
"""Under one answer; the line above them names every source."""
MAX_QUOTE_CHARS = 320
INDENT = "    "


@dataclass(frozen=True)
class _Place:
    name: str
    page: int | None
    quote: str

    @property
    def label(self) -> str:
        return f"{self.name}, page {self.page}" if self.page else self.name


def named_sources(turn: Turn) -> str:
    """`sources: ` with the documents that the answer cites; where it cites none, what was found, and says so."""
    places, are_cited = _places(turn)
    labels = dict.fromkeys(place.label for place in places)
    if not labels:
        return ""
    return f"{'sources' if are_cited else 'found, but not cited'}: {'; '.join(labels)}"


def quoted_sources(turn: Turn) -> list[str]:
    """The cited words with their document and page, a quote or what follows it a line."""
    width = max(40, shutil.get_terminal_size().columns - 1)
    wrapper = textwrap.TextWrapper(width, INDENT, f"{INDENT}  ", break_on_hyphens=False)
    lines: list[str] = []
    for place in _places(turn)[0][:MAX_QUOTES]:
        quote = textwrap.shorten(place.quote, MAX_QUOTE_CHARS, placeholder=" ...")
        lines += wrapper.wrap(f'{place.label}: "{quote}"')
    return lines


def _places(turn: Turn) -> tuple[list[_Place], bool]:
    """Each once, in the answer's order, and whether the answer cites them."""
    result = AgentResult(turn)
    cited = [_Place(one.document_name or one.document_id, one.page, one.quote) for one in result.citations]
    found = [_Place(one.document_name or one.document_id, one.page, one.content) for one in result.passages]
    return list(dict.fromkeys(cited or found)), bool(cited)
