"""Deletions under way in memory banks: a row that is there before anything goes, and goes last.

A document's row lies in this database and its chunks in an index, so no transaction takes both. A process that dies
between the two, or an index that cannot be reached, would leave chunks that are found though nobody can delete them any
more. Whoever finds the row of a deletion that nobody works on finishes it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, insert, select, update

from llama_stack.api.common import Caller
from llama_stack.api.resources import MemoryBank
from llama_stack.storage.columns import as_json, new_id, now
from llama_stack.storage.database import Database
from llama_stack.storage.holders import is_dead, new_holder
from llama_stack.storage.memory_tables import deletions

LEASE = timedelta(seconds=60)
"""After it, a deletion that has not ended is tried again: by its own process where it failed, else by any other."""


@dataclass(frozen=True)
class Deletion:
    """document_ids: those that go; None is the whole bank."""

    deletion_id: str
    owner: str
    bank: MemoryBank
    document_ids: list[str] | None
    begun_at: datetime


class DeletionStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, bank: MemoryBank, document_ids: Sequence[str] | None, caller: Caller) -> Deletion:
        """Note what is about to go, held by this process."""
        moment = now()
        ids = None if document_ids is None else list(document_ids)
        deletion = Deletion(new_id("del"), caller.owner, bank, ids, moment)
        row = {
            "owner": caller.owner,
            "deletion_id": deletion.deletion_id,
            "bank_id": bank.identifier,
            "bank": as_json(bank),
            "document_ids": None if ids is None else json.dumps(ids),
            "holder": new_holder(),
            "held_until": moment + LEASE,
            "created_at": moment,
        }
        async with self._database.write() as connection:
            await connection.execute(insert(deletions).values(row))
        return deletion

    async def end(self, deletion: Deletion) -> None:
        """Nothing of it is left."""
        async with self._database.write(erases=True) as connection:
            await connection.execute(delete(deletions).where(_this(deletion.owner, deletion.deletion_id)))

    async def of_bank(self, bank_id: str, caller: Caller) -> list[Deletion]:
        """Those of the caller's whole bank, whoever works on them."""
        own = and_(deletions.c.owner == caller.owner, deletions.c.bank_id == bank_id)
        query = select(deletions).where(own, deletions.c.document_ids.is_(None))
        rows = await self._database.reading(lambda connection: connection.execute(query).all())
        return [_deletion_of(row) for row in rows]

    async def claim(self, limit: int) -> list[Deletion]:
        """Deletions of all owners that nobody works on, the oldest first; they are this process's now."""
        moment = now()
        query = select(deletions).order_by(deletions.c.created_at, deletions.c.deletion_id).limit(limit)
        rows = await self._database.reading(lambda connection: connection.execute(query).all())
        claimed = []
        for row in rows:
            if row.held_until >= moment and not is_dead(row.holder):
                continue
            statement = (
                update(deletions)
                .where(_this(row.owner, row.deletion_id), deletions.c.holder == row.holder)
                .values(holder=new_holder(), held_until=moment + LEASE)
            )
            async with self._database.write() as connection:
                if (await connection.execute(statement)).rowcount == 1:
                    claimed.append(_deletion_of(row))
        return claimed


def _this(owner: str, deletion_id: str) -> ColumnElement[bool]:
    return and_(deletions.c.owner == owner, deletions.c.deletion_id == deletion_id)


def _deletion_of(row: Any) -> Deletion:
    return Deletion(
        deletion_id=row.deletion_id,
        owner=row.owner,
        bank=MemoryBank.model_validate_json(row.bank),
        document_ids=None if row.document_ids is None else json.loads(row.document_ids),
        begun_at=row.created_at,
    )
