"""Files over a folder and the stack's database; fulfils `api.files.LocalFiles`."""

import asyncio
import logging
import mimetypes
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from llama_stack.api.common import Caller, Page
from llama_stack.api.files import File, FileDeleted, FilePurpose, NewFile, file_too_large
from llama_stack.errors import (
    ConfigError,
    InvalidRequest,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    StackError,
)
from llama_stack.files.folder import FileFolder, IncomingContent, read_piece
from llama_stack.storage.columns import now
from llama_stack.storage.database import Database
from llama_stack.storage.files import FileHousekeeping, FileStore

logger = logging.getLogger(__name__)

MAX_INCOMING = 64
"""Files that one process receives at once."""
SWEEP_EVERY_S = 60.0
_WRITE_BYTES = 1024 * 1024
_SWEEP_ROWS = 100


class FileService:
    """Get one from `open_files`."""

    def __init__(
        self, folder: FileFolder, database: Database, *, max_file_bytes: int, clock: Callable[[], datetime] = now
    ) -> None:
        self._folder = folder
        self._store = FileStore(database)
        self._housekeeping = FileHousekeeping(database)
        self._max_file_bytes = max_file_bytes
        self._clock = clock
        self._callbacks: list[FileDeleted] = []
        self._incoming = 0

    @property
    def max_file_bytes(self) -> int:
        return self._max_file_bytes

    def on_delete(self, callback: FileDeleted) -> None:
        self._callbacks.append(callback)

    # --- making ----------------------------------------------------------------------------------------------------

    async def create(self, content: AsyncIterable[bytes], about: NewFile, caller: Caller) -> File:
        async with self.receive() as incoming:
            async for chunk in content:
                await incoming.write(chunk)
            return await incoming.keep(about, caller)

    @asynccontextmanager
    async def receive(self) -> AsyncIterator["Incoming"]:
        if self._incoming >= MAX_INCOMING:
            raise RateLimited(f"{MAX_INCOMING} files are being received; send this one again later", retry_after_s=5)
        self._incoming += 1
        try:
            file_id = f"file-{secrets.token_hex(16)}"
            with _folder_errors():
                content = await asyncio.to_thread(self._folder.receive, file_id)
            incoming = Incoming(file_id, content, self._store, self._max_file_bytes, self._clock)
            try:
                yield incoming
            finally:
                if not incoming.is_kept:
                    # Shielded, so that whoever is cancelled a second time still leaves nothing behind.
                    await asyncio.shield(incoming.discard())
        finally:
            self._incoming -= 1

    # --- reading ---------------------------------------------------------------------------------------------------

    async def file(self, file_id: str, caller: Caller) -> File:
        return await self._store.file(file_id, self._clock(), caller)

    async def page(
        self,
        caller: Caller,
        *,
        limit: int = 1000,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: FilePurpose | None = None,
    ) -> Page[File]:
        return await self._store.page(self._clock(), caller, limit=limit, after=after, order=order, purpose=purpose)

    async def path(self, file_id: str, caller: Caller) -> Path:
        await self.file(file_id, caller)
        path = self._folder.path(file_id)
        if not await asyncio.to_thread(path.is_file):
            # Deleted a moment ago, or taken from the folder by somebody else.
            raise NotFound(f"the content of file {file_id!r} is gone", param="file_id", code="file_not_found")
        return path

    async def content(self, file_id: str, caller: Caller) -> AsyncGenerator[bytes, None]:
        path = await self.path(file_id, caller)
        with _folder_errors():
            file = await asyncio.to_thread(path.open, "rb")
            try:
                while piece := await asyncio.to_thread(read_piece, file):
                    yield piece
            finally:
                file.close()

    # --- going -----------------------------------------------------------------------------------------------------

    async def delete(self, file_id: str, caller: Caller) -> None:
        file = await self._store.hide(file_id, self._clock(), caller)
        await self._remove(file, caller)

    async def _remove(self, file: File, caller: Caller) -> None:
        """The row goes last: what fails, or is cut off, is done again by the next sweep."""
        try:
            for callback in self._callbacks:
                await callback(file, caller)
            await asyncio.to_thread(self._folder.remove, file.file_id)
            await self._store.remove(file.file_id, caller)
        except Exception as error:  # of services that this one does not know; a fault of theirs must not end the sweeps
            is_fault = not isinstance(error, StackError | OSError)
            logger.warning("file %s is deleted, but not yet removed: %s", file.file_id, error, exc_info=is_fault)

    async def sweep(self) -> None:
        """Remove what has expired."""
        after: str | None = None
        while rows := await self._housekeeping.expired(self._clock(), after=after, limit=_SWEEP_ROWS):
            for file, owner in rows:
                await self._remove(file, owner)
            after = rows[-1][0].file_id

    async def clear_up(self) -> None:
        """Remove what processes that died left half done."""
        try:
            for abandoned in await asyncio.to_thread(self._folder.take_abandoned):
                try:
                    known: set[str] = set()
                    for start in range(0, len(abandoned.file_ids), _SWEEP_ROWS):
                        known |= await self._housekeeping.known(abandoned.file_ids[start : start + _SWEEP_ROWS])
                    await asyncio.to_thread(abandoned.clear_up, known)
                finally:
                    abandoned.leave()
        except OSError as error:
            logger.warning("what an earlier process was receiving cannot be cleared up: %s", error)

    async def keep_clean(self) -> None:
        """Sweep now and from time to time."""
        while True:
            try:
                await self.sweep()
            except StackError as error:
                logger.warning("cannot look for expired files: %s", error.message)
            await asyncio.sleep(SWEEP_EVERY_S)


