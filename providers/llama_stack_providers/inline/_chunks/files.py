"""Connections to a bank's file, and SQLite's errors in our words."""

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llama_stack.errors import InvalidRequest, ProviderFailed, ProviderUnavailable

if TYPE_CHECKING:
    import apsw

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for one of another process."""
PAGE_BYTES = 16_384
"""With SQLite's default of 4,096 a vector of 384 numbers wastes a quarter of its page, and a scan takes half longer."""
MAPPED_BYTES = 1 << 40
"""Read through the page cache of the system without a copy; only what is touched takes memory."""
CACHE_KIB = 4_096

Extend = Callable[["apsw.Connection"], None]
"""Makes a new connection ready, by loading an extension for example."""


def open_file(path: Path, extend: Extend, *, writable: bool) -> "apsw.Connection":
    """Raises ProviderFailed or ProviderUnavailable."""
    import apsw

    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if writable else apsw.SQLITE_OPEN_READONLY
    with sqlite_errors(path):
        connection = apsw.Connection(str(path), flags=flags)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            if writable:
                # These two come before the first table or never.
                connection.pragma("page_size", PAGE_BYTES)
                connection.pragma("auto_vacuum", "incremental")
                connection.pragma("journal_mode", "wal")
                # What a finished write wrote outlives a power cut, and what a delete deleted is overwritten.
                connection.pragma("synchronous", "full")
                connection.pragma("secure_delete", True)
            connection.pragma("mmap_size", MAPPED_BYTES)
            connection.pragma("cache_size", -CACHE_KIB)
            extend(connection)
        except BaseException:
            connection.close()
            raise
    return connection


class Readers:
    """Connections that only read, opened when they are needed. As many as threads that read at once."""

    def __init__(self, path: Path, extend: Extend) -> None:
        self._path = path
        self._extend = extend
        self._idle: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()

    @contextmanager
    def borrow(self) -> Iterator["apsw.Connection"]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = open_file(self._path, self._extend, writable=False)
        try:
            yield connection
        finally:
            self._idle.put(connection)

    @contextmanager
    def borrow_quickly(self) -> Iterator["apsw.Connection | None"]:
        """An open one that waits for no lock; None where none is idle. Raises BusyError where it would have to wait."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            yield None
            return
        connection.set_busy_timeout(0)
        try:
            yield connection
        finally:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            self._idle.put(connection)

    def close(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


def disk_reads() -> int:
    """Grows with each read that no cache of the system had: of this thread, or of all where only that is told."""
    try:
        import resource
    except ImportError:
        return 0  # Windows does not tell
    used = resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))
    return used.ru_majflt + used.ru_inblock


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into what this framework promises to raise."""
    import apsw

    try:
        yield
    except apsw.BusyError as error:
        raise ProviderUnavailable(f"another process keeps {path.name} locked; try again") from error
    except apsw.FullError as error:
        raise ProviderFailed(f"the disk that holds {path.parent} is full; make room and try again") from error
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise ProviderFailed(f"{path} is damaged ({error}); restore it or drop the bank") from error
    except (apsw.CantOpenError, apsw.PermissionsError, apsw.ReadOnlyError, apsw.IOError) as error:
        raise ProviderUnavailable(f"{path} cannot be read or written ({error}); check the folder") from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("a text holds half of a surrogate pair, which is no character; remove it") from error
