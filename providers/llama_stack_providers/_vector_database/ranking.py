"""The best of a search, exactly: what the filter selects, and equal scores in the order of chunk ids."""

from collections.abc import Awaitable, Callable

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.filters import Comparison, Compound, matches
from llama_stack.api.memory import Chunk

SPARE = 8
"""Asked for beyond the limit, so that equal scores at its edge are seen."""
MAX_EQUAL = 2000
"""So many equal scores are put in order; more than that come as the database gives them."""


def selected(where: Comparison | Compound | None, chunk: Chunk) -> bool:
    return where is None or matches(where, {**chunk.metadata, "document_id": chunk.document_id})


async def best_of(
    limit: int, where: Comparison | Compound | None, fetch: Callable[[int], Awaitable[list[FoundChunk]]]
) -> list[FoundChunk]:
    """The `limit` best that the filter selects, best first.

    fetch: gives that many of the database's best, in its order; fewer only when there are no more. It is asked for
    more until enough were right and none beyond the edge can be as good as the last.
    """
    wanted = limit + SPARE
    while True:
        found = await fetch(wanted)
        right = [one for one in found if selected(where, one.chunk)]
        ended = len(found) < wanted
        enough = len(right) >= limit
        if ended or (enough and (found[-1].score < right[limit - 1].score or wanted >= limit + MAX_EQUAL)):
            right.sort(key=lambda one: (-one.score, one.chunk.chunk_id))
            return right[:limit]
        wanted *= 4
