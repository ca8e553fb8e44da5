"""Reading files of any supported format, each in a process of its own making and within limits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from llama_stack.documents import detection
from llama_stack.documents.blocks import BlockKind, DocumentBuilder, ReadDocument, from_json
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.limits import ReadingLimits
from llama_stack.documents.parsing import LIGHT, parse
from llama_stack.documents.workers import Workers
from llama_stack.errors import NotFound

Caption = Callable[[bytes, str], Awaitable[str]]
"""What an image shows, in words, from its content and MIME type."""

SMALL_BYTES = 64 * 1024
MANY_BLOCKS = 1000
"""More take long enough to be made that others would wait."""


class Reader:
    """Reads documents; made by `open_reader`."""

    def __init__(self, limits: ReadingLimits, workers: Workers, caption: Caption | None) -> None:
        self._limits = limits
        self._workers = workers
        self._caption = caption

    async def read(self, source: bytes | Path, *, filename: str, mime_type: str = "") -> ReadDocument:
        """The file as text with its structure.

        source: the content, or where it lies. filename: what its owner calls it; only its end counts, and it is never
        opened. mime_type: what its owner says it is, used where the name says nothing.
        Raises DocumentUnreadable with a code of `failures.FailureCode`, NotFound where nothing lies at the path, and
        RateLimited when too many files wait already.
        """
        filename = detection.display_name(filename)
        if isinstance(source, Path):
            # A worker may have started in another folder.
            source = await asyncio.to_thread(source.absolute)
        try:
            size = len(source) if isinstance(source, bytes) else (await asyncio.to_thread(source.stat)).st_size
            self._check_size(size)
            if size <= SMALL_BYTES or self._caption is not None:
                content = source if isinstance(source, bytes) else await asyncio.to_thread(_head, source)
                done = await self._read_here(content, size, source, filename, mime_type)
                if done is not None:
                    return done
        except FileNotFoundError:
            raise _gone(filename) from None
        return await self._read_apart(source, filename, mime_type)

    def _check_size(self, size: int) -> None:
        if size == 0:
            raise DocumentUnreadable("the file is empty; send one with content", code="empty")
        if size > self._limits.max_file_bytes:
            raise DocumentUnreadable(
                f"it has {size} bytes, more than {self._limits.max_file_bytes}; split it, or raise max_file_bytes",
                code="too_large",
            )

    async def _read_here(
        self, head: bytes, size: int, source: bytes | Path, filename: str, mime_type: str
    ) -> ReadDocument | None:
        """What needs no process: small plain text, and images that somebody describes."""
        if size <= SMALL_BYTES:
            light = await asyncio.to_thread(_read_light, head, filename, mime_type, self._limits)
            if light is not None:
                return light
        if self._caption is None or detection.image_type(head) is None:
            return None
        found = detection.detect(head, filename, mime_type)
        content = source if isinstance(source, bytes) else await asyncio.to_thread(source.read_bytes)
        builder = DocumentBuilder(self._limits.max_text_characters, mime_type=found)
        builder.add(BlockKind.CAPTION, await self._caption(content, found))
        if builder.is_empty:
            raise DocumentUnreadable("nothing could be said of the image; describe it in a text", code="no_text")
        return builder.built()

    async def _read_apart(self, source: bytes | Path, filename: str, mime_type: str) -> ReadDocument:
        content = source if isinstance(source, bytes) else None
        question = {
            "filename": filename,
            "mime_type": mime_type,
            "size": None if content is None else len(content),
            "path": None if isinstance(source, bytes) else str(source),
        }
        answer = await self._workers.ask(question, content)
        if "gone" in answer:
            raise _gone(filename)
        if "failure" in answer:
            failure = answer["failure"]
            raise DocumentUnreadable(failure["message"], code=failure["code"])
        document = answer["document"]
        if len(document["blocks"]) > MANY_BLOCKS:
            return await asyncio.to_thread(from_json, document)
        return from_json(document)


@asynccontextmanager
async def open_reader(
    limits: ReadingLimits | None = None, *, processes: int = 1, caption: Caption | None = None
) -> AsyncIterator[Reader]:
    """A reader with its own worker processes, which start when they are needed and end with the context.

    processes: files that are read at the same time. caption: describes images; without it their text is recognised,
    where a library for that is installed.
    """
    workers = Workers(limits := limits or ReadingLimits(), processes)
    try:
        yield Reader(limits, workers, caption)
    finally:
        await workers.close()


def _read_light(content: bytes, filename: str, mime_type: str, limits: ReadingLimits) -> ReadDocument | None:
    if detection.detect(content, filename, mime_type) not in LIGHT:
        return None
    return parse(content, filename, mime_type, limits)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SMALL_BYTES)


def _gone(filename: str) -> NotFound:
    return NotFound(f"the file {filename!r} is no longer there")
