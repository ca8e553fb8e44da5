"""Which passages a finished answer rests on.

Citations come from what was put into the prompt and are matched to the answer; the model is not asked for them,
because small models do not keep to a format. In this order, the first that gives any:

1. marks that the answer makes (see `markers`), each with the words before it;
2. sentences that share their words with a passage;
3. the passage that shares most with the whole answer, or the first one.

What is cited stands literally in the passage.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llama_stack.api.memory import Chunk, Citation
from llama_stack.memory.context import Passage
from llama_stack.memory.likeness import Likeness, Said, Source, sentence_spans
from llama_stack.memory.markers import Mark, natural_marks
from llama_stack.text.languages import language_of

MAX_QUOTE_CHARACTERS = 400
BULLETS = " \t-*•·–—"
MAX_CITED_SENTENCES = 300
"""Of one answer; a longer one is cited up to there."""


def cite(
    text: str, groups: Sequence[Sequence[Passage]], removed: Sequence[Mark] = (), *, always: bool = True
) -> list[Citation]:
    """The citations of a finished answer, in the order of its text.

    groups: the passages of each search, oldest first, numbered from 1 in each. removed: the marks that were taken out
    of the text. always: an answer that shows no source cites the likeliest; for passages it was given to answer from.
    A place cites a chunk once. Empty where there is no text or no passage.
    """
    if not text.strip() or not any(groups):
        return []
    return _Citing(text, groups, removed).citations(always=always)


@dataclass(frozen=True)
class _Place:
    """Something the answer says, which ends at `end`, and where it is cited."""

    start: int
    end: int
    index: int


class _Citing:
    def __init__(self, text: str, groups: Sequence[Sequence[Passage]], removed: Sequence[Mark]) -> None:
        self._text = text
        self._removed = removed
        # One chunk may have been found more than once; the latest numbers hold.
        self._numbered = [{passage.number: passage.chunk for passage in group} for group in groups]
        self._chunks = list(
            {chunk.chunk_id: chunk for group in reversed(self._numbered) for chunk in group.values()}.values()
        )
        self._sentences = sentence_spans(text)
        self._language = language_of(text)
        self._likeness = Likeness([Source(chunk, self._language) for chunk in self._chunks])

    def citations(self, *, always: bool) -> list[Citation]:
        found = self._by_marks() or self._by_sentences()
        if not found and always:
            found = [self._of_the_whole()]
        once: dict[tuple[int, str], Citation] = {}
        for one in found:
            once.setdefault((one.index, one.chunk_id), one)
        return list(once.values())

    # --- marks ---------------------------------------------------------------------------------------------------

    def _by_marks(self) -> list[Citation]:
        marks = [*self._removed, *natural_marks(self._text, self._names())]
        marks.sort(key=lambda mark: (mark.start, mark.end))
        cited: list[Citation] = []
        for mark in marks:
            place = self._place_before(mark)
            said = Said(self._without_marks(place, marks), self._language)
            for chunk in self._meant(mark, said):
                cited.append(self._citation(place, said, chunk))
        return cited

    def _names(self) -> list[tuple[str, str]]:
        return [
            (name, chunk.document_id)
            for chunk in self._chunks
            for name in (chunk.document_name, chunk.document_id)
            if name and not name.isdecimal()
        ]

    def _place_before(self, mark: Mark) -> _Place:
        """What stands before the mark: its sentence up to it, or the one before where it begins one.

        A mark at the beginning of a line, as in a list of sources, belongs to what follows it.
        """
        position = max(0, bisect_left(self._sentences, mark.start, key=lambda span: span[0]) - 1)
        line_start = self._text.rfind("\n", 0, mark.start) + 1
        if not self._text[line_start : mark.start].strip(BULLETS):
            following = next((span for span in self._sentences if span[1] > mark.end), None)
            if following is not None and "\n" not in self._text[mark.end : max(mark.end, following[0])]:
                return _Place(max(mark.end, following[0]), following[1], mark.start)
        return _Place(self._sentences[position][0], mark.start, mark.start)

    def _without_marks(self, place: _Place, marks: Iterable[Mark]) -> str:
        said, at = "", place.start
        for mark in marks:
            if place.start <= mark.start < place.end:
                said += self._text[at : mark.start] + " "
                at = max(at, mark.end)
        return said + self._text[at : place.end]

    def _meant(self, mark: Mark, said: Said) -> list[Chunk]:
        """The chunks that a mark names; one for each number, and one for a name."""
        if mark.numbers:
            candidates = [
                [numbered[number] for numbered in reversed(self._numbered) if number in numbered]
                for number in mark.numbers
            ]
        elif mark.document_id is not None:
            of_document = [chunk for chunk in self._chunks if chunk.document_id == mark.document_id]
            on_page = [chunk for chunk in of_document if mark.page is not None and chunk.page == mark.page]
            candidates = [on_page or of_document]
        else:
            candidates = [self._chunks]
        return [self._likeness.best(said, chunks) for chunks in candidates if chunks]

    # --- without marks -------------------------------------------------------------------------------------------

    def _by_sentences(self) -> list[Citation]:
        cited: list[Citation] = []
        for start, end in self._sentences[:MAX_CITED_SENTENCES]:
            said = Said(self._text[start:end], self._language)
            chunk = self._likeness.rests_on(said)
            if chunk is not None:
                cited.append(self._citation(_Place(start, end, end), said, chunk))
        return cited

    def _of_the_whole(self) -> Citation:
        said = Said(self._text, self._language)
        end = len(self._text.rstrip())
        return self._citation(_Place(0, end, end), said, self._likeness.best(said, self._chunks))

    # --- the words cited -----------------------------------------------------------------------------------------

    def _citation(self, place: _Place, said: Said, chunk: Chunk) -> Citation:
        start, end = self._likeness.closest_words(said, chunk)
        end = min(end, start + MAX_QUOTE_CHARACTERS)
        document_start, document_end = chunk.span_of(start, end)
        return Citation(
            index=place.index,
            document_id=chunk.document_id,
            document_name=chunk.document_name,
            chunk_id=chunk.chunk_id,
            page=chunk.page,
            start=document_start,
            end=document_end,
            quote=chunk.content[start:end],
        )
