"""Server-sent events as they arrive (WHATWG HTML, "Server-sent events"): bytes in, events out."""

from codecs import BOM_UTF8
from typing import NamedTuple

from llama_stack.errors import ProviderFailed

DEFAULT_LIMIT_BYTES = 8 * 1024 * 1024


class ServerSentEvent(NamedTuple):
    """data: the `data` lines joined by newlines, still UTF-8 bytes, as a JSON parser wants them."""

    data: bytes
    event: str = "message"
    id: str | None = None


class SSEDecoder:
    """Splits a byte stream into events, wherever the network cut it: inside a line, a line ending or a character.

    Accepts LF, CR LF and CR, a byte order mark, comments, `data:` with or without the space.
    limit_bytes: most bytes of one event; more raises ProviderFailed, so a broken upstream cannot fill the memory.
    """

    def __init__(self, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = "message"
        self._id: str | None = None
        self._at_start = True

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Events completed by these bytes."""
        if self._rest:
            self._rest += chunk
            self._check(len(self._rest))
            if b"\n" not in chunk and b"\r" not in chunk and not self._at_start:
                return []
            chunk = bytes(self._rest)
        if self._at_start:
            if len(chunk) < len(BOM_UTF8) and BOM_UTF8.startswith(chunk):
                self._rest[:] = chunk
                return []
            chunk = chunk.removeprefix(BOM_UTF8)
            self._at_start = False
        lines = chunk.splitlines(keepends=True)
        # A line is over once its ending is whole: a CR at the very end may be the first half of CR LF.
        self._rest[:] = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        self._check(len(self._rest))
        events: list[ServerSentEvent] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), events)
        return events

    def close(self) -> list[ServerSentEvent]:
        """The last event of a stream that ended without its blank line; standard readers drop it, model servers'
        readers must not, because some send `[DONE]` that way.
        """
        events: list[ServerSentEvent] = []
        if self._rest:
            self._take(bytes(self._rest).rstrip(b"\r\n"), events)
            self._rest.clear()
        self._take(b"", events)
        return events

    def _take(self, line: bytes, events: list[ServerSentEvent]) -> None:
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_bytes += len(value)
            self._check(self._data_bytes)
        elif not line:
            if self._data:
                events.append(ServerSentEvent(b"\n".join(self._data), self._event, self._id))
                self._data = []
                self._data_bytes = 0
            self._event = "message"
        elif not line.startswith(b":"):
            name, _, text = line.partition(b":")
            value_text = text.removeprefix(b" ").decode("utf-8", "replace")
            if name == b"event":
                self._event = value_text
            elif name == b"id":
                self._id = value_text
            elif name == b"data":
                self._data.append(b"")

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes:
            raise ProviderFailed(f"the upstream sent an event longer than {self._limit_bytes} bytes")
