"""What a server's process writes to stderr: its end is kept, and no more is read than a log needs."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

MAX_STDERR_BYTES = 2000
LAST_WORDS_WAIT_S = 0.5
_PIECE_BYTES = 64 * 1024
_PAUSE_S = 0.01


class Stderr:
    """A pipe whose end is kept: it tells why a server did not start, and would otherwise fill our own log."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._ended: threading.Thread | None = None

    @contextmanager
    def writing(self) -> Iterator[TextIO]:
        """What the process gets as its stderr."""
        reading, writing = os.pipe()
        # A thread, because an event loop cannot read a pipe on every system. It ends with the last that can write.
        self._ended = threading.Thread(target=self._read, args=(reading,), name="stderr of an MCP server", daemon=True)
        self._ended.start()
        with os.fdopen(writing, "w") as stream:
            yield stream

    def _read(self, reading: int) -> None:
        pause = threading.Event()
        with suppress(OSError):
            while piece := os.read(reading, _PIECE_BYTES):
                self._tail.extend(piece)
                del self._tail[:-MAX_STDERR_BYTES]
                if len(piece) == _PIECE_BYTES:
                    # A full pipe: left full for a moment it slows the writer, who would else take a processor of ours.
                    pause.wait(_PAUSE_S)
        os.close(reading)

    async def last_line(self) -> str:
        if self._ended is not None:
            await asyncio.to_thread(self._ended.join, LAST_WORDS_WAIT_S)
        lines = self._tail.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""
