"""Lists that are read page by page while rows of them are deleted.

A page begins behind a row that its reader names, also where that row is gone: where a deleted row stood is kept for a
while, in the database, so that every server over it goes on at the same place. Of the row itself nothing is kept; its
id is there as a digest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.storage.columns import now
from llama_stack.storage.database import Database
from llama_stack.storage.tables import passed_rows

KEPT_FOR = timedelta(hours=1)
MOST_KEPT = 100_000
"""Of all lists together; the newest."""


@dataclass(frozen=True)
class Listed:
    """Rows of a table, in the order of their moments; of the same moment, in that of their ids.

    among: what the rows of this list have in common. It says at least whose they are.
    """

    moment: Column[Any]
    identity: Column[Any]
    among: Mapping[Column[Any], str]

    @property
    def rows(self) -> ColumnElement[bool]:
        return and_(*(column == value for column, value in self.among.items()))

    @property
    def owner(self) -> str:
        return next(value for column, value in self.among.items() if column.name == "owner")

    def place(self, identity: str) -> str:
        parts = [str(self.moment.table), *self.among.values(), identity]
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


async def delete_listed(
    database: Database, connection: AsyncConnection, listed: Listed, *conditions: ColumnElement[bool]
) -> int:
    """Delete the rows of the list that fulfil one of the conditions, condition by condition; tells how many."""
    moment, deleted = now(), 0
    for condition in conditions:
        wanted = and_(listed.rows, condition)
        # In one order always, or two that delete the same rows could wait for each other.
        query = select(listed.identity, listed.moment).where(wanted).order_by(listed.identity)
        places = [
            {"owner": listed.owner, "place": listed.place(identity), "moment": stood, "left_at": moment}
            for identity, stood in await connection.execute(query)
        ]
        if places:
            new = database.insert(passed_rows).values(places)
            values = {"moment": new.excluded.moment, "left_at": new.excluded.left_at}
            await connection.execute(new.on_conflict_do_update(index_elements=["place"], set_=values))
        deleted += (await connection.execute(delete(listed.identity.table).where(wanted))).rowcount
    await _forget_old_places(connection)
    return deleted


async def _forget_old_places(connection: AsyncConnection) -> None:
    left_at = passed_rows.c.left_at
    too_many = select(left_at).order_by(left_at.desc()).offset(MOST_KEPT).limit(1).scalar_subquery()
    old = select(passed_rows.c.place).where(or_(left_at < now() - KEPT_FOR, left_at <= too_many))
    # What another transaction forgets at this moment is left to it.
    await connection.execute(delete(passed_rows).where(passed_rows.c.place.in_(old.with_for_update(skip_locked=True))))
