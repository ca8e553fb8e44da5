"""Pages of a list, by key: the next page begins after a row, not after a count, so rows are neither missed nor doubled
while others come and go.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.errors import InvalidRequest
from llama_stack.storage.listed import Listed
from llama_stack.storage.tables import passed_rows

MAX_LIMIT = 1000


def check_limit(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be 1 to {MAX_LIMIT}, not {limit}", param="limit")
    return limit


async def rows_by_time(
    connection: AsyncConnection,
    query: Select[Any],
    listed: Listed,
    *,
    limit: int,
    after: str | None,
    newest_first: bool = False,
) -> list[Any]:
    """Up to limit + 1 rows of the query, which selects from the list, by time.

    Raises InvalidRequest when the list has no row `after`, and has not had one lately.
    """
    check_limit(limit)
    moment, identity = listed.moment, listed.identity
    if after is not None:
        last = await _moment_of(connection, listed, after)
        if newest_first:
            query = query.where(or_(moment < last, and_(moment == last, identity < after)))
        else:
            query = query.where(or_(moment > last, and_(moment == last, identity > after)))
    order = (moment.desc(), identity.desc()) if newest_first else (moment, identity)
    return list((await connection.execute(query.order_by(*order).limit(limit + 1))).all())


async def _moment_of(connection: AsyncConnection, listed: Listed, identity: str) -> datetime:
    """Where a row stands or stood in the list, whatever else is asked of the rows on a page."""
    there = select(listed.moment).where(listed.rows, listed.identity == identity)
    left = select(passed_rows.c.moment).where(passed_rows.c.place == listed.place(identity))
    for query in (there, left):
        found: datetime | None = (await connection.execute(query)).scalar()
        if found is not None:
            return found
    raise InvalidRequest(f"after: there is no {identity!r} in this list (any more)", param="after")


@dataclass(frozen=True)
class Between:
    """Where a page begins: behind the row `after`, or before the row `before`, which then ends it."""

    after: str | None = None
    before: str | None = None


async def rows_between(
    connection: AsyncConnection,
    query: Select[Any],
    listed: Listed,
    *,
    limit: int,
    between: Between,
    newest_first: bool = False,
) -> list[Any]:
    """As `rows_by_time`, or the last rows in front of `before`; then, too, one row more tells that there are others.

    Raises InvalidRequest where both ends are given.
    """
    if between.before is None:
        return await rows_by_time(
            connection, query, listed, limit=limit, after=between.after, newest_first=newest_first
        )
    if between.after is not None:
        raise InvalidRequest("after and before exclude each other", param="before")
    rows = await rows_by_time(
        connection, query, listed, limit=limit, after=between.before, newest_first=not newest_first
    )
    kept = rows[:limit][::-1]
    return kept + rows[limit:]
