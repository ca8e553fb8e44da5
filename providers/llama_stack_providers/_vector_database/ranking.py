"""The best of a search, exactly: what the filter selects, and equal scores in the order of chunk ids."""

from collections.abc import Awaitable, Callable

from llama_stack.api.filters import Comparison, Compound, matches
from llama_stack.api.memory import Chunk
from llama_stack_providers._vector_database.facets import DOCUMENT_ID
from llama_stack_providers._vector_database.rows import Hit

SPARE = 8
"""Asked for beyond the limit, so that equal scores at its edge are seen."""
MAX_EQUAL = 2000
"""So many equal scores are put in order; more than that come as the database gives them."""

Fetch = Callable[[int], Awaitable[list[Hit | None]]]
"""Gives that many of a search's best, in the database's order; fewer only when it gives no more. None stands for one
that may not be seen."""


async def best_of(limit: int, where: Comparison | Compound | None, fetch: Fetch) -> list[Hit]:
    """The `limit` best that the filter selects, best first.

    More is fetched until enough were right and none beyond the edge can be as good as the last.
    """
    wanted = limit + SPARE
    while True:
        found = await fetch(wanted)
        ended = len(found) < wanted
        seen = [hit for hit in found if hit is not None]
        right = [hit for hit in seen if where is None or _selects(where, hit.found.chunk)]
        enough = len(right) >= limit
        if ended or (enough and (seen[-1].found.score < right[limit - 1].found.score or wanted >= limit + MAX_EQUAL)):
            right.sort(key=lambda hit: (-hit.found.score, hit.found.chunk.chunk_id))
            return right[:limit]
        wanted *= 4


def _selects(where: Comparison | Compound, chunk: Chunk) -> bool:
    return matches(where, {**chunk.metadata, DOCUMENT_ID: chunk.document_id})
