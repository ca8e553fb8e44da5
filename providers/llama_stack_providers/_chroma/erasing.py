"""When what was deleted is erased: a moment after the deletes, since they come in numbers, while no request is at work.

The engine gives a request up when it finds the database locked for some seconds, so requests wait here instead.
"""

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from llama_stack_providers._chroma.erasing_program import AGAIN

logger = logging.getLogger(__name__)

PAUSE_S = 1.0
"""Deletes that come meanwhile are erased together."""
REST_SHARE = 10
"""Erasing reads and writes the whole database, and takes a tenth of the time at most."""
ATTEMPTS = 8
"""While the engine is still at work with what was deleted; each comes after twice the pause."""
AT_THE_END_S = 60.0
PROGRAM = "llama_stack_providers._chroma.erasing_program"


class Erasing:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._requests = 0
        self._wanted, self._done = asyncio.Event(), asyncio.Event()
        self._no_request, self._allowed = asyncio.Event(), asyncio.Event()
        for event in (self._done, self._no_request, self._allowed):
            event.set()

    @asynccontextmanager
    async def request(self, *, deletes: bool = False) -> AsyncIterator[None]:
        """The engine is at work meanwhile."""
        await self._allowed.wait()
        self._requests += 1
        self._no_request.clear()
        try:
            yield
        finally:
            self._requests -= 1
            if not self._requests:
                self._no_request.set()
            if deletes:
                self._done.clear()
                self._wanted.set()

    async def done(self) -> None:
        """Returns when what was deleted before has left the folder."""
        await self._done.wait()

    async def run(self) -> None:
        """Until it is cancelled."""
        rest_s = 0.0
        while True:
            await self._wanted.wait()
            await asyncio.sleep(max(PAUSE_S, rest_s))
            self._wanted.clear()
            began = time.monotonic()
            await self._erase_patiently()
            rest_s = REST_SHARE * (time.monotonic() - began)
            if not self._wanted.is_set():
                self._done.set()

    async def at_the_end(self) -> None:
        """What is still to be erased when the engine is closed. The next delete erases what this cannot."""
        if not self._done.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(AT_THE_END_S):
                    await _erase(self._folder)

    async def _erase_patiently(self) -> None:
        for attempt in range(ATTEMPTS):
            self._allowed.clear()
            try:
                await self._no_request.wait()
                if await _erase(self._folder):
                    return
            finally:
                self._allowed.set()
            await asyncio.sleep(PAUSE_S * 2**attempt)
        logger.warning("what was deleted is not yet gone from %s; the next delete tries again", self._folder)


async def _erase(folder: Path) -> bool:
    """False where it is to be tried again."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", PROGRAM, str(folder), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        _, told = await program.communicate()
    except asyncio.CancelledError:
        # SQLite undoes what was broken off when the file is next opened.
        program.kill()
        await program.wait()
        raise
    if program.returncode not in (0, AGAIN):
        logger.warning("what was deleted stays in %s: %s", folder, told.decode(errors="replace").strip()[-500:])
    return program.returncode != AGAIN
