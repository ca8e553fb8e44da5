"""What was deleted leaves SQLite's write-ahead log, too.

A delete overwrites its row in the file (`secure_delete`), but the log keeps the page as it was until it is written back
and cut off (https://www.sqlite.org/wal.html, 2.1, "SQLITE_CHECKPOINT_TRUNCATE"), which SQLite does on its own only when
the log is long. Doing it after each delete would cost two fsyncs each; deletes come in numbers, so it waits a moment.
"""

import asyncio
from collections.abc import Awaitable, Callable

PAUSE_S = 0.5
"""Deletes that come meanwhile are erased together."""
LONGEST_PAUSE_S = 60.0
"""Between attempts while somebody, of another process perhaps, still reads what was."""


class Erasing:
    """truncate: writes the log back and cuts it off; tells whether nobody stood in the way."""

    def __init__(self, truncate: Callable[[], Awaitable[bool]]) -> None:
        self._truncate = truncate
        self._wanted = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()

    def soon(self) -> None:
        """Something was deleted, and its transaction is at its end."""
        self._done.clear()
        self._wanted.set()

    async def done(self) -> None:
        """Returns when what was deleted before is nowhere in the files any more."""
        await self._done.wait()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wanted.wait()
            pause_s = PAUSE_S
            await asyncio.sleep(pause_s)
            self._wanted.clear()
            while not await self._truncate():
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                await asyncio.sleep(pause_s)
            if not self._wanted.is_set():
                self._done.set()
