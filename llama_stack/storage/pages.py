"""Pages of a list, by key: the next page begins after a row, not after a count, so rows are neither missed nor doubled
while others come and go.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.errors import InvalidRequest

MAX_LIMIT = 1000


def check_limit(limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be 1 to {MAX_LIMIT}, not {limit}", param="limit")
    return limit


async def rows_by_time(
    connection: AsyncConnection,
    query: Select[Any],
    moment: ColumnElement[Any],
    identity: ColumnElement[Any],
    *,
    limit: int,
    after: str | None,
    newest_first: bool = False,
) -> list[Any]:
    """Up to limit + 1 rows of the query, by time; `identity` tells rows of the same moment apart.

    Raises InvalidRequest when the query has no row `after`, such as one deleted since.
    """
    check_limit(limit)
    if after is not None:
        last = (await connection.execute(query.with_only_columns(moment).where(identity == after))).scalar()
        if last is None:
            raise InvalidRequest(f"after: there is no {after!r} in this list (any more)", param="after")
        if newest_first:
            query = query.where(or_(moment < last, and_(moment == last, identity < after)))
        else:
            query = query.where(or_(moment > last, and_(moment == last, identity > after)))
    order = (moment.desc(), identity.desc()) if newest_first else (moment, identity)
    return list((await connection.execute(query.order_by(*order).limit(limit + 1))).all())


@dataclass(frozen=True)
class Between:
    """Where a page begins: behind the row `after`, or before the row `before`, which then ends it."""

    after: str | None = None
    before: str | None = None


async def rows_between(
    connection: AsyncConnection,
    query: Select[Any],
    moment: ColumnElement[Any],
    identity: ColumnElement[Any],
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
            connection, query, moment, identity, limit=limit, after=between.after, newest_first=newest_first
        )
    if between.after is not None:
        raise InvalidRequest("after and before exclude each other", param="before")
    rows = await rows_by_time(
        connection, query, moment, identity, limit=limit, after=between.before, newest_first=not newest_first
    )
    kept = rows[:limit][::-1]
    return kept + rows[limit:]
