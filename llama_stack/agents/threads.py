"""A thread for one call of a function.

Nobody can stop a thread: where a turn gives up on a call that hangs, its thread stays. In a pool, as the event loop
has one, a few of those would keep all the work that waits for a thread from ever being done, and the program from
ending.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

AnswerT = TypeVar("AnswerT")

MAX_THREADS = 256
"""Calls that run or hang at the same time; further ones fail."""

_free = threading.BoundedSemaphore(MAX_THREADS)


async def in_own_thread(function: Callable[[], AnswerT]) -> AnswerT:
    """What the function returns or raises. Cancelling leaves it running, with nobody to hear of it.

    Raises RuntimeError when too many run already.
    """
    free = _free
    if not free.acquire(blocking=False):
        raise RuntimeError(f"{MAX_THREADS} calls of functions are running already, or hang")
    loop = asyncio.get_running_loop()
    done: asyncio.Future[AnswerT] = loop.create_future()
    context = copy_context()

    def tell(answer: Callable[[], None]) -> None:
        if not done.done():
            answer()

    def run() -> None:
        try:
            answer = context.run(function)
        except BaseException as error:  # whatever it is, the caller is to have it
            raised = RuntimeError("it raised StopIteration") if isinstance(error, StopIteration) else error
            said: Callable[[], None] = lambda: done.set_exception(raised)  # noqa: E731
        else:
            said = lambda: done.set_result(answer)  # noqa: E731
        finally:
            free.release()
        with suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(tell, said)

    try:
        threading.Thread(target=run, name="tool function", daemon=True).start()
    except RuntimeError:
        free.release()
        raise
    return await done
