"""One session with an MCP server, owned by one task.

The SDK's connections hold cancel scopes, which must be left by the task that entered them. So one task opens the
session, lets every question run in a task of its own, and closes it; callers hand their questions over and wait. A
caller who leaves cancels their own question and nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from mcp import Client
from mcp_types import Tool

from llama_stack.errors import ProviderFailed, ProviderUnavailable, StackError
from llama_stack_providers.remote._mcp.changes import watch_tools
from llama_stack_providers.remote._mcp.exchange import Exchange, current_exchange
from llama_stack_providers.remote._mcp.failures import (
    MAX_MESSAGE_CHARS,
    NotDelivered,
    failure_of,
    leaves_of,
    masked,
)
from llama_stack_providers.remote._mcp.links import Link
from llama_stack_providers.remote._mcp.listing import list_tools
from llama_stack_providers.remote._mcp.settings import Config

logger = logging.getLogger(__name__)
AnswerT = TypeVar("AnswerT")

SUBSCRIBE_LIMIT_S = 5.0
"""How long a first list waits for the server to promise that it will tell of changes."""
LONGEST_FAREWELL_OF_A_PROCESS_S = 10.0
"""The SDK closes a process in bounded steps (flush, wait, terminate, kill); cut short, it would leave the process."""


class OpensLinks(Protocol):
    def open(self, tools_changed: Callable[[], None]) -> AbstractAsyncContextManager[Link]: ...

    async def last_words(self) -> str: ...


@dataclass
class _Question:
    """work: asks the server. deed: what it is to do, for messages. answer: where the caller waits."""

    work: Callable[[Client], Awaitable[Any]]
    deed: str
    answer: asyncio.Future[Any]


class Session:
    """A session from its opening to its end; `is_over` once it takes no further questions.

    It opens at once, in a task of its own, and closes when it was idle for long, when its server has gone, or when
    it is told to. who: the server, for messages. secrets: texts that must not stand in them.
    """

    def __init__(
        self, opener: OpensLinks, config: Config, *, who: str, secrets: Sequence[str], is_process: bool
    ) -> None:
        self.is_over = False
        self._opener = opener
        self._config = config
        self._who = who
        self._secrets = secrets
        self._is_process = is_process
        self._questions: asyncio.Queue[_Question | None] = asyncio.Queue(config.max_waiting_calls)
        self._running: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(config.max_parallel_calls)
        self._opened = asyncio.Event()
        self._asking = 0
        self._failure: StackError | None = None
        self._tools: tuple[float, list[Tool]] | None = None
        self._tools_version = 0
        self._listing = asyncio.Lock()
        self._watching = asyncio.Event()
        self.owner = asyncio.create_task(self._own(), name=f"session with {who}")

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return self._asking == 0

    async def ask(self, work: Callable[[Client], Awaitable[AnswerT]], deed: str) -> AnswerT:
        """The answer of `work`. Raises NotDelivered when it may be asked again on another session, StackError else."""
        self._asking += 1
        try:
            await self._opened.wait()
            answer: AnswerT = await self._asked(_Question(work, deed, asyncio.get_running_loop().create_future()))
            return answer
        finally:
            self._asking -= 1

    def _asked(self, question: _Question) -> asyncio.Future[Any]:
        if self._failure is not None:
            raise self._failure
        if self.is_over:
            raise NotDelivered(ProviderUnavailable(f"{self._who} has gone"))
        try:
            self._questions.put_nowait(question)
        except asyncio.QueueFull as error:
            raise ProviderUnavailable(
                f"{self._who} is busy: {self._config.max_waiting_calls} calls wait already; ask later or raise"
                " max_waiting_calls"
            ) from error
        return question.answer

    async def tools(self) -> list[Tool]:
        """The server's tools in its order; asked for once, and again only when the server says they changed."""
        async with self._listing:
            if self._tools is not None and time.monotonic() - self._tools[0] < self._config.tool_list_ttl_s:
                return self._tools[1]
            version = self._tools_version
            tools = await self.ask(self._list_tools, "list its tools")
            if version == self._tools_version:
                self._tools = (time.monotonic(), tools)
            return tools

    async def _list_tools(self, client: Client) -> list[Tool]:
        with suppress(TimeoutError):
            async with asyncio.timeout(SUBSCRIBE_LIMIT_S):
                await self._watching.wait()
        return await list_tools(client, self._config)

    def forget_tools(self) -> None:
        self._tools_version += 1
        self._tools = None

    def end(self) -> None:
        """Take no further questions, and close when those under way have their answers."""
        self.is_over = True
        with suppress(asyncio.QueueFull):  # a full queue wakes the owner without it
            self._questions.put_nowait(None)

    async def close(self) -> None:
        """End now: questions under way get no answer. Returns when nothing of the session is left."""
        self.end()
        for task in self._running:
            task.cancel()
        if not self._opened.is_set():
            self.owner.cancel()
        await asyncio.wait([self.owner])

    async def _own(self) -> None:
        """Open, serve and close. One time limit bounds first the opening and in the end the leave."""
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._config.connect_timeout_s) as limit, AsyncExitStack() as exits:
                exchange = Exchange(limit)
                current_exchange.set(exchange)
                link = await exits.enter_async_context(self._opener.open(self.forget_tools))
                exchange.close()
                limit.reschedule(None)
                self._opened.set()
                try:
                    await self._serve(link)
                finally:
                    self.end()
                    limit.reschedule(clock() + self._longest_farewell_s)
        except (Exception, BaseExceptionGroup) as error:  # the SDK and its server may fail in any way
            await self._note_end(error, exchange)
        finally:
            if not self._opened.is_set() and self._failure is None:
                self._failure = ProviderUnavailable(f"{self._who} was not asked: the stack is closing")
            self._opened.set()
            self.end()
            self._turn_away()

    @property
    def _longest_farewell_s(self) -> float:
        return LONGEST_FAREWELL_OF_A_PROCESS_S if self._is_process else self._config.close_timeout_s

    async def _note_end(self, error: BaseException, exchange: Exchange) -> None:
        """Why the session could not be opened; why an open one ended is told by the questions it left."""
        if self._opened.is_set():
            logger.debug("%s: the session ended with %s", self._who, type(error).__name__)
            return
        leaf = next(leaves_of(error))
        failure = failure_of(leaf, exchange, self._who, "greet")
        self._failure = await self._told(failure.failure if isinstance(failure, NotDelivered) else failure)

    async def _serve(self, link: Link) -> None:
        async with asyncio.TaskGroup() as group:
            watches = [
                group.create_task(watch_tools(link.client, self.forget_tools, self._watching)),
                group.create_task(self._end_when_lost(link)),
            ]
            try:
                while True:
                    await self._slots.acquire()
                    question = await self._next()
                    if question is None:
                        return
                    self._start(group, link, question)
            finally:
                for watch in watches:
                    watch.cancel()

    async def _next(self) -> _Question | None:
        """The next question; None when the session is to end, because it was told to or nobody uses it."""
        while not self.is_over:
            try:
                async with asyncio.timeout(self._config.idle_s):
                    question = await self._questions.get()
            except TimeoutError:
                if not self._running:
                    return None
            else:
                if question is None or not question.answer.done():
                    return question
        return None

    def _start(self, group: asyncio.TaskGroup, link: Link, question: _Question) -> None:
        task = group.create_task(self._run(link, question))
        self._running.add(task)
        task.add_done_callback(partial(self._done, question))
        question.answer.add_done_callback(lambda answer: task.cancel() if answer.cancelled() else None)

    def _done(self, question: _Question, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()
        if not question.answer.done():  # the task was cancelled, perhaps before its first step
            question.answer.set_exception(ProviderUnavailable(f"{self._who} is being closed"))

    async def _run(self, link: Link, question: _Question) -> None:
        exchange = Exchange()
        try:
            async with asyncio.timeout(self._config.call_timeout_s) as limit:
                exchange = Exchange(limit)
                current_exchange.set(exchange)
                answer = await question.work(link.client)
        except Exception as error:  # whatever the SDK or the server does costs this question only
            failure = await self._failure_of(error, exchange, link, question.deed)
            if not question.answer.done():
                question.answer.set_exception(failure)
        else:
            if not question.answer.done():
                question.answer.set_result(answer)
        finally:
            exchange.close()

    async def _failure_of(
        self, error: Exception, exchange: Exchange, link: Link, deed: str
    ) -> StackError | NotDelivered:
        reason = link.ending.reason
        if reason is not None:
            return masked(ProviderFailed(f"{self._who} did not {deed}: it {reason}"), self._secrets)
        failure = failure_of(error, exchange, self._who, deed)
        if isinstance(failure, NotDelivered):
            masked(failure.failure, self._secrets)
            self.end()
            return failure
        return await self._told(failure) if link.ending.lost.is_set() else masked(failure, self._secrets)

    async def _told(self, failure: StackError) -> StackError:
        """The failure with what the server's process said in the end."""
        last_words = await self._opener.last_words()
        if last_words:
            failure.message += f"; its last words: {last_words[:MAX_MESSAGE_CHARS]}"
        return masked(failure, self._secrets)

    async def _end_when_lost(self, link: Link) -> None:
        await link.ending.lost.wait()
        self.end()

    def _turn_away(self) -> None:
        """Give back the questions that nobody began to answer."""
        while not self._questions.empty():
            question = self._questions.get_nowait()
            if question is not None and not question.answer.done():
                question.answer.set_exception(NotDelivered(ProviderUnavailable(f"{self._who} has gone")))
