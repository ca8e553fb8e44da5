"""Every document's way into a memory bank: a row that is there before any work is done and says how it went.

A document is worked on under a lease, as a turn is (see `storage.turns`): what a process that died left behind is
found and done again. Each working has a revision of its own, so one that was overtaken cannot finish.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.memory import ChunkSizes, DocumentError, DocumentState, DocumentStatus, ListedOrder
from llama_stack.errors import NotFound
from llama_stack.storage.columns import new_id, now
from llama_stack.storage.database import Database
from llama_stack.storage.holders import is_dead, new_holder
from llama_stack.storage.listed import Listed, delete_listed
from llama_stack.storage.memory_tables import documents, file_batches
from llama_stack.storage.pages import Between, rows_between

LEASE = timedelta(seconds=60)
"""Renewed while a document is worked on."""
ROWS_A_STATEMENT = 500
HELD_LOOKED_AT = 64
"""Held documents, the oldest, whose holder may have died without its lease having run out."""
# In the words of the index over such rows, or the databases would not see that it serves.
_UNFINISHED = text("state IN ('pending', 'running')")


@dataclass(frozen=True)
class NewDocument:
    """What is known of a document before it is read."""

    document_id: str
    name: str = ""
    mime_type: str = ""
    metadata: JsonObject | None = None
    sizes: ChunkSizes | None = None
    file_id: str | None = None
    batch_id: str | None = None
    size_bytes: int = 0


@dataclass(frozen=True)
class Working:
    """The right to finish one document."""

    owner: str
    bank_id: str
    document_id: str
    revision: str


@dataclass(frozen=True)
class Ready:
    """What a finished document came to. warnings: what of it could not be read."""

    chunks: int
    size_bytes: int
    content_sha256: str
    mime_type: str
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Counts:
    """documents: how many are in each state. size_bytes: of the completed ones, as they came."""

    documents: dict[DocumentState, int]
    size_bytes: int


class DocumentStore:
    """Methods that take a caller see the caller's own rows only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, bank_id: str, new: Sequence[NewDocument], caller: Caller, *, is_held: bool) -> list[Working]:
        """Rows for the documents, in place of earlier ones with their ids.

        is_held: this process works on them at once; otherwise they wait for whoever claims them.
        """
        moment, workings = now(), []
        rows = []
        for position, one in enumerate(new):
            working = Working(caller.owner, bank_id, one.document_id, new_id("rev"))
            workings.append(working)
            # A list shows them in the order in which they were named.
            rows.append(_row_of(one, working, moment + timedelta(microseconds=position), is_held=is_held))
        async with self._database.write() as connection:
            await _leave_batches(connection, bank_id, new, caller)
            for first in range(0, len(rows), ROWS_A_STATEMENT):
                statement = self._database.insert(documents).values(rows[first : first + ROWS_A_STATEMENT])
                # A page is in the order of times, so a document that comes again comes last. What it came to before
                # lies in the bank until it is replaced, and the same content need not be embedded again.
                fresh = {
                    column.name: statement.excluded[column.name]
                    for column in documents.c
                    if not column.primary_key and column.name not in ("content_sha256", "chunks")
                }
                await connection.execute(
                    statement.on_conflict_do_update(index_elements=["owner", "bank_id", "document_id"], set_=fresh)
                )
        return workings

    async def claim(self, limit: int) -> list[tuple[Working, "StoredDocument"]]:
        """Documents of all owners that wait, or whose worker is gone; they are this process's to work on now."""
        moment = now()
        free = or_(
            documents.c.state == "pending",
            and_(
                documents.c.state == "running",
                or_(documents.c.held_until.is_(None), documents.c.held_until < moment),
            ),
        )
        held = and_(documents.c.state == "running", documents.c.held_until >= moment)
        oldest = (documents.c.created_at, documents.c.document_id)
        # Apart, so that however many documents are being worked on, those that wait behind them are seen.
        waiting = select(documents).where(_UNFINISHED, free).order_by(*oldest).limit(limit)
        working_on = select(documents).where(_UNFINISHED, held).order_by(*oldest).limit(HELD_LOOKED_AT)

        def seen(connection: Connection) -> list[Any]:
            return [*connection.execute(waiting).all(), *connection.execute(working_on).all()]

        rows = sorted(await self._database.reading(seen), key=lambda row: (row.created_at, row.document_id))
        claimed: list[tuple[Working, StoredDocument]] = []
        for row in rows:
            if len(claimed) == limit:
                break
            if row.state == "running" and not _is_abandoned(row, moment):
                continue
            working = Working(row.owner, row.bank_id, row.document_id, new_id("rev"))
            statement = (
                update(documents)
                .where(_this(working), documents.c.revision == row.revision, documents.c.state == row.state)
                .values(state="running", revision=working.revision, holder=new_holder(), held_until=moment + LEASE)
            )
            async with self._database.write() as connection:
                if (await connection.execute(statement)).rowcount == 1:
                    claimed.append((working, StoredDocument(row)))
        return claimed

    async def renew(self, workings: Sequence[Working]) -> None:
        """Hold on to the documents."""
        async with self._database.write() as connection:
            for working in workings:
                await connection.execute(update(documents).where(_held(working)).values(held_until=now() + LEASE))

    async def metadata_of(self, working: Working) -> JsonObject | None:
        """The document's metadata; None where this working is not to finish it, since it is deleted or begun anew."""
        query = select(documents.c.metadata).where(_held(working), documents.c.state == "running")
        found = await self._database.reading(lambda connection: connection.execute(query).scalar())
        return None if found is None else cast(JsonObject, json.loads(found))

    async def complete(self, workings: Sequence[tuple[Working, Ready]]) -> list[Working]:
        """Say that the documents are in their bank. Returns those that are no longer to be: their chunks must go."""
        overtaken = []
        async with self._database.write() as connection:
            for working, ready in workings:
                values = {
                    "state": "completed",
                    "chunks": ready.chunks,
                    "size_bytes": ready.size_bytes,
                    "content_sha256": ready.content_sha256,
                    "mime_type": ready.mime_type,
                    "warnings": json.dumps(list(ready.warnings), ensure_ascii=False) if ready.warnings else None,
                    "holder": None,
                    "held_until": None,
                }
                done = await connection.execute(update(documents).where(_held(working)).values(values))
                if done.rowcount == 0:
                    overtaken.append(working)
        return overtaken

    async def fail(self, working: Working, error: DocumentError) -> None:
        values = {
            "state": "failed",
            "error_code": error.code,
            "error_message": error.message,
            "holder": None,
            "held_until": None,
        }
        async with self._database.write() as connection:
            await connection.execute(update(documents).where(_held(working)).values(values))

    async def abandon(self, workings: Sequence[Working]) -> None:
        """Nobody finishes the documents: one of which nothing lies in its bank is forgotten, others are cancelled."""
        async with self._database.write(erases=True) as connection:
            for working in workings:
                begun = and_(_held(working), documents.c.state == "running")
                empty = and_(begun, documents.c.chunks == 0)
                await delete_listed(self._database, connection, _listed(working.bank_id, working.owner), empty)
                await connection.execute(
                    update(documents).where(begun).values(state="cancelled", holder=None, held_until=None)
                )

    async def give_back(self, workings: Sequence[Working]) -> None:
        """Let others work on the documents at once."""
        async with self._database.write() as connection:
            for working in workings:
                await connection.execute(
                    update(documents).where(_held(working)).values(state="pending", holder=None, held_until=None)
                )

    # --- reading ---------------------------------------------------------------------------------------------------

    async def document(self, bank_id: str, document_id: str, caller: Caller) -> "StoredDocument":
        """Raises NotFound."""
        query = select(documents).where(_of_bank(bank_id, caller), documents.c.document_id == document_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(
                f"there is no document {document_id!r} in {bank_id!r}", param="document_id", code="document_not_found"
            )
        return StoredDocument(row)

    async def some(self, bank_id: str, document_ids: Sequence[str], caller: Caller) -> "dict[str, StoredDocument]":
        """Those of the documents that are there, by id."""
        found: dict[str, StoredDocument] = {}
        async with self._database.read() as connection:
            for first in range(0, len(document_ids), ROWS_A_STATEMENT):
                part = document_ids[first : first + ROWS_A_STATEMENT]
                query = select(documents).where(_of_bank(bank_id, caller), documents.c.document_id.in_(part))
                found |= {row.document_id: StoredDocument(row) for row in (await connection.execute(query)).all()}
        return found

    async def page(
        self,
        bank_id: str,
        caller: Caller,
        *,
        limit: int,
        between: Between,
        order: ListedOrder,
        states: Sequence[DocumentState] | None = None,
        batch_id: str | None = None,
    ) -> Page[DocumentStatus]:
        query = select(documents).where(_of_bank(bank_id, caller))
        if states is not None:
            query = query.where(documents.c.state.in_([state.value for state in states]))
        if batch_id is not None:
            query = query.where(documents.c.batch_id == batch_id)
        async with self._database.read() as connection:
            rows = await rows_between(
                connection,
                query,
                _listed(bank_id, caller.owner),
                limit=limit,
                between=between,
                newest_first=order is ListedOrder.NEWEST_FIRST,
            )
        entries = [StoredDocument(row).status for row in rows[:limit]]
        return Page(entries=entries, next_after=entries[-1].document_id if len(rows) > limit else None)

    async def with_content(self, bank_id: str, content_sha256: str, caller: Caller) -> "list[StoredDocument]":
        """Documents whose chunks in the bank were made of this very content."""
        query = select(documents).where(
            _of_bank(bank_id, caller),
            documents.c.content_sha256 == content_sha256,
            documents.c.chunks > 0,
        )
        rows = await self._database.reading(lambda connection: connection.execute(query.limit(8)).all())
        return [StoredDocument(row) for row in rows]

    async def with_file(self, file_id: str, caller: Caller) -> "list[StoredDocument]":
        """The documents of all banks that are this file."""
        query = select(documents).where(documents.c.owner == caller.owner, documents.c.file_id == file_id)
        async with self._database.read() as connection:
            return [StoredDocument(row) for row in (await connection.execute(query)).all()]

    async def counts(
        self, bank_ids: Sequence[str], caller: Caller, *, batch_id: str | None = None
    ) -> dict[str, "Counts"]:
        """For each bank how many documents are in each state; of a batch, those too that were added again since."""
        query = select(documents.c.bank_id, documents.c.state, func.count(), func.sum(documents.c.size_bytes)).where(
            documents.c.owner == caller.owner, documents.c.bank_id.in_(bank_ids)
        )
        if batch_id is not None:
            query = query.where(documents.c.batch_id == batch_id)
        grouped = query.group_by(documents.c.bank_id, documents.c.state)
        rows = await self._database.reading(lambda connection: connection.execute(grouped).all())
        counted = {bank_id: Counts({}, 0) for bank_id in bank_ids}
        if batch_id is not None:
            bank_of, moved = await self._moved(batch_id, caller)
            if bank_of in counted:
                counted[bank_of] = Counts(moved, 0)
        for bank_id, state, count, size in rows:
            before = counted[bank_id]
            is_there = state == "completed"
            counted[bank_id] = Counts(
                {**before.documents, DocumentState(state): before.documents.get(DocumentState(state), 0) + int(count)},
                before.size_bytes + (int(size or 0) if is_there else 0),
            )
        return counted

    async def _moved(self, batch_id: str, caller: Caller) -> tuple[str | None, dict[DocumentState, int]]:
        """The batch's bank, and the states in which documents left it."""
        query = select(file_batches.c.bank_id, file_batches.c.moved).where(_batch(batch_id, caller))
        row = await self._database.reading(lambda connection: connection.execute(query).one_or_none())
        if row is None or row.moved is None:
            return None, {}
        return str(row.bank_id), {DocumentState(state): count for state, count in json.loads(row.moved).items()}

    async def set_metadata(self, bank_id: str, document_id: str, metadata: JsonObject, caller: Caller) -> None:
        own = and_(_of_bank(bank_id, caller), documents.c.document_id == document_id)
        async with self._database.write() as connection:
            await connection.execute(update(documents).where(own).values(metadata=json.dumps(metadata)))

    async def set_chunks(self, bank_id: str, chunks: Mapping[str, int], caller: Caller) -> None:
        """How many chunks the documents have, by their ids."""
        async with self._database.write() as connection:
            for document_id, count in chunks.items():
                own = and_(_of_bank(bank_id, caller), documents.c.document_id == document_id)
                await connection.execute(update(documents).where(own).values(chunks=count))

    async def forget(self, bank_id: str, document_ids: Sequence[str], caller: Caller) -> int:
        """Tells how many there were."""
        parts = [
            documents.c.document_id.in_(document_ids[first : first + ROWS_A_STATEMENT])
            for first in range(0, len(document_ids), ROWS_A_STATEMENT)
        ]
        async with self._database.write(erases=True) as connection:
            return await delete_listed(self._database, connection, _listed(bank_id, caller.owner), *parts)

    async def forget_all(self, bank_id: str, caller: Caller) -> None:
        async with self._database.write(erases=True) as connection:
            await connection.execute(delete(documents).where(_of_bank(bank_id, caller)))


class StoredDocument:
    """A row, read."""

    def __init__(self, row: Row[Any] | Mapping[str, Any]) -> None:
        self._row: Any = row

    @property
    def owner(self) -> str:
        return str(self._row.owner)

    @property
    def bank_id(self) -> str:
        return str(self._row.bank_id)

    @property
    def content_sha256(self) -> str | None:
        return None if self._row.content_sha256 is None else str(self._row.content_sha256)

    @property
    def status(self) -> DocumentStatus:
        row = self._row
        error = None
        if row.error_code is not None:
            error = DocumentError(code=row.error_code, message=row.error_message or "")
        return DocumentStatus(
            document_id=row.document_id,
            bank_id=row.bank_id,
            name=row.name,
            mime_type=row.mime_type,
            state=DocumentState(row.state),
            error=error,
            warnings=[] if row.warnings is None else json.loads(row.warnings),
            chunks=row.chunks,
            size_bytes=row.size_bytes,
            metadata=json.loads(row.metadata),
            sizes=None if row.sizes is None else ChunkSizes.model_validate_json(row.sizes),
            file_id=row.file_id,
            batch_id=row.batch_id,
            created_at=row.created_at,
        )


async def _leave_batches(connection: AsyncConnection, bank_id: str, new: Sequence[NewDocument], caller: Caller) -> None:
    """Note with the batches of documents that are added again how far those had come; what had not ended, ends now."""
    left: dict[str, Counter[str]] = {}
    entered = {one.batch_id for one in new if one.batch_id is not None}
    for first in range(0, len(new), ROWS_A_STATEMENT):
        part = [one.document_id for one in new[first : first + ROWS_A_STATEMENT]]
        query = select(documents.c.batch_id, documents.c.state, func.count()).where(
            _of_bank(bank_id, caller),
            documents.c.document_id.in_(part),
            documents.c.batch_id.is_not(None),
            documents.c.batch_id.not_in(entered),
        )
        for batch_id, state, count in await connection.execute(query.group_by(documents.c.batch_id, documents.c.state)):
            ended = DocumentState.CANCELLED.value if state in ("pending", "running") else state
            left.setdefault(batch_id, Counter())[ended] += count
    for batch_id, counts in sorted(left.items()):
        noted = select(file_batches.c.moved).where(_batch(batch_id, caller)).with_for_update()
        before = (await connection.execute(noted)).scalar_one_or_none()
        moved = counts + Counter(json.loads(before or "{}"))
        await connection.execute(update(file_batches).where(_batch(batch_id, caller)).values(moved=json.dumps(moved)))


def _row_of(new: NewDocument, working: Working, moment: datetime, *, is_held: bool) -> dict[str, Any]:
    return {
        "owner": working.owner,
        "bank_id": working.bank_id,
        "document_id": working.document_id,
        "revision": working.revision,
        "state": "running" if is_held else "pending",
        "name": new.name,
        "mime_type": new.mime_type,
        "error_code": None,
        "error_message": None,
        "warnings": None,
        "chunks": 0,
        "size_bytes": new.size_bytes,
        "content_sha256": None,
        "metadata": json.dumps(new.metadata or {}),
        "sizes": None if new.sizes is None else new.sizes.model_dump_json(),
        "file_id": new.file_id,
        "batch_id": new.batch_id,
        "holder": new_holder() if is_held else None,
        "held_until": moment + LEASE if is_held else None,
        "created_at": moment,
    }


def _is_abandoned(row: Any, moment: datetime) -> bool:
    return row.held_until is None or row.held_until < moment or is_dead(row.holder or "")


def _of_bank(bank_id: str, caller: Caller) -> ColumnElement[bool]:
    return and_(documents.c.owner == caller.owner, documents.c.bank_id == bank_id)


def _listed(bank_id: str, owner: str) -> Listed:
    among = {documents.c.owner: owner, documents.c.bank_id: bank_id}
    return Listed(documents.c.created_at, documents.c.document_id, among)


def _batch(batch_id: str, caller: Caller) -> ColumnElement[bool]:
    return and_(file_batches.c.owner == caller.owner, file_batches.c.batch_id == batch_id)


def _this(working: Working) -> ColumnElement[bool]:
    return and_(
        documents.c.owner == working.owner,
        documents.c.bank_id == working.bank_id,
        documents.c.document_id == working.document_id,
    )


def _held(working: Working) -> ColumnElement[bool]:
    return and_(_this(working), documents.c.revision == working.revision)
