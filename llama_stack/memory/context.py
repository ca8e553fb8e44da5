"""What was found, as a model reads it: numbered passages within a budget of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Chunk
from llama_stack.api.token_estimate import estimated_text_tokens

MAX_CONTEXT_TOKENS = 4096
CONTEXT_HEADING = "Passages that may help, from the documents at hand:"
PASSAGES = "passages"
"""The key under which a tool's metadata tells which passages it found, each with the number it was shown under."""


@dataclass(frozen=True)
class Passage:
    """A chunk as it stands in the prompt. number: from 1; what a model may cite it by."""

    number: int
    chunk: Chunk
    text: str


def passages_of(chunks: Sequence[Chunk], max_tokens: int = MAX_CONTEXT_TOKENS) -> list[Passage]:
    """Whole chunks, best first, as many as fit the budget; a shorter one may stand in for one that does not fit."""
    passages: list[Passage] = []
    left = max_tokens
    for chunk in chunks:
        text = passage_text(chunk, len(passages) + 1)
        tokens = estimated_text_tokens(text)
        if tokens <= left:
            passages.append(Passage(len(passages) + 1, chunk, text))
            left -= tokens
    return passages


def passage_text(chunk: Chunk, number: int) -> str:
    where = [f"document {chunk.document_name or chunk.document_id}"]
    if chunk.page is not None:
        where.append(f"page {chunk.page}")
    if chunk.headings:
        where.append(" > ".join(chunk.headings))
    return f"[{number}] ({', '.join(where)})\n{chunk.content}"


def as_context(passages: Sequence[Passage]) -> str:
    """The passages as one text; empty when there are none."""
    if not passages:
        return ""
    found = "\n\n".join(passage.text for passage in passages)
    return f"{CONTEXT_HEADING}\n\n{found}"


def told_passages(passages: Sequence[Passage], found: Sequence[Chunk] = ()) -> JsonObject:
    """For a tool's metadata: the passages that its result shows, whole. found: with those that did not fit."""
    numbers = {passage.chunk.chunk_id: passage.number for passage in passages}
    chunks = found or [passage.chunk for passage in passages]
    return {
        PASSAGES: [{"number": numbers.get(one.chunk_id), "chunk": one.model_dump(mode="json")} for one in chunks],
    }


def passages_told(metadata: JsonObject) -> list[Passage]:
    """The passages that a tool has shown, by its metadata; none where it tells of none, or not in this shape."""
    told = metadata.get(PASSAGES)
    passages: list[Passage] = []
    for one in told if isinstance(told, list) else ():
        try:
            passages.append(Passage(int(one["number"]), Chunk.model_validate(one["chunk"]), ""))
        except (KeyError, TypeError, ValueError):
            continue  # not shown, or a stranger's tool uses the same key
    return passages
