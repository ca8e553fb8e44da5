"""What is kept about a caller's memory banks beside their registration, and the batches of files attached to them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, delete, insert, select, update

from llama_stack.api.common import Caller, Page
from llama_stack.api.memory import ListedOrder
from llama_stack.errors import NotFound
from llama_stack.storage.columns import new_id, now
from llama_stack.storage.database import Database
from llama_stack.storage.listed import Listed, delete_listed
from llama_stack.storage.memory_tables import banks, documents, file_batches
from llama_stack.storage.pages import Between, rows_between

ACTIVITY_GRAIN = timedelta(minutes=1)
"""Reads of a bank are noted no oftener than this: expiry counts days, and a search need not write."""
# Read with every search; making the statement costs more than running it.
_BANK = select(banks).where(banks.c.owner == bindparam("owner"), banks.c.bank_id == bindparam("bank_id"))


@dataclass(frozen=True)
class StoredBank:
    """bank_id: identifier of the registered resource."""

    bank_id: str
    name: str
    metadata: dict[str, str]
    expiry_days: int | None
    created_at: datetime
    last_active_at: datetime
    owner: str

    @property
    def expires_at(self) -> datetime | None:
        return None if self.expiry_days is None else self.last_active_at + timedelta(days=self.expiry_days)


@dataclass(frozen=True)
class StoredBatch:
    batch_id: str
    bank_id: str
    is_cancelled: bool
    created_at: datetime


class BankStore:
    """Every method sees the caller's own rows only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        bank_id: str,
        caller: Caller,
        *,
        kind: str,
        name: str,
        metadata: Mapping[str, str],
        expiry_days: int | None,
    ) -> StoredBank:
        """Keep a bank; one that is there already is left as it is and returned."""
        moment = now()
        row = {
            "owner": caller.owner,
            "bank_id": bank_id,
            "kind": kind,
            "name": name,
            "metadata": json.dumps(dict(metadata)),
            "expiry_days": expiry_days,
            "created_at": moment,
            "last_active_at": moment,
        }
        async with self._database.write() as connection:
            await connection.execute(self._database.insert(banks).values(row).on_conflict_do_nothing())
        return await self.bank(bank_id, caller)

    async def bank(self, bank_id: str, caller: Caller) -> StoredBank:
        """Raises NotFound."""
        wanted = {"owner": caller.owner, "bank_id": bank_id}
        row = await self._database.reading(lambda connection: connection.execute(_BANK, wanted).one_or_none())
        if row is None:
            raise NotFound(f"nothing is kept about a memory bank {bank_id!r}", param="bank_id")
        return _bank_of(row)

    async def page(
        self, caller: Caller, *, limit: int, between: Between, order: ListedOrder, kind: str | None = None
    ) -> Page[StoredBank]:
        query = select(banks).where(banks.c.owner == caller.owner)
        if kind is not None:
            query = query.where(banks.c.kind == kind)
        async with self._database.read() as connection:
            rows = await rows_between(
                connection,
                query,
                _listed(caller),
                limit=limit,
                between=between,
                newest_first=order is ListedOrder.NEWEST_FIRST,
            )
        entries = [_bank_of(row) for row in rows[:limit]]
        return Page(entries=entries, next_after=entries[-1].bank_id if len(rows) > limit else None)

    async def update(self, bank_id: str, values: Mapping[str, Any], caller: Caller) -> StoredBank:
        """values: of `name`, `metadata`, `expiry_days`. Raises NotFound."""
        row = {**values, "last_active_at": now()}
        if "metadata" in row:
            row["metadata"] = json.dumps(row["metadata"])
        statement = update(banks).where(banks.c.owner == caller.owner, banks.c.bank_id == bank_id).values(row)
        async with self._database.write() as connection:
            await connection.execute(statement)
        return await self.bank(bank_id, caller)

    async def note_activity(self, bank: StoredBank, caller: Caller) -> bool:
        """Whether it was noted now, not lately."""
        moment = now()
        if moment - bank.last_active_at < ACTIVITY_GRAIN:
            return False
        own = and_(banks.c.owner == caller.owner, banks.c.bank_id == bank.bank_id)
        async with self._database.write() as connection:
            await connection.execute(update(banks).where(own).values(last_active_at=moment))
        return True

    async def forget(self, bank_id: str, caller: Caller) -> None:
        """The bank, its batches and what is known of its documents. An unknown bank is no error."""
        async with self._database.write(erases=True) as connection:
            for table in (documents, file_batches):
                await connection.execute(delete(table).where(table.c.owner == caller.owner, table.c.bank_id == bank_id))
            await delete_listed(self._database, connection, _listed(caller), banks.c.bank_id == bank_id)

    async def expired(self, limit: int = 100) -> list[StoredBank]:
        """Banks of all owners whose time has run out and that hold documents still."""
        query = select(banks).where(
            banks.c.expiry_days.is_not(None),
            select(documents.c.document_id)
            .where(documents.c.owner == banks.c.owner, documents.c.bank_id == banks.c.bank_id)
            .exists(),
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        moment = now()
        found = [_bank_of(row) for row in rows]
        return [bank for bank in found if bank.expires_at is not None and bank.expires_at <= moment][:limit]

    # --- batches ---------------------------------------------------------------------------------------------------

    async def create_batch(self, bank_id: str, caller: Caller) -> StoredBatch:
        batch = StoredBatch(new_id("vsfb"), bank_id, False, now())
        row = {
            "owner": caller.owner,
            "batch_id": batch.batch_id,
            "bank_id": bank_id,
            "is_cancelled": False,
            "created_at": batch.created_at,
        }
        async with self._database.write() as connection:
            await connection.execute(insert(file_batches).values(row))
        return batch

    async def batch(self, bank_id: str, batch_id: str, caller: Caller) -> StoredBatch:
        """Raises NotFound."""
        query = select(file_batches).where(
            file_batches.c.owner == caller.owner,
            file_batches.c.bank_id == bank_id,
            file_batches.c.batch_id == batch_id,
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"there is no file batch {batch_id!r} of {bank_id!r}", param="batch_id")
        return StoredBatch(row.batch_id, row.bank_id, bool(row.is_cancelled), row.created_at)

    async def cancel_batch(self, batch_id: str, caller: Caller) -> None:
        """What waits is cancelled; a batch that has ended is left as it is."""
        own = and_(file_batches.c.owner == caller.owner, file_batches.c.batch_id == batch_id)
        of_batch = and_(documents.c.owner == caller.owner, documents.c.batch_id == batch_id)
        unfinished = select(documents.c.document_id).where(of_batch, documents.c.state.in_(["pending", "running"]))
        async with self._database.write() as connection:
            if (await connection.execute(unfinished.limit(1))).first() is None:
                return
            await connection.execute(update(file_batches).where(own).values(is_cancelled=True))
            await connection.execute(
                update(documents).where(of_batch, documents.c.state == "pending").values(state="cancelled")
            )


def _listed(caller: Caller) -> Listed:
    return Listed(banks.c.created_at, banks.c.bank_id, {banks.c.owner: caller.owner})


def _bank_of(row: Any) -> StoredBank:
    return StoredBank(
        bank_id=row.bank_id,
        name=row.name,
        metadata=json.loads(row.metadata),
        expiry_days=row.expiry_days,
        created_at=row.created_at,
        last_active_at=row.last_active_at,
        owner=row.owner,
    )
