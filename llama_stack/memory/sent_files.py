"""Files that come with messages, read by the readers of documents; fulfils `api.sent_files.SentFiles`."""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llama_stack.api.common import Caller
from llama_stack.api.files import LocalFiles
from llama_stack.api.inference import Capabilities
from llama_stack.api.messages import ContentPart, FilePart, ImagePart, Message, TextPart
from llama_stack.api.sent_files import FieldOf, SentFile, check_count
from llama_stack.documents.detection import HEAD_BYTES, PDF, display_name, image_type
from llama_stack.documents.failures import DocumentUnreadable
from llama_stack.documents.reading import Reader
from llama_stack.errors import InvalidRequest, ProviderFailed, StackError, UnsupportedParameter

if TYPE_CHECKING:
    from llama_stack.documents.fetching import Fetched

PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What models that see take; text is read from all other images."""
MAX_INLINE_BYTES = 32 * 1024 * 1024
"""Of a file that goes to the model as it is: it travels in base64 with each request of the conversation."""
_PDF_SIGNATURE = b"%PDF-"


@dataclass(frozen=True)
class _Arrived:
    """A file within reach. source: its content, or where it lies."""

    source: bytes | Path
    size_bytes: int
    name: str
    mime_type: str

    async def head(self) -> bytes:
        if isinstance(self.source, bytes):
            return self.source[:HEAD_BYTES]
        return await asyncio.to_thread(_head, self.source)

    async def data_url(self, mime_type: str) -> str:
        if self.size_bytes > MAX_INLINE_BYTES:
            raise DocumentUnreadable(
                f"it has {self.size_bytes} bytes, more than the {MAX_INLINE_BYTES} that go to a model as they are; send"
                " a smaller one",
                code="too_large",
            )
        return f"data:{mime_type};base64,{await asyncio.to_thread(_base64, self.source)}"


class DocumentFiles:
    """fetch: what an address leads to, `data:` ones included."""

    def __init__(self, reader: Reader, fetch: "Callable[[str], Awaitable[Fetched]]", files: LocalFiles) -> None:
        self._reader = reader
        self._fetch = fetch
        self._files = files

    async def read(self, file: SentFile, able: Capabilities, caller: Caller) -> ContentPart:
        try:
            return await self._part(await self._arrived(file, caller), file, able)
        except StackError as error:
            raise _named(error, file.field) from None

    async def in_messages(
        self, messages: Sequence[Message], able: Capabilities, caller: Caller, field_of: FieldOf
    ) -> list[Message]:
        told, count = list(messages), 0
        for place, message in enumerate(messages):
            if not isinstance(message.content, list):
                continue
            parts = list(message.content)
            for number, part in enumerate(parts):
                if isinstance(part, FilePart):
                    field, count = field_of(place, number, part), count + 1
                    check_count(count, field)
                    parts[number] = await self.read(_sent(part, field), able, caller)
            if parts != message.content:
                told[place] = message.model_copy(update={"content": parts})
        return told

    # --- where it comes from -----------------------------------------------------------------------------------------

    async def _arrived(self, file: SentFile, caller: Caller) -> _Arrived:
        if file.file_id is not None:
            kept = await self._files.file(file.file_id, caller)
            path = await self._files.path(file.file_id, caller)
            return _Arrived(path, kept.size_bytes, kept.filename, kept.mime_type)
        if file.data is not None:
            url = file.data if file.data[:5].lower() == "data:" else f"data:application/octet-stream;base64,{file.data}"
        elif file.url is not None:
            url = file.url
        else:
            raise InvalidRequest("is required: name an uploaded file, or send its content as a data: URL")
        try:
            fetched = await self._fetch(url)
        except ProviderFailed as error:
            # Whoever gave the address can mend it; it says nothing of the model's provider.
            raise InvalidRequest(error.message, code="file_not_fetched") from None
        name = file.filename or fetched.filename
        return _Arrived(fetched.content, len(fetched.content), name, fetched.declared_type)

    # --- what becomes of it ------------------------------------------------------------------------------------------

    async def _part(self, arrived: _Arrived, file: SentFile, able: Capabilities) -> ContentPart:
        head = await arrived.head()
        picture = image_type(head)
        if picture in PICTURES:
            if not able.vision:
                raise UnsupportedParameter("it is a picture, which this model cannot read; use another model")
            return ImagePart(url=await arrived.data_url(picture), detail=file.detail)
        if file.is_picture:
            raise DocumentUnreadable("it is no PNG, JPEG, GIF or WebP picture; send one", code="unsupported_file")
        name = display_name(arrived.name)
        if able.files and head.startswith(_PDF_SIGNATURE):
            return FilePart(data_url=await arrived.data_url(PDF), filename=name)
        document = await self._reader.read(arrived.source, filename=arrived.name, mime_type=arrived.mime_type)
        notes = "".join(f"\n\n[Note: {warning}]" for warning in document.warnings)
        # Models are given the parts of a message without anything between them: the question may stand before.
        return TextPart(text=f"\nFile {name!r}:\n\n{document.text}{notes}\n\n")


def _sent(part: FilePart, field: str) -> SentFile:
    return SentFile(field=field, file_id=part.file_id, data=part.data_url, filename=part.filename)


def _named(error: StackError, field: str) -> StackError:
    """The same error, of the field that the caller sent."""
    error.message = f"{field}: {error.message}"
    error.args = (error.message,)
    error.param = field
    return error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _base64(source: bytes | Path) -> str:
    return b64encode(source if isinstance(source, bytes) else source.read_bytes()).decode("ascii")
