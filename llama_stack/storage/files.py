"""What is known of files. A file that expired, or is being deleted, is hidden from its owner at once; its row stays
until its bytes are removed.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from llama_stack.api.common import Caller, Page
from llama_stack.api.files import MAX_FILES_LISTED, File, FilePurpose
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.storage.database import Database
from llama_stack.storage.listed import Listed, delete_listed
from llama_stack.storage.pages import MAX_LIMIT, rows_by_time
from llama_stack.storage.tables import files


class FileStore:
    """Every method sees the caller's own files only. moment: what time it is; files are hidden once they expired."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, file: File, caller: Caller) -> None:
        row = {**file.model_dump(exclude={"status"}), "purpose": file.purpose.value, "owner": caller.owner}
        async with self._database.write() as connection:
            await connection.execute(insert(files).values(row))

    async def file(self, file_id: str, moment: datetime, caller: Caller) -> File:
        async with self._database.read() as connection:
            return await _shown(connection, file_id, moment, caller)

    async def page(
        self,
        moment: datetime,
        caller: Caller,
        *,
        limit: int,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: FilePurpose | None = None,
    ) -> Page[File]:
        if not 1 <= limit <= MAX_FILES_LISTED:
            raise InvalidRequest(f"limit: must be 1 to {MAX_FILES_LISTED}, not {limit}", param="limit")
        query = select(files).where(files.c.owner == caller.owner, _is_there(moment))
        if purpose is not None:
            query = query.where(files.c.purpose == purpose.value)
        found: list[File] = []
        has_more = True
        async with self._database.read() as connection:
            while has_more and len(found) < limit:
                most = min(limit - len(found), MAX_LIMIT)
                rows = await rows_by_time(
                    connection,
                    query,
                    _listed(caller),
                    limit=most,
                    after=after,
                    newest_first=order == "desc",
                )
                has_more = len(rows) > most
                found.extend(_read(row) for row in rows[:most])
                after = found[-1].file_id if found else None
        return Page(entries=found, next_after=after if has_more else None)

    async def hide(self, file_id: str, moment: datetime, caller: Caller) -> File:
        """Let the file expire now; returns what it was. What is hidden is left to be removed."""
        async with self._database.write() as connection:
            file = await _shown(connection, file_id, moment, caller)
            await connection.execute(update(files).where(_own(file_id, caller)).values(expires_at=moment))
        return file

    async def remove(self, file_id: str, caller: Caller) -> None:
        """Forget the file, if it is known."""
        async with self._database.write(erases=True) as connection:
            await delete_listed(self._database, connection, _listed(caller), _own(file_id, caller))


class FileHousekeeping:
    """What must be known of everybody's files to clear up after them; shown to no caller."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expired(
        self, moment: datetime, *, after: str | None = None, limit: int = 100
    ) -> list[tuple[File, Caller]]:
        """Files that expired before the moment, each with its owner, by id."""
        query = select(files).where(files.c.expires_at <= moment)
        if after is not None:
            query = query.where(files.c.file_id > after)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(files.c.file_id).limit(limit))).all()
        return [(_read(row), Caller(owner=row.owner)) for row in rows]

    async def known(self, file_ids: Collection[str]) -> set[str]:
        """Those of the ids that a row has."""
        async with self._database.read() as connection:
            return set(
                (await connection.execute(select(files.c.file_id).where(files.c.file_id.in_(file_ids)))).scalars()
            )


def _listed(caller: Caller) -> Listed:
    return Listed(files.c.created_at, files.c.file_id, {files.c.owner: caller.owner})


def _own(file_id: str, caller: Caller) -> ColumnElement[bool]:
    return (files.c.file_id == file_id) & (files.c.owner == caller.owner)


def _is_there(moment: datetime) -> ColumnElement[bool]:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > moment)


async def _shown(connection: AsyncConnection, file_id: str, moment: datetime, caller: Caller) -> File:
    row = (await connection.execute(select(files).where(_own(file_id, caller), _is_there(moment)))).one_or_none()
    if row is None:
        raise NotFound(
            f"there is no file {file_id!r} (any more); GET /v1/files lists those there are",
            param="file_id",
            code="file_not_found",
        )
    return _read(row)


def _read(row: Any) -> File:
    return File(
        file_id=row.file_id,
        filename=row.filename,
        purpose=FilePurpose(row.purpose),
        mime_type=row.mime_type,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
