"""The sessions of all callers: one sandbox each, bounded in number, ended when idle."""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType

from llama_stack.errors import NotFound, RateLimited
from llama_stack_providers.inline._code_interpreter.driver import Driver, DriverUnavailable
from llama_stack_providers.inline._code_interpreter.session import Session, open_session
from llama_stack_providers.inline._code_interpreter.settings import Config

SessionKey = tuple[str, str]
"""Owner and session id: no owner reaches another's variables."""

REMEMBERED_LOSSES = 1024
RETRY_AFTER_S = 5.0


class Sessions:
    """Opens, finds and ends sessions; used as a context, at whose end all of them are gone."""

    def __init__(self, driver: Driver, config: Config) -> None:
        self.driver = driver
        self.config = config
        self.warm_wanted = driver.warm if config.warm is None else config.warm
        self._by_key: dict[SessionKey, Session] = {}
        self._fresh: set[Session] = set()
        self._warm: list[Session] = []
        self._opening = 0
        self._lost: OrderedDict[SessionKey, str] = OrderedDict()
        self._key_locks: dict[SessionKey, asyncio.Lock] = {}
        self._warming: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Sessions":
        self._sweeping = asyncio.create_task(self._sweep(), name="end idle code interpreter sessions")
        self._warm_up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._warming, *([self._sweeping] if self._sweeping else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in [*self._by_key.values(), *self._fresh, *self._warm]:
            await session.close()

    def __len__(self) -> int:
        return len(self._by_key) + len(self._fresh) + self._opening

    def kept(self, owner: str) -> dict[SessionKey, Session]:
        """The owner's sessions, the oldest first."""
        return {key: session for key, session in self._by_key.items() if key[0] == owner and not session.is_closed}

    async def begin(self, key: SessionKey, name: str, idle_s: float) -> None:
        """Start a session before its first call. Raises as `use` does."""
        session = await self._open()
        session.begin(name, idle_s)
        self._by_key[key] = session

    async def end(self, key: SessionKey) -> None:
        """End a session at once, also one that is at work. Raises NotFound where there is none."""
        session = self._by_key.get(key)
        if session is None or session.is_closed:
            raise self._gone(key)
        await self._drop(key)

    @asynccontextmanager
    async def existing(self, key: SessionKey) -> AsyncIterator[Session]:
        """The session of the key, alone. Raises NotFound where there is none; starts none."""
        if key not in self._by_key:
            raise self._gone(key)
        async with self._alone(key):
            session = self._by_key.get(key)
            if session is None or session.is_closed:
                raise self._gone(key)
            yield session

    def _gone(self, key: SessionKey) -> NotFound:
        reason = self._lost.get(key)
        return NotFound(f"it has ended: {reason}" if reason else "there never was one, or it has ended")

    @asynccontextmanager
    async def _alone(self, key: SessionKey) -> AsyncIterator[None]:
        """The key, for one at a time. A session that is closed at the end is forgotten."""
        lock = self._key_locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if self._by_key.get(key) is not None and self._by_key[key].is_closed:
                del self._by_key[key]
            if key not in self._by_key and not _is_wanted(lock):
                self._key_locks.pop(key, None)

    @asynccontextmanager
    async def use(self, key: SessionKey | None) -> AsyncIterator[tuple[Session, str | None]]:
        """The session of the key, alone, and why earlier variables are not in it; without a key, one for this once.

        Raises RateLimited when all sessions are at work, DriverUnavailable when none starts.
        """
        if key is None:
            session = await self._open()
            self._fresh.add(session)
            try:
                yield session, None
            finally:
                self._fresh.discard(session)
                await session.close()
            return
        async with self._alone(key):
            session = await self._of(key)
            try:
                yield session, self._lost.pop(key, None)
            except BaseException:
                self._lose(key, "a call was stopped halfway")
                raise

    async def _of(self, key: SessionKey) -> Session:
        session = self._by_key.get(key)
        if session is None or session.is_closed:
            self._by_key.pop(key, None)
            session = await self._open()
            session.begin("", self.config.idle_s)
            self._by_key[key] = session
        return session

    async def _open(self) -> Session:
        if len(self) >= self.config.max_sessions:
            await self._make_room()
        self._opening += 1
        try:
            if self._warming and not self._warm:
                await asyncio.wait(self._warming, return_when=asyncio.FIRST_COMPLETED)
            return self._warm.pop() if self._warm else await open_session(self.driver, self.config)
        finally:
            self._opening -= 1
            self._warm_up()

    async def _make_room(self) -> None:
        held = Counter(owner for owner, _ in self._by_key)
        # Whoever holds most gives one up: no owner's many sessions end those of the others.
        idle = [
            (-held[key[0]], session.used_at, key) for key, session in self._by_key.items() if not self._is_at_work(key)
        ]
        if not idle:
            raise RateLimited(
                f"all {self.config.max_sessions} sessions of the code interpreter are at work; "
                "try again later, or raise max_sessions",
                retry_after_s=RETRY_AFTER_S,
            )
        await self._end(min(idle)[2], "the session made room for others")

    def _is_at_work(self, key: SessionKey) -> bool:
        lock = self._key_locks.get(key)
        return lock is not None and _is_wanted(lock)

    async def _end(self, key: SessionKey, reason: str) -> None:
        self._lose(key, reason)
        await self._drop(key)

    async def _drop(self, key: SessionKey) -> None:
        session = self._by_key.pop(key)
        if not self._is_at_work(key):
            self._key_locks.pop(key, None)
        await session.close()

    def _lose(self, key: SessionKey, reason: str) -> None:
        self._lost[key] = reason
        while len(self._lost) > REMEMBERED_LOSSES:
            self._lost.popitem(last=False)

    async def end_idle(self) -> None:
        """End the sessions that were not used for too long."""
        now = time.monotonic()
        for key, session in list(self._by_key.items()):
            if session.used_at <= now - session.idle_s and not self._is_at_work(key):
                await self._end(key, f"the session was idle for {session.idle_s:g} seconds")

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(self.config.idle_s / 4, 30.0))
            await self.end_idle()

    def _warm_up(self) -> None:
        """Start what is missing of the sandboxes that wait for their first call."""
        for _ in range(self.warm_wanted - len(self._warm) - len(self._warming)):
            task = asyncio.create_task(self._add_warm(), name="start a code interpreter sandbox ahead")
            self._warming.add(task)
            task.add_done_callback(self._warming.discard)

    async def _add_warm(self) -> None:
        with suppress(DriverUnavailable):  # the call that needs it tries itself, and tells
            self._warm.append(await open_session(self.driver, self.config))


def _is_wanted(lock: asyncio.Lock) -> bool:
    """Whether somebody holds the lock or waits for it."""
    return lock.locked() or bool(getattr(lock, "_waiters", None))
