"""Calls under way, each of which can be cancelled by a message that comes another way.

Over HTTP a host of the protocol's handshake era cancels with a request of its own, which names the session and the
number of the request it no longer wants (MCP specification 2025-11-25, "Cancellation"). Nothing else of a session is
kept: a request names its caller itself, so any process may serve it, and one that a restart made forget everything
goes on. What a session names is only which calls belong together.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Session:
    """Calls of one host. name: the host's session, by which no other owner's calls can be reached."""

    owner: str
    name: str


class CallCancelled(Exception):
    """The host no longer wants the answer."""


class Calls:
    def __init__(self) -> None:
        self._running: dict[Session, dict[str, asyncio.Task[Any]]] = {}

    def cancel(self, session: Session, request_id: object) -> bool:
        """End one call; whether there was one."""
        task = self._running.get(session, {}).get(str(request_id))
        return task is not None and task.cancel()

    def end(self, session: Session) -> int:
        """End all calls of a session; how many there were."""
        return sum(task.cancel() for task in list(self._running.get(session, {}).values()))

    async def run(self, session: Session | None, request_id: object, work: Coroutine[Any, Any, AnswerT]) -> AnswerT:
        """What the work gives. Raises CallCancelled after `cancel` or `end`; cancelling this cancels the work.

        The work is a task of its own, cancelled once and then waited for: the SDK's scopes would cancel each step it
        takes to tidy up as well, such as to write down that a turn has ended.
        """
        task = asyncio.create_task(work)
        if session is not None:
            self._running.setdefault(session, {})[str(request_id)] = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                task.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([task])
                raise
            raise CallCancelled from None
        finally:
            self._forget(session, task)

    def _forget(self, session: Session | None, task: asyncio.Task[Any]) -> None:
        if session is None:
            return
        running = self._running.get(session, {})
        for request_id in [name for name, known in running.items() if known is task]:
            del running[request_id]
        if not running:
            self._running.pop(session, None)
