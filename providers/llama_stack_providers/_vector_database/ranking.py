"""The best of a search, exactly: what the filter selects, and equal scores in the order of chunk ids."""

from collections.abc import Awaitable, Callable

from llama_stack.api.chunk_index import FoundChunk
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound, matches

SPARE = 8
"""Asked for beyond the limit, so that equal scores at its edge are seen."""
MAX_EQUAL = 2000
"""So many equal scores are put in order; more than that come as the database gives them."""


def selected_metadata(where: Comparison | Compound | None, metadata: JsonObject, document_id: str) -> bool:
    return where is None or matches(where, {**metadata, "document_id": document_id})


async def best_of(
    limit: int, where: Comparison | Compound | None, fetch: Callable[[int], Awaitable[list[FoundChunk | None]]]
) -> list[FoundChunk]:
    """The `limit` best that the filter selects, best first.

    fetch: gives that many of the database's best, in its order; fewer only when there are no more; None stands for
    one that may not be seen. It is asked for more until enough were right and none beyond the edge can be as good as
    the last.
    """
    wanted = limit + SPARE
    while True:
        found = await fetch(wanted)
        ended = len(found) < wanted
        seen = [one for one in found if one is not None]
        right = [one for one in seen if selected_metadata(where, one.chunk.metadata, one.chunk.document_id)]
        enough = len(right) >= limit
        if ended or (enough and (seen[-1].score < right[limit - 1].score or wanted >= limit + MAX_EQUAL)):
            right.sort(key=lambda one: (-one.score, one.chunk.chunk_id))
            return right[:limit]
        wanted *= 4
