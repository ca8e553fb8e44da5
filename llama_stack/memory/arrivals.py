"""Where the content of a document comes from: what a caller sent, an address, or an uploaded file."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llama_stack.api.common import Caller
from llama_stack.api.files import LocalFiles
from llama_stack.api.memory import Document
from llama_stack.api.messages import text_of
from llama_stack.documents.blocks import ReadDocument
from llama_stack.documents.detection import claims_no_text
from llama_stack.documents.reading import Reader
from llama_stack.errors import InvalidRequest, ProviderUnavailable
from llama_stack.memory.ingestion import Arrived, Fetch

if TYPE_CHECKING:
    from llama_stack.documents.fetching import Fetched

READ_BYTES = 1024 * 1024


class Arrivals:
    """Brings contents. fetch: what an address leads to."""

    def __init__(self, reader: Reader, fetch: "Callable[[str], Awaitable[Fetched]]") -> None:
        self._reader = reader
        self._fetch = fetch

    def of_document(self, document: Document) -> Fetch:
        """Raises InvalidRequest, when it is fetched, for a document that says neither content nor address."""

        async def arrive() -> Arrived:
            if (document.content is None) == (document.url is None):
                raise InvalidRequest(
                    f"document {document.document_id!r}: give either `content` or `url`", param="documents"
                )
            if document.url is not None:
                return await self._from_address(document, document.url)
            content = text_of(document.content).encode(errors="replace")
            # Plain text is Markdown without marks; what people paste in often has some.
            name, mime_type = document.name or document.document_id, document.mime_type or "text/markdown"
            if claims_no_text(name, mime_type):
                # What a caller sends as text is text, and may be called as the file that it was taken from.
                name, mime_type = "", "text/markdown"
            return self._arrived(content, name, mime_type)

        return arrive

    async def _from_address(self, document: Document, url: str) -> Arrived:
        fetched = await self._fetch(url)
        mime_type = document.mime_type or fetched.declared_type
        return self._arrived(fetched.content, document.name or fetched.filename, mime_type)

    def of_file(self, files: LocalFiles, file_id: str, caller: Caller) -> Fetch:
        async def arrive() -> Arrived:
            file = await files.file(file_id, caller)
            path = await files.path(file_id, caller)
            digest = file.sha256 or await asyncio.to_thread(_digest, path)

            async def read() -> ReadDocument:
                return await self._reader.read(path, filename=file.filename, mime_type=file.mime_type)

            return Arrived(digest, file.size_bytes, read)

        return arrive

    def interrupted(self) -> Fetch:
        """Of a document whose content was in the hands of a process that died, and of the caller who waited for it."""

        async def arrive() -> Arrived:
            raise ProviderUnavailable("the server stopped while it took the document in; insert it again")

        return arrive

    def _arrived(self, content: bytes, name: str, mime_type: str) -> Arrived:
        async def read() -> ReadDocument:
            return await self._reader.read(content, filename=name, mime_type=mime_type)

        return Arrived(hashlib.sha256(content).hexdigest(), len(content), read)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
