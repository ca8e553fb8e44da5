"""What was found, as a model reads it: numbered passages within a budget of tokens.

In a very small budget, that of a model with a small window, there is one sentence in place of passages, bare of markup
and before the question: such models find little in what they read, and copy well. Others read whole passages, which
stand behind the question.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llama_stack.api.common import JsonObject
from llama_stack.api.memory import Chunk
from llama_stack.api.token_estimate import estimated_text_tokens

MAX_CONTEXT_TOKENS = 4096
EXTRACT_TOKENS = 128
"""A budget that is no larger is given to the sentence that fits best, in place of passages."""
CONTEXT_HEADING = "Passages that may help, from the documents at hand:"
EXTRACT_HEADING = "Context:\n"
QUESTION_HEADING = "\n\nQuestion: "
PASSAGES = "passages"
"""The key under which a tool's metadata tells which passages it found, each with the number it was shown under."""


@dataclass(frozen=True)
class Passage:
    """A chunk, or the part of it that is shown, as it stands in the prompt.

    number: from 1; what a model may cite it by. is_extract: one sentence, shown alone and without its number.
    """

    number: int
    chunk: Chunk
    text: str
    is_extract: bool = False


async def passages_for(question: str, chunks: Sequence[Chunk], max_tokens: int) -> list[Passage]:
    """What a model is shown of the chunks for a question: whole ones or, in a very small budget, the best sentence."""
    if max_tokens > EXTRACT_TOKENS:
        return passages_of(chunks, max_tokens)
    return await asyncio.to_thread(_best_sentence, question, chunks, max_tokens)


def _best_sentence(question: str, chunks: Sequence[Chunk], max_tokens: int) -> list[Passage]:
    # Its tables of words take a while to make, and larger models never need them.
    from llama_stack.memory.extracting import as_prose, extracts

    parts = [part_of(one.chunk, one.start, one.end) for one in extracts(question, chunks, max_tokens, 1)]
    return [Passage(number, part, as_prose(part.content), True) for number, part in enumerate(parts, 1)]


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


def part_of(chunk: Chunk, start: int, end: int) -> Chunk:
    """The chunk with its content from one character to another, and with the place of those in the document."""
    document_start, document_end = chunk.span_of(start, end)
    return chunk.model_copy(update={"content": chunk.content[start:end], "start": document_start, "end": document_end})


# --- as text -------------------------------------------------------------------------------------------------------


def as_context(passages: Sequence[Passage]) -> str:
    """The passages as one text; empty when there are none. A sentence that stands in their place stands alone."""
    texts = [passage.text for passage in passages]
    heading = [] if any(passage.is_extract for passage in passages) else [CONTEXT_HEADING]
    return "\n\n".join([*heading, *texts]) if texts else ""


def as_message_part(passages: Sequence[Passage]) -> str:
    """The same for the user's message; `around_question` knows by it where it stands there."""
    context = as_context(passages)
    return f"{EXTRACT_HEADING}{context}" if any(passage.is_extract for passage in passages) else context


def is_extract(context: str) -> bool:
    """Whether a context of a user's message is one sentence, for a model with a small window."""
    return context.startswith(EXTRACT_HEADING)


def around_question(context: str) -> tuple[str, str]:
    """The context as it stands before the user's words, and as it stands behind them; one of the two is empty."""
    if is_extract(context):
        return f"{context}{QUESTION_HEADING}", ""
    return "", f"\n\n{context}"


def without_context(text: str) -> str:
    """The user's own words, without the passages that were put around them in an earlier turn."""
    words, _, _ = text.partition(CONTEXT_HEADING)
    if words.startswith(EXTRACT_HEADING):
        words = words.rpartition(QUESTION_HEADING)[2]
    return words.strip()


# --- in a tool's metadata ------------------------------------------------------------------------------------------


def told_passages(passages: Sequence[Passage], found: Sequence[Chunk] = ()) -> JsonObject:
    """For a tool's metadata: the chunks that were found, each whole, with its number where its result shows it.

    found: with those that did not fit. Of a chunk that is shown in part, `shown` says from which character of its
    content to which.
    """
    shown = {passage.chunk.chunk_id: passage for passage in passages}
    chunks = found or [passage.chunk for passage in passages]
    return {PASSAGES: [_told(one, shown.get(one.chunk_id)) for one in chunks]}


def _told(chunk: Chunk, passage: Passage | None) -> JsonObject:
    told: JsonObject = {"number": passage and passage.number, "chunk": chunk.model_dump(mode="json")}
    if passage is not None and passage.chunk.content != chunk.content:
        start = passage.chunk.start - chunk.start
        if not chunk.content.startswith(passage.chunk.content, start):
            start = chunk.content.find(passage.chunk.content)
        told["shown"] = [start, start + len(passage.chunk.content)]
    return told


def passages_told(metadata: JsonObject) -> list[Passage]:
    """The passages that a tool has shown, by its metadata; none where it tells of none, or not in this shape."""
    told = metadata.get(PASSAGES)
    passages: list[Passage] = []
    for one in told if isinstance(told, list) else ():
        try:
            chunk = Chunk.model_validate(one["chunk"])
            start, end = one.get("shown") or (0, len(chunk.content))
            passages.append(Passage(int(one["number"]), part_of(chunk, int(start), int(end)), ""))
        except (KeyError, TypeError, ValueError):
            continue  # not shown, or a stranger's tool uses the same key
    return passages


async def best_of_told(question: str, metadata: JsonObject, max_tokens: int) -> tuple[list[Passage], JsonObject] | None:
    """Of the passages that a tool has shown whole, the sentence that a very small budget is given in their place, and
    the metadata with it. None in a larger budget, and where there are none or they are sentences already."""
    told = metadata.get(PASSAGES)
    is_done = not isinstance(told, list) or any(isinstance(one, dict) and "shown" in one for one in told)
    if is_done or max_tokens > EXTRACT_TOKENS:
        return None
    whole = {passage.chunk.chunk_id: passage for passage in passages_told(metadata)}
    best = await passages_for(question, [passage.chunk for passage in whole.values()], max_tokens)
    if not best:
        return None
    # Whoever has the numbers of the passages finds the sentence under the number of its own.
    best = [replace(one, number=whole[one.chunk.chunk_id].number) for one in best]
    shown = {one.chunk.chunk_id: one for one in best}
    retold = [_told(passage.chunk, shown.get(chunk_id)) for chunk_id, passage in whole.items()]
    return best, {**metadata, PASSAGES: retold}
