"""Several calls of one request at the same time, a few at once, with the first failure as the failure of all."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from llama_stack.errors import StackError

T = TypeVar("T")

MAX_SIDE_BY_SIDE = 8
"""A call with a long list cannot take every slot of an engine."""

_MAX_WAITING = 256


async def gather_results(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in the order of the calls. The first StackError cancels the others and is raised itself."""
    free = asyncio.Semaphore(MAX_SIDE_BY_SIDE)

    async def limited(call: Coroutine[Any, Any, T]) -> T:
        async with free:
            return await call

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(limited(call)) for call in calls]
    except* StackError as failed:
        error: BaseException = failed
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    finally:
        for call in calls:
            call.close()
    return [task.result() for task in tasks]


async def merge_streams(streams: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Events of all streams as they come, each with its stream's position. The first failure ends all of them."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for event in only:
                yield 0, event
        return
    # Not a TaskGroup: it would cancel whoever reads this generator, wherever they happen to be, when a stream fails.
    queue: asyncio.Queue[tuple[int, T] | _Ended] = asyncio.Queue(_MAX_WAITING)
    free = asyncio.Semaphore(MAX_SIDE_BY_SIDE)

    async def pump(position: int, stream: AsyncGenerator[T, None]) -> None:
        failure: Exception | None = None
        try:
            async with aclosing(stream) as events, free:
                async for event in events:
                    await queue.put((position, event))
        except Exception as error:
            # Raised again below, by the reader.
            failure = error
        await queue.put(_Ended(failure))

    tasks = [asyncio.create_task(pump(position, stream)) for position, stream in enumerate(streams)]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, _Ended):
                if item.failure is not None:
                    raise item.failure
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@dataclass(frozen=True)
class _Ended:
    failure: Exception | None
