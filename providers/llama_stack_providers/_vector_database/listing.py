"""Listings in order, from databases that hand out rows in an order of their own."""

import heapq
from collections.abc import AsyncIterator

from llama_stack_providers._vector_database.rows import Place

PlacedRow = tuple[Place, str]
"""A row's place, and its id in the database."""


async def first_places(pages: AsyncIterator[list[PlacedRow]], limit: int, after: Place | None) -> list[PlacedRow]:
    """The first `limit` that follow `after`; never holds more than those and one page."""
    first: list[PlacedRow] = []
    async for page in pages:
        following = (placed for placed in page if after is None or placed[0] > after)
        first = heapq.nsmallest(limit, [*first, *following])
    return first
