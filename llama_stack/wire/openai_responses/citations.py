"""Which sources an answer cites (API reference, "The response object", `annotations`).

Citations are found in the finished text and not asked of the model: small models do not keep to a format. A page is
cited where its address stands, or the number it was shown under (`[1]`), or its whole title. Which files are cited
the step says that made the answer.
"""

import re
from collections.abc import Sequence

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Chunk, Citation

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


def file_citations(citations: Sequence[Citation], offset: int, length: int) -> list[JsonObject]:
    """`file_citation` annotations of the part of an answer's text that begins at `offset`.

    index: characters of that part before the place that is cited. Beside OpenAI's fields, where in the file it stands.
    """
    return [
        {
            "type": "file_citation",
            "index": one.index - offset,
            "file_id": one.document_id,
            "filename": one.document_name or one.document_id,
            "chunk_id": one.chunk_id,
            "page": one.page,
            "start": one.start,
            "end": one.end,
            "quote": one.quote,
        }
        for one in citations
        if offset <= one.index <= offset + length
    ]


def file_results(metadata: JsonObject) -> list[JsonObject]:
    """What a search of files found, best first, as the results of a `file_search_call`."""
    told = metadata.get("passages")
    results: list[JsonObject] = []
    for one in told if isinstance(told, list) else ():
        try:
            chunk = Chunk.model_validate(one["chunk"])
        except (KeyError, TypeError, ValueError):
            continue  # a stranger's tool uses the same key for something else
        results.append(
            {
                "file_id": chunk.document_id,
                "filename": chunk.document_name or chunk.document_id,
                "score": chunk.score,
                "text": chunk.content,
                "attributes": chunk.metadata,
                "chunk_id": chunk.chunk_id,
                "page": chunk.page,
                "start": chunk.start,
                "end": chunk.end,
            }
        )
    return results


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
