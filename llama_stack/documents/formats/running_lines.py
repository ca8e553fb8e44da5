"""Lines that repeat on every page of a printed document: titles and page numbers, not text.

A line is left out only where nothing is lost: it stands on most pages as it is, or all that changes in it counts the
pages. The last line of an invoice, `Total: 95.00 EUR`, looks the same on every page and is what somebody asks for.
"""

import re
from collections import Counter
from collections.abc import Sequence

MIN_PAGES = 4
RUNNING_SHARE = 0.6
"""On how many of the pages a running line stands."""
MAX_OFFSET = 100
"""How far a printed page number may be from the page's place in the file; `Invoice 1001` is further."""

_NUMBERS = re.compile(r"\d+")


def without_running_lines(pages: Sequence[list[str]]) -> list[list[str]]:
    """The lines of each page without its running first and last ones; all of them where no page would keep any."""
    if len(pages) < MIN_PAGES:
        return list(pages)
    seen = Counter(
        form
        for number, lines in enumerate(pages, 1)
        for form in {form for line in (*lines[:1], *lines[-1:]) for form in _forms(line, number)}
    )
    running = {form for form, times in seen.items() if times > len(pages) * RUNNING_SHARE}
    kept = [_without(lines, number, running) for number, lines in enumerate(pages, 1)]
    return kept if any(kept) else list(pages)


def _without(lines: list[str], number: int, running: set[str]) -> list[str]:
    first = 1 if lines and running.intersection(_forms(lines[0], number)) else 0
    is_last_running = len(lines) > first and running.intersection(_forms(lines[-1], number))
    return lines[first : len(lines) - 1 if is_last_running else len(lines)]


def _forms(line: str, number: int) -> set[str]:
    """What the line would be on every page: as it is, and with one of its numbers as the page's with an offset."""
    forms = {line}
    for found in _NUMBERS.finditer(line):
        offset = int(found[0][:9]) - number
        if abs(offset) <= MAX_OFFSET:
            forms.add(f"{line[: found.start()]}\0{offset}\0{line[found.end() :]}")
    return forms
