"""Files: bytes that a caller uploads once and names by their id afterwards, as OpenAI's API reference has them."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field, field_validator

from llama_stack.api.common import Caller, Page, Word
from llama_stack.errors import PayloadTooLarge

MIN_EXPIRY_S = 3600
MAX_EXPIRY_S = 30 * 24 * 3600
MAX_FILES_LISTED = 10_000
MAX_FILENAME_BYTES = 512
_NOT_IN_NAMES = dict.fromkeys([*range(32), 127, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Control characters, and those that make text run the other way, so that a name shows another ending than it has."""


class FilePurpose(StrEnum):
    """What a file is meant for. The last three are given to files that the stack makes."""

    ASSISTANTS = "assistants"
    BATCH = "batch"
    FINE_TUNE = "fine-tune"
    VISION = "vision"
    USER_DATA = "user_data"
    EVALS = "evals"
    ASSISTANTS_OUTPUT = "assistants_output"
    BATCH_OUTPUT = "batch_output"
    FINE_TUNE_RESULTS = "fine-tune-results"


UPLOAD_PURPOSES = tuple(FilePurpose)[:6]
"""Those that a caller may give."""


def base_name(name: str) -> str:
    """The last part of what may be a path, on either kind of system (RFC 7578, 4.2); empty where there is none."""
    name = name.replace("\\", "/").rpartition("/")[2].translate(_NOT_IN_NAMES).strip()
    return "" if name in (".", "..") else name


class NewFile(Word):
    """What is said of a file beside its content.

    filename: how people call it; of a path, the last part is kept. mime_type: without parameters; empty where nobody
    knows it, then the name tells it. expires_after_s: seconds from its making after which it is gone; None keeps it
    until it is deleted.
    """

    filename: str
    purpose: FilePurpose
    mime_type: str = Field(default="", max_length=255, pattern=r"^([A-Za-z0-9_.+-]+/[A-Za-z0-9_.+-]+)?$")
    expires_after_s: int | None = Field(default=None, ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)

    @field_validator("filename")
    @classmethod
    def _is_a_name(cls, filename: str) -> str:
        name = base_name(filename)
        if not 1 <= len(name.encode(errors="replace")) <= MAX_FILENAME_BYTES:
            raise ValueError(f"a file needs a name of 1 to {MAX_FILENAME_BYTES} bytes")
        return name


class File(Word):
    """A stored file. sha256: of its content, in hexadecimal. status: every file can be used as soon as it is there."""

    file_id: str
    filename: str
    purpose: FilePurpose
    mime_type: str
    size_bytes: int
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None
    status: Literal["processed"] = "processed"


class Files(Protocol):
    """Keeps files. Every method sees the caller's own only: another owner's id, like an expired one, is NotFound."""

    async def create(self, content: AsyncIterable[bytes], about: NewFile, caller: Caller) -> File:
        """Keep the content, which is never held in memory as a whole; it is on the disk when this returns.

        Raises InvalidRequest for an empty content, PayloadTooLarge beyond the limit of one file, RateLimited while too
        many are being received. Nothing is left of a content that breaks off.
        """
        ...

    async def file(self, file_id: str, caller: Caller) -> File: ...

    async def page(
        self,
        caller: Caller,
        *,
        limit: int = 1000,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: FilePurpose | None = None,
    ) -> Page[File]:
        """By time. limit: up to `MAX_FILES_LISTED`."""
        ...

    async def delete(self, file_id: str, caller: Caller) -> None:
        """It is not found any more when this returns; its bytes are removed as soon as nothing needs them."""
        ...

    def content(self, file_id: str, caller: Caller) -> AsyncGenerator[bytes, None]:
        """The bytes, in pieces. Raises NotFound before the first one."""
        ...


FileDeleted = Callable[[File, Caller], Awaitable[None]]
"""Lets go of what was made of a file. It may be called again for the same file, and then finds nothing left to do."""


class IncomingFile(Protocol):
    """A file that is being received; gone when its context ends, unless it was kept."""

    async def write(self, chunk: bytes) -> None:
        """Raises PayloadTooLarge once there is more than one file may have."""
        ...

    async def keep(self, about: NewFile, caller: Caller) -> File:
        """Raises InvalidRequest when nothing was written."""
        ...


class LocalFiles(Files, Protocol):
    """Files whose contents this process can reach."""

    @property
    def max_file_bytes(self) -> int: ...

    def receive(self) -> AbstractAsyncContextManager[IncomingFile]:
        """For content that comes before what is said of it. Raises RateLimited while too many are being received."""
        ...

    async def path(self, file_id: str, caller: Caller) -> Path:
        """Where the bytes lie, to be read only. Whoever has opened it can read on when the file is deleted."""
        ...

    def on_delete(self, callback: FileDeleted) -> None:
        """Have `callback` awaited for each file that was deleted or has expired, before its bytes are removed.

        One that raises is called again some time later.
        """
        ...


def file_too_large(max_file_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"file: is larger than {max_file_bytes} bytes; send less, or raise storage.max_file_bytes in the distribution",
        param="file",
        code="file_too_large",
    )
