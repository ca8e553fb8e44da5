"""Responses made in the background: they go on when their caller leaves, and when this process dies.

Each has a log of its events in the database, and whoever watches it reads the log: in this process or in another,
now or later. A response whose maker died is taken up after its last stored step; its log then begins again, with
numbers after those that were given out before.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

from llama_stack.api.common import Caller, JsonObject
from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderUnavailable, RateLimited
from llama_stack.responses.making import Making
from llama_stack.storage.responses import ResponseStore, StoredResponse
from llama_stack.wire.openai_responses.objects import ENDED, shown_response
from llama_stack.wire.openai_responses.stream import LAST_EVENTS, logprobs_in

logger = logging.getLogger(__name__)

MAX_AT_ONCE = 32
MAX_WAITING = 1000
LOOK_FOR_ABANDONED = timedelta(seconds=10)
POLL_S = 0.25
"""How often a log that another process writes is looked at."""
OWN_POLL_S = 5.0
"""The same for one of this process, which tells when there is something new."""


class Background:
    """Makes responses in tasks of this process. make: opens the making of one, numbered from the given number."""

    def __init__(self, store: ResponseStore, make: Callable[[StoredResponse, Caller, int], Making]) -> None:
        self._store = store
        self._make = make
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._free = asyncio.Semaphore(MAX_AT_ONCE)
        self._news: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take up what was abandoned, now and from time to time. In the end, what is unfinished is left to others."""
        looking = asyncio.create_task(self._look_for_abandoned(), name="abandoned responses")
        try:
            yield
        finally:
            tasks = [looking, *self._tasks.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def check_room(self) -> None:
        """Raises RateLimited while too many responses wait."""
        if len(self._tasks) >= MAX_WAITING:
            raise RateLimited(f"{MAX_WAITING} background responses are waiting; ask again later", retry_after_s=5)

    def start(self, record: StoredResponse, caller: Caller) -> None:
        task = asyncio.create_task(self._work(record, caller), name=f"response {record.response_id}")
        self._tasks[record.response_id] = task
        task.add_done_callback(lambda done: self._ended(record.response_id, done))

    def _ended(self, response_id: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(response_id, None)
        self._cancelled.discard(response_id)
        self._tell_news(response_id)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background response %s was left", response_id, exc_info=error)

    async def cancel(self, response_id: str) -> bool:
        """Stop the response if this process makes it; it is stored as cancelled when this returns."""
        task = self._tasks.get(response_id)
        if task is None:
            return False
        self._cancelled.add(response_id)
        task.cancel()
        await asyncio.wait([task])
        return True

    async def _look_for_abandoned(self) -> None:
        suspects: set[str] = set()
        while True:
            try:
                suspects = await self.take_care_of_abandoned(suspects)
            except ProviderUnavailable as error:
                logger.warning("cannot look for abandoned responses: %s", error.message)
            await asyncio.sleep(LOOK_FOR_ABANDONED.total_seconds())

    async def take_care_of_abandoned(self, suspects: set[str]) -> set[str]:
        """Make the background ones, and end others, which nobody waits for any more; gives those to look at again.

        suspects: found before. A response whose turn is over is let go a moment before it is stored as ended, so one
        is believed to be abandoned only when it is found twice.
        """
        found: set[str] = set()
        for record in await self._store.abandoned():
            caller = Caller(owner=record.owner)
            if record.request.background:
                if record.response_id not in self._tasks and len(self._tasks) < MAX_WAITING:
                    self.start(record, caller)
            elif record.response_id in suspects:
                await self._make(record, caller, 0).end_as_abandoned()
            else:
                found.add(record.response_id)
        return found

    # --- the work --------------------------------------------------------------------------------------------------

    async def _work(self, record: StoredResponse, caller: Caller) -> None:
        log = _Log(self._store, record.response_id, caller, lambda: self._tell_news(record.response_id))
        try:
            async with self._free:
                told_before = await self._store.events(record.response_id, caller)
                first_number = await self._store.clear_events(record.response_id, caller)
                making = self._make(record, caller, first_number)
                # Steps are stored without them.
                making.encoder.logprobs = logprobs_in(told_before)
                await self._made(making, record, caller, log)
        except asyncio.CancelledError:
            if record.response_id in self._cancelled:
                making = self._make(record, caller, 0) if log.making is None else log.making
                log.add(making.cancelled())
                await making.finish()
            raise
        except (Conflict, NotFound):
            # Another process makes it now, or it was ended or deleted: whoever did that has told its readers.
            return
        finally:
            await log.closed()

    async def _made(self, making: Making, record: StoredResponse, caller: Caller, log: "_Log") -> None:
        log.making = making
        log.add(making.encoder.created(is_queued=True))
        await self._store.begin(record.response_id, caller)
        log.add(making.encoder.in_progress())
        try:
            await making.prepare()
            log.add(making.listed())
            if making.failure is not None:
                raise making.failure
            async with aclosing(making.resumed_events()) as events:
                async for event in events:
                    log.add(await making.told(event))
        except Conflict:
            raise
        except Exception as error:  # nobody awaits this task: every failure is the response's end
            told = making.failed(error)
            await making.finish()
            log.add(told)

    # --- watching --------------------------------------------------------------------------------------------------

    async def watch(self, response_id: str, caller: Caller, starting_after: int) -> AsyncGenerator[JsonObject, None]:
        """The logged events after that number, then those to come. Raises NotFound, also once it is deleted."""
        record = await self._store.response(response_id, caller)
        if not record.request.background:
            raise InvalidRequest(
                f"the response {response_id!r} was not made in the background: its events were not kept",
                param="stream",
            )
        following = starting_after + 1
        is_ended = False
        while True:
            news = self._news.setdefault(response_id, asyncio.Event())
            for event in await self._store.events(response_id, caller, from_number=following):
                if event["sequence_number"] < following:
                    continue
                following = event["sequence_number"] + 1
                yield event
                if event["type"] in LAST_EVENTS:
                    return
            if is_ended:
                # Its maker died between storing the response and logging its last event.
                last = shown_response(record.body or {"output": []}, record.request.include)
                yield {"type": _last_type(record.status), "sequence_number": following, "response": last}
                return
            await _heard(news, OWN_POLL_S if response_id in self._tasks else POLL_S)
            record = await self._store.response(response_id, caller)
            is_ended = record.status in ENDED and response_id not in self._tasks

    def _tell_news(self, response_id: str) -> None:
        news = self._news.pop(response_id, None)
        if news is not None:
            news.set()


class _Log:
    """Writes events to the database in the order they come, as many at a time as have come meanwhile."""

    def __init__(self, store: ResponseStore, response_id: str, caller: Caller, tell_news: Callable[[], None]) -> None:
        self.making: Making | None = None
        self._store = store
        self._response_id = response_id
        self._caller = caller
        self._tell_news = tell_news
        self._waiting: list[JsonObject] = []
        self._more = asyncio.Event()
        self._is_closed = False
        self._writer = asyncio.create_task(self._write())

    def add(self, events: Sequence[JsonObject]) -> None:
        self._waiting.extend(events)
        self._more.set()

    async def closed(self) -> None:
        """All that was added is written, or the response is gone."""
        self._is_closed = True
        self._more.set()
        await asyncio.wait([self._writer])

    async def _write(self) -> None:
        while not (self._is_closed and not self._waiting):
            await self._more.wait()
            self._more.clear()
            events, self._waiting = self._waiting, []
            if not events:
                continue
            try:
                await self._store.add_events(self._response_id, events, self._caller)
            except NotFound:
                return
            self._tell_news()


def _last_type(status: str) -> str:
    return f"response.{status}" if status in ("completed", "failed") else "response.incomplete"


async def _heard(news: asyncio.Event, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await news.wait()
    except TimeoutError:
        return
