"""Chat completions that their callers asked to keep; fulfils `api.responses.StoredCompletions`."""

import json
from typing import Any

from sqlalchemy import ColumnElement, insert, select, update

from llama_stack.api.common import Caller, Page
from llama_stack.api.responses import ListOrder, StoredCompletion
from llama_stack.errors import NotFound
from llama_stack.storage.columns import now
from llama_stack.storage.database import Database
from llama_stack.storage.listed import Listed, delete_listed
from llama_stack.storage.pages import check_limit, rows_by_time
from llama_stack.storage.tables import chat_completions


class CompletionStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, completion: StoredCompletion, caller: Caller) -> None:
        row = {
            "completion_id": completion.completion_id,
            "owner": caller.owner,
            "model": completion.model,
            "metadata": json.dumps(completion.metadata),
            "messages": json.dumps(completion.messages),
            "body": json.dumps(completion.body),
            "created_at": now(),
        }
        async with self._database.write() as connection:
            await connection.execute(insert(chat_completions).values(row))

    async def completion(self, completion_id: str, caller: Caller) -> StoredCompletion:
        async with self._database.read() as connection:
            row = (await connection.execute(select(chat_completions).where(_own(completion_id, caller)))).one_or_none()
        if row is None:
            raise _no_completion(completion_id)
        return _read(row)

    async def completions(
        self,
        caller: Caller,
        *,
        limit: int = 20,
        after: str | None = None,
        order: ListOrder = "asc",
        model: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Page[StoredCompletion]:
        query = select(chat_completions).where(chat_completions.c.owner == caller.owner)
        if model is not None:
            query = query.where(chat_completions.c.model == model)
        found: list[StoredCompletion] = []
        async with self._database.read() as connection:
            # Metadata is text to the database, so its pairs are looked for here, page by page.
            while len(found) <= limit:
                rows = await rows_by_time(
                    connection,
                    query,
                    _listed(caller),
                    limit=check_limit(limit),
                    after=after,
                    newest_first=order == "desc",
                )
                read = [_read(row) for row in rows]
                found.extend(one for one in read if (metadata or {}).items() <= one.metadata.items())
                if len(rows) <= limit:
                    break
                after = read[-1].completion_id
        entries = found[:limit]
        return Page(entries=entries, next_after=entries[-1].completion_id if len(found) > limit else None)

    async def update(self, completion_id: str, metadata: dict[str, str], caller: Caller) -> StoredCompletion:
        statement = update(chat_completions).where(_own(completion_id, caller))
        async with self._database.write() as connection:
            if (await connection.execute(statement.values(metadata=json.dumps(metadata)))).rowcount == 0:
                raise _no_completion(completion_id)
        return await self.completion(completion_id, caller)

    async def delete(self, completion_id: str, caller: Caller) -> None:
        async with self._database.write(erases=True) as connection:
            if await delete_listed(self._database, connection, _listed(caller), _own(completion_id, caller)) == 0:
                raise _no_completion(completion_id)


def _listed(caller: Caller) -> Listed:
    return Listed(
        chat_completions.c.created_at, chat_completions.c.completion_id, {chat_completions.c.owner: caller.owner}
    )


def _own(completion_id: str, caller: Caller) -> ColumnElement[bool]:
    return (chat_completions.c.completion_id == completion_id) & (chat_completions.c.owner == caller.owner)


def _read(row: Any) -> StoredCompletion:
    return StoredCompletion(
        completion_id=row.completion_id,
        model=row.model,
        metadata=json.loads(row.metadata),
        messages=json.loads(row.messages),
        body=json.loads(row.body),
    )


def _no_completion(completion_id: str) -> NotFound:
    return NotFound(
        f"there is no stored chat completion {completion_id!r}; only those made with store are kept",
        param="completion_id",
        code="completion_not_found",
    )
