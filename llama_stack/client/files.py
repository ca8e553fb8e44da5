"""The files of a stack at the other end of a connection."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Literal
from urllib.parse import urlencode

from llama_stack.api.common import Caller, Page
from llama_stack.api.files import File, FilePurpose, NewFile
from llama_stack.client.exchange import Exchange
from llama_stack.wire.openai_files import decode_file, decode_file_page, encode_upload, file_path


class RemoteFiles:
    """Fulfils `api.files.Files` over /v1/files."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def create(self, content: AsyncIterable[bytes], about: NewFile, caller: Caller) -> File:
        boundary = secrets.token_hex(16)
        head, tail = encode_upload(about, boundary)

        async def form() -> AsyncGenerator[bytes, None]:
            yield head
            async for chunk in content:
                yield chunk
            yield tail

        kind = f"multipart/form-data; boundary={boundary}"
        async with aclosing(form()) as pieces:
            return decode_file(await self._exchange.upload("v1/files", pieces, kind, caller))

    async def file(self, file_id: str, caller: Caller) -> File:
        return decode_file(await self._exchange.get(file_path(file_id), caller))

    async def page(
        self,
        caller: Caller,
        *,
        limit: int = 1000,
        after: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        purpose: FilePurpose | None = None,
    ) -> Page[File]:
        asked = {"limit": limit, "order": order, "after": after, "purpose": purpose and purpose.value}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return decode_file_page(await self._exchange.get(f"v1/files?{query}", caller))

    async def delete(self, file_id: str, caller: Caller) -> None:
        await self._exchange.delete(file_path(file_id), caller)

    async def content(self, file_id: str, caller: Caller) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._exchange.download(f"{file_path(file_id)}/content", caller)) as chunks:
            async for chunk in chunks:
                yield chunk
