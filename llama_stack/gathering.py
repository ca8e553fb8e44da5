"""Work done side by side that does not outlive those who asked for it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


async def gathered(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results, in order. A failure cancels the others; a caller need not know that several were at work."""
    parts = list(work)
    if len(parts) == 1:
        return [await parts[0]]  # nothing beside it, so it needs no task of its own
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in parts]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


@asynccontextmanager
async def owned(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """A task that does not outlive the block. A TaskGroup must be left by the task that entered it; the reader of
    a generator may change tasks between two events, so the group lives inside this one.
    """
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
