"""Work on banks in threads, stopped when whoever waits for it no longer does."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

from llama_stack_providers.inline._chunks.bank import Interruption

ResultT = TypeVar("ResultT")


async def in_thread(executor: Executor, work: Callable[[Interruption], ResultT]) -> ResultT:
    """The result of the work. Cancelling stops it, and returns only when its thread has let go of the bank."""
    interruption = Interruption()
    running = executor.submit(work, interruption)
    result = asyncio.wrap_future(running)
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        if not running.cancel():
            interruption.stop()
            while not result.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([result])
            if not result.cancelled():
                # Nobody is left to hear of it.
                result.exception()
        raise
