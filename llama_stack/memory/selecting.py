"""A filter alone: what fulfils it is listed, as there is nothing to rank it by."""

from collections.abc import Sequence

from llama_stack.api.memory import Chunk, MemoryQuery
from llama_stack.memory.ingestion import Share
from llama_stack.memory.searching import check_filter


def is_filter_alone(query: MemoryQuery) -> bool:
    """Whether the query says nothing but what the metadata must fulfil.

    Whoever names a mode, a model that reranks or a way to rewrite means a question, and is told that there is none.
    """
    asks = query.query is not None or query.keys or query.entities
    ranks = query.mode is not None or query.diversity or query.rerank_model is not None or query.rewriting is not None
    return query.filters is not None and not asks and not ranks


async def selected(shares: Sequence[Share], query: MemoryQuery) -> list[Chunk]:
    """The first `max_chunks` chunks that fulfil the filter, each with the score 1.

    Bank by bank as they are named; within a bank by document id, then in the order of the document.
    Raises InvalidRequest for a filter that is nested too deeply or compares too much.
    """
    check_filter(query.filters)
    found: list[Chunk] = []
    for share in shares:
        wanted = query.max_chunks - len(found)
        if wanted == 0:
            break
        page = await share.index.list_chunks(share.place, where=query.filters, limit=wanted)
        found += [one.chunk.model_copy(update={"score": 1.0}) for one in page]
    if query.score_threshold is not None:
        found = [one for one in found if one.score >= query.score_threshold]
    return found
