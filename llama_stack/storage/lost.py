"""Connections that end while they are used, as a server's restart or a network leaves them.

What a connection answers then depends on the moment. Most of it SQLAlchemy knows for what it is. What asyncpg says of
itself (`InternalClientError`, such as "got result for unknown protocol state") it takes for any other error, or hands
on as it came, and keeps the connection.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

ATTEMPTS = 4

T = TypeVar("T")


def is_lost(error: BaseException) -> bool:
    """Whether the connection failed, and not what was asked of it."""
    if isinstance(error, DBAPIError):
        # SQLSTATE class 08 is "connection exception", 57P "operator intervention" (shutdown).
        state = str(getattr(error.orig, "sqlstate", "") or "")
        return error.connection_invalidated or state.startswith(("08", "57P")) or is_confused(error.orig)
    return isinstance(error, ConnectionError) or is_confused(error)


def is_confused(error: BaseException | None) -> bool:
    """Whether asyncpg lost track of what the server says; SQLAlchemy's own error has its as the cause."""
    asyncpg = sys.modules.get("asyncpg")
    if asyncpg is None or error is None:
        return False
    return isinstance(error, asyncpg.InternalClientError) or isinstance(error.__cause__, asyncpg.InternalClientError)


def drop_lost_connections(engine: Engine) -> None:
    """Let the engine use no connection again that SQLAlchemy does not know to be lost."""

    @event.listens_for(engine, "handle_error")
    def note(context: ExceptionContext) -> None:
        if is_confused(context.original_exception) or isinstance(context.original_exception, ConnectionError):
            context.is_disconnect = True


async def again_if_lost(work: Callable[[], Awaitable[T]], *, may_repeat: Callable[[], bool] = lambda: True) -> T:
    """What the work gives, on another connection where the one it had is lost.

    may_repeat: asked then; what may have been committed already is not done again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await work()
        except Exception as error:
            if attempt == ATTEMPTS or not is_lost(error) or not may_repeat():
                raise
    raise AssertionError("the last attempt returns or raises")
