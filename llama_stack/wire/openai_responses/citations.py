"""Which sources an answer cites (API reference, "The response object", `annotations`).

Citations are found in the finished text and not asked of the model: small models do not keep to a format. A source
is cited where its address stands, or the number it was shown under (`[1]`), or its whole title.
"""

import re
from collections.abc import Sequence

from llama_stack.api.common import JsonObject

MIN_TITLE_CHARS = 8
"""Shorter titles are ordinary words."""
_NUMBER = re.compile(r"\[(\d{1,2})\]")


def sources_in(metadata: JsonObject) -> list[JsonObject]:
    """The sources a tool tells of, each with title and url."""
    sources = metadata.get("sources")
    if not isinstance(sources, list):
        return []
    return [
        {"title": str(source.get("title") or source["url"]), "url": source["url"]}
        for source in sources
        if isinstance(source, dict) and isinstance(source.get("url"), str)
    ]


def url_citations(text: str, searches: Sequence[Sequence[JsonObject]]) -> list[JsonObject]:
    """`url_citation` annotations in the order of the text; no two overlap.

    searches: the sources of each search, oldest first. A number means a source of the latest search that had so many.
    Positions count characters of the text.
    """
    found: list[tuple[int, int, JsonObject]] = []
    known: set[str] = set()
    for source in (source for search in reversed(searches) for source in search):
        if source["url"] not in known:
            known.add(source["url"])
            found.extend((start, end, source) for start, end in _places(text, source))
    for marker in _NUMBER.finditer(text):
        numbered = _numbered(int(marker.group(1)), searches)
        if numbered is not None:
            found.append((marker.start(), marker.end(), numbered))
    # The longest of those that begin together: one address may be the beginning of another.
    found.sort(key=lambda place: (place[0], -place[1]))
    annotations: list[JsonObject] = []
    free_from = 0
    for start, end, source in found:
        if start >= free_from:
            free_from = end
            annotations.append({"type": "url_citation", "start_index": start, "end_index": end, **source})
    return annotations


def _places(text: str, source: JsonObject) -> list[tuple[int, int]]:
    wanted = [source["url"]]
    if len(source["title"]) >= MIN_TITLE_CHARS and source["title"] != source["url"]:
        wanted.append(source["title"])
    places: list[tuple[int, int]] = []
    for phrase in wanted:
        start = text.find(phrase)
        while start >= 0:
            places.append((start, start + len(phrase)))
            start = text.find(phrase, start + len(phrase))
    return places


def _numbered(number: int, searches: Sequence[Sequence[JsonObject]]) -> JsonObject | None:
    for search in reversed(searches):
        if 1 <= number <= len(search):
            return search[number - 1]
    return None
