"""Conversations and their items, in the order in which they were added."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.api.common import Caller, JsonObject, Page
from llama_stack.api.responses import Conversation, ListOrder
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack.storage.columns import new_id, now
from llama_stack.storage.database import Database
from llama_stack.storage.pages import check_limit
from llama_stack.storage.responses import delete_unused_session, insert_session
from llama_stack.storage.tables import conversation_items, conversations


class ConversationStore:
    """Every method sees the caller's own rows only: another owner's id is NotFound."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, items: Sequence[JsonObject], metadata: dict[str, str], caller: Caller) -> Conversation:
        created_at, conversation_id, session_id = now(), new_id("conv"), new_id("session")
        row = {
            "conversation_id": conversation_id,
            "owner": caller.owner,
            "session_id": session_id,
            "metadata": json.dumps(metadata),
            "created_at": created_at,
        }
        async with self._database.write() as connection:
            await connection.run_sync(
                lambda inner: insert_session(self._database, inner, session_id, created_at, caller)
            )
            await connection.execute(insert(conversations).values(row))
            await _insert_items(connection, conversation_id, items, caller)
        return Conversation(conversation_id=conversation_id, metadata=metadata, created_at=int(created_at.timestamp()))

    async def conversation(self, conversation_id: str, caller: Caller) -> Conversation:
        async with self._database.read() as connection:
            return _read(await _row(connection, conversation_id, caller))

    async def session_id(self, conversation_id: str, caller: Caller) -> str:
        """The session whose turns are the conversation's responses."""
        async with self._database.read() as connection:
            return str((await _row(connection, conversation_id, caller)).session_id)

    async def update(self, conversation_id: str, metadata: dict[str, str], caller: Caller) -> Conversation:
        statement = update(conversations).where(_own(conversation_id, caller)).values(metadata=json.dumps(metadata))
        async with self._database.write() as connection:
            await connection.execute(statement)
            return _read(await _row(connection, conversation_id, caller))

    async def delete(self, conversation_id: str, caller: Caller) -> None:
        """Its responses stay; they can be continued by their ids."""
        async with self._database.write(erases=True) as connection:
            row = await _row(connection, conversation_id, caller)
            await connection.execute(delete(conversations).where(_own(conversation_id, caller)))
            await delete_unused_session(connection, row.session_id)

    # --- items -----------------------------------------------------------------------------------------------------

    async def add_items(self, conversation_id: str, items: Sequence[JsonObject], caller: Caller) -> None:
        """Raises Conflict for an item id that the conversation holds already."""
        try:
            async with self._database.write() as connection:
                await _row(connection, conversation_id, caller, is_locked=True)
                await _insert_items(connection, conversation_id, items, caller)
        except IntegrityError as error:
            raise Conflict("items: one of these ids is in the conversation already", param="items") from error

    async def add_missing_items(self, conversation_id: str, items: Sequence[JsonObject], caller: Caller) -> None:
        """Add those of the items that the conversation does not hold yet."""
        held = select(conversation_items.c.item_id).where(_items_of(conversation_id, caller))
        async with self._database.write() as connection:
            await _row(connection, conversation_id, caller, is_locked=True)
            known = set((await connection.execute(held)).scalars())
            missing = {item["id"]: item for item in items if item["id"] not in known}
            await _insert_items(connection, conversation_id, list(missing.values()), caller)

    async def all_items(self, conversation_id: str, caller: Caller) -> list[JsonObject]:
        """Oldest first."""
        query = select(conversation_items.c.body).where(_items_of(conversation_id, caller))
        async with self._database.read() as connection:
            await _row(connection, conversation_id, caller)
            rows = (await connection.execute(query.order_by(conversation_items.c.position))).scalars().all()
        return [json.loads(body) for body in rows]

    async def items(
        self, conversation_id: str, caller: Caller, *, limit: int, after: str | None, order: ListOrder
    ) -> Page[JsonObject]:
        position = conversation_items.c.position
        own = _items_of(conversation_id, caller)
        query = select(conversation_items).where(own)
        async with self._database.read() as connection:
            await _row(connection, conversation_id, caller)
            if after is not None:
                last = (
                    await connection.execute(select(position).where(own, conversation_items.c.item_id == after))
                ).scalar()
                if last is None:
                    raise InvalidRequest(f"after: there is no {after!r} in this list (any more)", param="after")
                query = query.where(position < last if order == "desc" else position > last)
            query = query.order_by(position.desc() if order == "desc" else position).limit(check_limit(limit) + 1)
            rows = (await connection.execute(query)).all()
        entries = [json.loads(row.body) for row in rows[:limit]]
        return Page(entries=entries, next_after=rows[limit - 1].item_id if len(rows) > limit else None)

    async def item(self, conversation_id: str, item_id: str, caller: Caller) -> JsonObject:
        query = select(conversation_items.c.body).where(
            _items_of(conversation_id, caller), conversation_items.c.item_id == item_id
        )
        async with self._database.read() as connection:
            await _row(connection, conversation_id, caller)
            body = (await connection.execute(query)).scalar()
        if body is None:
            raise _no_item(conversation_id, item_id)
        item: JsonObject = json.loads(body)
        return item

    async def delete_item(self, conversation_id: str, item_id: str, caller: Caller) -> Conversation:
        statement = delete(conversation_items).where(
            _items_of(conversation_id, caller), conversation_items.c.item_id == item_id
        )
        async with self._database.write(erases=True) as connection:
            row = await _row(connection, conversation_id, caller)
            if (await connection.execute(statement)).rowcount == 0:
                raise _no_item(conversation_id, item_id)
        return _read(row)


async def _insert_items(
    connection: AsyncConnection, conversation_id: str, items: Sequence[JsonObject], caller: Caller
) -> None:
    if not items:
        return
    last = select(func.max(conversation_items.c.position)).where(
        conversation_items.c.conversation_id == conversation_id
    )
    position = (await connection.execute(last)).scalar()
    first = 0 if position is None else position + 1
    rows = [
        {
            "conversation_id": conversation_id,
            "position": first + number,
            "owner": caller.owner,
            "item_id": item["id"],
            "body": json.dumps(item),
        }
        for number, item in enumerate(items)
    ]
    await connection.execute(insert(conversation_items), rows)


async def _row(connection: AsyncConnection, conversation_id: str, caller: Caller, *, is_locked: bool = False) -> Any:
    query = select(conversations).where(_own(conversation_id, caller))
    row = (await connection.execute(query.with_for_update() if is_locked else query)).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no conversation {conversation_id!r}", param="conversation", code="conversation_not_found"
        )
    return row


def _read(row: Any) -> Conversation:
    return Conversation(
        conversation_id=row.conversation_id,
        metadata=json.loads(row.metadata),
        created_at=int(row.created_at.timestamp()),
    )


def _own(conversation_id: str, caller: Caller) -> ColumnElement[bool]:
    return (conversations.c.conversation_id == conversation_id) & (conversations.c.owner == caller.owner)


def _items_of(conversation_id: str, caller: Caller) -> ColumnElement[bool]:
    return (conversation_items.c.conversation_id == conversation_id) & (conversation_items.c.owner == caller.owner)


def _no_item(conversation_id: str, item_id: str) -> NotFound:
    return NotFound(f"conversation {conversation_id!r} has no item {item_id!r}", param="item_id", code="item_not_found")
