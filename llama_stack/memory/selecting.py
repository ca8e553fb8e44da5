"""A filter alone: what fulfils it is listed, as there is nothing to rank it by, or deleted."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from llama_stack.api.filters import Comparison, Compound, matches
from llama_stack.api.memory import Chunk, DocumentState, MemoryQuery
from llama_stack.memory.ingestion import Share
from llama_stack.memory.searching import check_filter
from llama_stack.storage.documents import StoredDocument

CLOCKS_APART = timedelta(seconds=5)
"""How far the clocks of two servers may be apart."""


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


@dataclass(frozen=True)
class Looked:
    """A look at what fulfils a filter, in a bank that others go on writing in.

    touched: documents that this process has written since. begun_at: when the look began.
    """

    where: Comparison | Compound
    touched: AbstractSet[str]
    begun_at: datetime

    def is_old(self, document_id: str, stored: StoredDocument | None) -> bool:
        """Whether the document may have changed since: by this process, or by another one that takes it in anew."""
        if stored is None or document_id in self.touched:
            return document_id in self.touched
        status = stored.status
        return status.state is not DocumentState.COMPLETED or status.created_at >= self.begun_at - CLOCKS_APART

    def is_replaced(self, stored: StoredDocument) -> bool:
        """Whether what is being taken in, in the place of what was seen, does not fulfil the filter."""
        status = stored.status
        is_under_way = status.state in (DocumentState.PENDING, DocumentState.RUNNING)
        return is_under_way and not matches(self.where, {**status.metadata, "document_id": status.document_id})
