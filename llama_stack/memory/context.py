"""What was found, as a model reads it: numbered passages within a budget of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from llama_stack.api.memory import Chunk
from llama_stack.api.token_estimate import estimated_text_tokens

MAX_CONTEXT_TOKENS = 4096


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
    return f"Passages that may help, from the documents at hand:\n\n{found}"
