"""Stopping the work for a client that has hung up."""

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientGone(Exception):
    """The client closed the connection before its answer was complete; there is nobody left to tell."""


class HangUpCancels:
    """Cancels the body of an `async with` when the client hangs up, and leaves it as ClientGone.

    Only for use once the request body was read: what `receive` then gives is the disconnect. Works as
    `asyncio.timeout` does, so a cancellation from elsewhere stays a cancellation.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("needs a task to cancel")
        self._task = task
        self._cancelling = task.cancelling()
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.cancel()
        if self._gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGone from error
