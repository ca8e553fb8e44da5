"""What the network did during one question to a server.

The SDK answers a question with a protocol error whatever went wrong below it. Here the cause is kept: it travels with
the question as a context variable, which the SDK hands on to the task that sends the request.
"""

import asyncio
from contextvars import ContextVar


class Exchange:
    """status: of the last answer to a request of this question. failure: what went wrong below HTTP.

    sent: names of the headers that the configuration and the caller sent along.

    had_session: that request named a session. was_taken: a request of this question was accepted, so its tool may run.

    deadline: the question's time limit; moving it to now is how a question ends that nobody can answer any more.
    """

    def __init__(self, deadline: asyncio.Timeout | None = None) -> None:
        self.status: int | None = None
        self.retry_after: str | None = None
        self.sent: tuple[str, ...] = ()
        self.had_session = False
        self.was_taken = False
        self.failure: Exception | None = None
        self._deadline = deadline

    def fail(self, failure: Exception) -> None:
        """Note why the question cannot be answered, and end it at once."""
        if self.failure is None:
            self.failure = failure
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())
            self._deadline = None

    def note(self, failure: Exception) -> None:
        """Note what went wrong; the question may still be answered over another connection."""
        self.failure = failure

    def close(self) -> None:
        """The question has its answer; what still comes changes nothing."""
        self._deadline = None


current_exchange: ContextVar[Exchange] = ContextVar("current_exchange")
