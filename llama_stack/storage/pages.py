"""Pages of a list, by key: the next page begins after a row, not after a count, so rows are neither missed nor doubled
while others come and go.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, or_
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.errors import InvalidRequest

MAX_LIMIT = 1000


MAX_PASSED = 10_000


class Passed:
    """Where the last rows of pages stood, of this process and not for ever: who deletes what a list shows, or waits
    until it has another state, goes on behind a row that is no longer there.
    """

    def __init__(self) -> None:
        self._moments: OrderedDict[tuple[str, ...], datetime] = OrderedDict()

    def note(self, row: tuple[str, ...], moment: datetime) -> None:
        self._moments[row] = moment
        self._moments.move_to_end(row)
        if len(self._moments) > MAX_PASSED:
            self._moments.popitem(last=False)

    def moment(self, row: tuple[str, ...]) -> datetime | None:
        return self._moments.get(row)


@dataclass(frozen=True)
class PassedIn:
    """What was passed in one list. name: of the list, and whose it is."""

    rows: Passed
    name: tuple[str, ...]

    def note(self, identity: str, moment: datetime) -> None:
        self.rows.note((*self.name, identity), moment)

    def moment(self, identity: str) -> datetime | None:
        return self.rows.moment((*self.name, identity))


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
    passed: PassedIn,
    newest_first: bool = False,
) -> list[Any]:
    """Up to limit + 1 rows of the query, by time; `identity` tells rows of the same moment apart.

    Raises InvalidRequest when the query has no row `after`, and did not end a page with it lately.
    """
    check_limit(limit)
    if after is not None:
        last = (await connection.execute(query.with_only_columns(moment).where(identity == after))).scalar()
        if last is None:
            last = passed.moment(after)
        if last is None:
            raise InvalidRequest(f"after: there is no {after!r} in this list (any more)", param="after")
        if newest_first:
            query = query.where(or_(moment < last, and_(moment == last, identity < after)))
        else:
            query = query.where(or_(moment > last, and_(moment == last, identity > after)))
    order = (moment.desc(), identity.desc()) if newest_first else (moment, identity)
    rows = list((await connection.execute(query.order_by(*order).limit(limit + 1))).all())
    if len(rows) > limit:
        end = rows[limit - 1]._mapping
        passed.note(str(end[identity]), end[moment])
    return rows


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
    passed: PassedIn,
    newest_first: bool = False,
) -> list[Any]:
    """As `rows_by_time`, or the last rows in front of `before`; then, too, one row more tells that there are others.

    Raises InvalidRequest where both ends are given.
    """
    if between.before is None:
        return await rows_by_time(
            connection,
            query,
            moment,
            identity,
            limit=limit,
            after=between.after,
            passed=passed,
            newest_first=newest_first,
        )
    if between.after is not None:
        raise InvalidRequest("after and before exclude each other", param="before")
    rows = await rows_by_time(
        connection,
        query,
        moment,
        identity,
        limit=limit,
        after=between.before,
        passed=passed,
        newest_first=not newest_first,
    )
    kept = rows[:limit][::-1]
    return kept + rows[limit:]
