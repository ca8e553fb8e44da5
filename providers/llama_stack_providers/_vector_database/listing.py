"""Listings in order, from databases that hand out records in an order of their own."""

import heapq
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True, slots=True)
class Place:
    """Where a chunk stands in a listing. record: the database's own id of it, which plays no part in the order."""

    document_id: str
    position: int
    chunk_id: str
    record: Any = None

    def key(self) -> tuple[str, int, str]:
        return (self.document_id, self.position, self.chunk_id)


async def first_places(pages: AsyncIterator[list[Place]], limit: int, after: Place | None) -> list[Place]:
    """The first `limit` places that follow `after`; never holds more than those and one page."""
    first: list[Place] = []
    async for page in pages:
        following = (place for place in page if after is None or place.key() > after.key())
        first = heapq.nsmallest(limit, [*first, *following], key=Place.key)
    return first
