"""Many threads read or one writes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ReadWriteLock:
    """A writer that waits goes before readers that come after it, so reading without end cannot keep it out."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._waiting = 0
        self._written = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._written and not self._waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def shared_at_once(self) -> Iterator[bool]:
        """As `shared` where nobody writes or waits to; False, and nothing held, where somebody does."""
        with self._changed:
            is_free = not self._written and not self._waiting
            self._readers += is_free
        try:
            yield is_free
        finally:
            if is_free:
                with self._changed:
                    self._readers -= 1
                    self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._written and not self._readers)
                self._written = True
            finally:
                self._waiting -= 1
                # Should the wait be broken off, the readers behind it must not sleep on.
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._written = False
                self._changed.notify_all()
