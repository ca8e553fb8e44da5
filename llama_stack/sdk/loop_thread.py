"""An event loop in a thread of its own, which keeps one thing open and does the work that other threads hand to it."""

import asyncio
import atexit
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from llama_stack.errors import Conflict

_BUFFERED_ITEMS = 64
HeldT = TypeVar("HeldT")
T = TypeVar("T")


class LoopThread(Generic[HeldT]):
    """Holds what an async context manager gives, for code that does not await.

    Calls work the same in a script, inside a running event loop and in a notebook, and from many threads at once. Use
    it as a context manager, or call `close` at the end.
    """

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[HeldT]]) -> None:
        """Returns when the context is entered; raises what entering it raises."""
        self._opened: Future[HeldT] = Future()
        self._closing = asyncio.Event()
        self._requests: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._live, args=(enter,), name="llama-stack", daemon=True)
        self._failure: BaseException | None = None
        self._thread.start()
        try:
            self.held = self._opened.result()
        except BaseException:
            self.close()
            raise
        # A daemon thread would be cut off in the middle of leaving the context when the interpreter ends.
        atexit.register(self.close)

    def close(self) -> None:
        """Leave the context and end the thread; what is still running is cancelled. Closing twice does nothing."""
        atexit.unregister(self.close)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        if (failure := self._failure) is not None:
            self._failure = None
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine on the loop and wait for its result; interrupting the wait cancels it."""
        tracked = self._tracked(work)
        try:
            future = asyncio.run_coroutine_threadsafe(tracked, self._running_loop())
        except BaseException:
            tracked.close()
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise Conflict("the stack was closed before this was done") from None
        except BaseException:
            future.cancel()
            raise

    def iterate(self, events: AsyncGenerator[T, None]) -> Iterator[T]:
        """The generator's items as they come. Leaving the loop early, or closing the iterator, stops the work.

        One task reads the generator from beginning to end, because scopes inside it may be bound to a task.
        """
        queue: asyncio.Queue[T | None] = asyncio.Queue()
        room = asyncio.Semaphore(_BUFFERED_ITEMS)

        async def pump() -> None:
            try:
                async with aclosing(events):
                    async for event in events:
                        await room.acquire()
                        queue.put_nowait(event)
            finally:
                queue.put_nowait(None)

        pumping: asyncio.Task[None] | None = None

        async def next_items() -> list[T | None]:
            """All there are, at least one: each change between the threads costs more than most items."""
            nonlocal pumping
            if pumping is None:
                pumping = asyncio.create_task(self._tracked(pump()))
            items = [await queue.get()]
            while not queue.empty():
                items.append(queue.get_nowait())
            for _ in items:
                room.release()
            if items[-1] is None:
                await asyncio.wait([pumping])
            return items

        async def stop() -> None:
            if pumping is not None:
                pumping.cancel()
                await asyncio.wait([pumping])

        try:
            while True:
                for item in self.wait(next_items()):
                    if item is None:
                        self.wait(_outcome(pumping))
                        return
                    yield item
        finally:
            # An interrupt may come at any moment, even while the pump is being started.
            if pumping is None or not pumping.done():
                self.wait(stop())

    async def _tracked(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._requests.add(task)
        try:
            return await work
        finally:
            self._requests.discard(task)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if threading.current_thread() is self._thread:
            raise Conflict("the sync stack was called from its own event loop; await on `stack.held` there")
        if self._loop is None or self._closing.is_set() or not self._thread.is_alive():
            raise Conflict("this stack is closed; open it again")
        return self._loop

    def _live(self, enter: Callable[[], AbstractAsyncContextManager[HeldT]]) -> None:
        try:
            asyncio.run(self._own(enter))
        except BaseException as error:  # handed to the thread that enters or leaves the context
            if self._opened.done():
                self._failure = error
            else:
                self._opened.set_exception(error)

    async def _own(self, enter: Callable[[], AbstractAsyncContextManager[HeldT]]) -> None:
        """One task enters and leaves the context; every request on this loop ends before it is left."""
        self._loop = asyncio.get_running_loop()
        async with enter() as held:
            self._opened.set_result(held)
            await self._closing.wait()
            while self._requests:
                for task in self._requests:
                    task.cancel()
                await asyncio.wait(list(self._requests))


async def _outcome(task: "asyncio.Task[None] | None") -> None:
    if task is not None:
        await task