class Incoming:
    """A file that is being received; fulfils `api.files.IncomingFile`."""

    def __init__(
        self,
        file_id: str,
        content: IncomingContent,
        store: FileStore,
        max_file_bytes: int,
        clock: Callable[[], datetime],
    ) -> None:
        self.is_kept = False
        self._file_id = file_id
        self._content = content
        self._store = store
        self._max_file_bytes = max_file_bytes
        self._clock = clock
        self._size_bytes = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_in_doubt: Caller | None = None

    async def write(self, chunk: bytes) -> None:
        self._size_bytes += len(chunk)
        if self._size_bytes > self._max_file_bytes:
            raise file_too_large(self._max_file_bytes)
        self._waiting.append(chunk)
        self._waiting_bytes += len(chunk)
        # Each change to a thread costs as much as writing many small pieces.
        if self._waiting_bytes >= _WRITE_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
        with _folder_errors():
            await asyncio.to_thread(self._content.write, pieces)

    async def keep(self, about: NewFile, caller: Caller) -> File:
        if self._size_bytes == 0:
            raise InvalidRequest("file: is empty; send a file with at least one byte", param="file", code="empty_file")
        await self._flush()
        with _folder_errors():
            sha256 = await asyncio.to_thread(self._content.place)
        created_at = self._clock()
        lifetime = about.expires_after_s
        file = File(
            file_id=self._file_id,
            filename=about.filename,
            purpose=about.purpose,
            mime_type=about.mime_type or guess_mime_type(about.filename),
            size_bytes=self._size_bytes,
            sha256=sha256,
            created_at=created_at,
            expires_at=None if lifetime is None else created_at + timedelta(seconds=lifetime),
        )
        self._is_in_doubt = caller
        await self._store.add(file, caller)
        self.is_kept = True
        # A mark that stays does no harm: whoever finds it finds that the file is known.
        with suppress(OSError):
            await asyncio.to_thread(self._content.settle)
        return file

    async def discard(self) -> None:
        try:
            if self._is_in_doubt is not None:
                # Cut off while its row was written: nobody knows whether it was.
                await self._store.remove(self._file_id, self._is_in_doubt)
            await asyncio.to_thread(self._content.discard)
        except (StackError, OSError) as error:
            # Its mark stays, so the next process that opens the folder clears it up.
            logger.warning("file %s was not kept, but something of it is left: %s", self._file_id, error)


def guess_mime_type(filename: str) -> str:
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"


@contextmanager
def _folder_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ProviderUnavailable(
            f"the folder of files cannot be used: {error.strerror or error}; see storage.files in the distribution"
        ) from error


@asynccontextmanager
async def open_files(
    folder: Path, database: Database, *, max_file_bytes: int, clock: Callable[[], datetime] = now
) -> AsyncIterator[FileService]:
    """Files whose contents lie in `folder`, which is made where there is none. clock: tells the time (tests).

    What a process that died left half done is removed before this gives the service; what has expired, while it is
    open. Raises ConfigError when the folder cannot be used.
    """
    try:
        held = await asyncio.to_thread(FileFolder, folder)
    except OSError as error:
        raise ConfigError(
            f"the folder {folder} cannot hold files: {error.strerror}",
            where="storage.files",
            remedy="name a folder in which this process may write",
        ) from error
    try:
        service = FileService(held, database, max_file_bytes=max_file_bytes, clock=clock)
        await service.clear_up()
        sweeping = asyncio.create_task(service.keep_clean(), name="expired files")
        try:
            yield service
        finally:
            sweeping.cancel()
            await asyncio.wait([sweeping])
    finally:
        await asyncio.to_thread(held.close)
