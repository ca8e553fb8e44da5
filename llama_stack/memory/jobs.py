"""Files that were attached to banks are read in the background: by this process, or by another after this one died.

The rows are the queue. Whoever is free claims the oldest ones that wait or were left behind, so several servers over
one database share the work, and nothing that was accepted is forgotten.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from llama_stack.errors import ProviderUnavailable
from llama_stack.storage.documents import DocumentStore, StoredDocument, Working

logger = logging.getLogger(__name__)

AT_ONCE = 8
LOOK_EVERY_S = 5.0
"""For what other processes left behind; what this process accepts is begun at once."""

Work = Callable[[Working, StoredDocument], Awaitable[None]]


class FileJobs:
    """Runs `work` for every waiting document. after: what else is to be done from time to time."""

    def __init__(self, store: DocumentStore, work: Work, after: Callable[[], Awaitable[None]]) -> None:
        self._store = store
        self._work = work
        self._after = after
        self._tasks: dict[asyncio.Task[None], Working] = {}
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There is something to do."""
        self._news.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What is unfinished in the end is left to others."""
        looking = asyncio.create_task(self._look(), name="files to read")
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])
            left = dict(self._tasks)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)
                try:
                    await self._store.give_back(list(left.values()))
                except ProviderUnavailable as error:
                    logger.warning("files under way are left to their leases: %s", error.message)

    async def _look(self) -> None:
        while True:
            self._news.clear()
            try:
                is_busy = await self._begin_some()
                await self._after()
            except ProviderUnavailable as error:
                is_busy = False
                logger.warning("cannot look for files to read: %s", error.message)
            except Exception:  # one fault must not end the reading of all files
                is_busy = False
                logger.exception("looking for files to read failed; it is tried again")
            if not is_busy:
                await self._heard()
            elif len(self._tasks) >= AT_ONCE:
                await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def _begin_some(self) -> bool:
        """Whether there may be more to begin."""
        free = AT_ONCE - len(self._tasks)
        if free <= 0:
            return True
        claimed = await self._store.claim(free)
        for working, document in claimed:
            task = asyncio.create_task(self._done(working, document), name=f"reading {working.document_id}")
            self._tasks[task] = working
            task.add_done_callback(self._ended)
        return len(claimed) == free

    async def _done(self, working: Working, document: StoredDocument) -> None:
        await self._work(working, document)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("reading a file was left", exc_info=error)

    async def _heard(self) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await self._news.wait()
        except TimeoutError:
            return
