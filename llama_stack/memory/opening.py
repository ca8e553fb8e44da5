"""The memory of a stack, raised: readers, the way out to addresses, banks, and work in the background."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from llama_stack.api.files import LocalFiles
from llama_stack.api.stack import Registry, Stack
from llama_stack.documents.limits import ReadingLimits
from llama_stack.documents.reading import open_reader
from llama_stack.memory.arrivals import Arrivals
from llama_stack.memory.banks import Banks, IndexProvider
from llama_stack.memory.captions import Captions
from llama_stack.memory.sent_files import DocumentFiles
from llama_stack.memory.service import MemoryService, open_memory
from llama_stack.storage.banks import BankStore
from llama_stack.storage.database import Database

if TYPE_CHECKING:
    import httpx

    from llama_stack.documents.fetching import Fetched

MAX_FETCHES = 16


@dataclass(frozen=True)
class MemorySettings:
    """providers: the stack's memory providers, in order of preference. processes: files that are read side by side.

    limits: of one document. caption_model: a chat model that sees, which describes pictures. allow_private_addresses:
    documents may be fetched from this machine and its network. transport: replaces the network in tests.
    """

    providers: Sequence[IndexProvider]
    limits: ReadingLimits
    processes: int = 1
    caption_model: str | None = None
    allow_private_addresses: bool = False
    transport: "httpx.AsyncBaseTransport | None" = None


@asynccontextmanager
async def open_memory_of(
    stack: Stack, registry: Registry, files: LocalFiles, database: Database, settings: MemorySettings
) -> AsyncIterator[MemoryService]:
    caption = None if settings.caption_model is None else Captions(stack.inference, settings.caption_model)
    opening = open_reader(settings.limits, processes=settings.processes, caption=caption)
    async with opening as reader, _open_door(settings) as door:
        banks = Banks(stack, registry, BankStore(database), settings.providers)
        arrivals, sent = Arrivals(reader, door.fetch), DocumentFiles(reader, door.fetch, files)
        async with open_memory(banks, database, stack.inference, arrivals, files, sent) as service:
            yield service


class _Door:
    """The way out to addresses, opened when the first one is fetched."""

    def __init__(self, settings: MemorySettings) -> None:
        self._settings = settings
        self._opening = asyncio.Lock()
        self.http: httpx.AsyncClient | None = None

    async def fetch(self, url: str) -> "Fetched":
        # It loads the network's libraries, a tenth of a second that the event loop need not stand still.
        await asyncio.to_thread(import_module, "llama_stack.documents.fetching")
        from llama_stack.documents.fetching import FetchLimits, fetch

        limits = FetchLimits(
            max_bytes=min(self._settings.limits.max_file_bytes, FetchLimits().max_bytes),
            allow_private=self._settings.allow_private_addresses,
        )
        return await fetch(url, await self._client(), limits)

    async def _client(self) -> "httpx.AsyncClient":
        async with self._opening:
            if self.http is None:
                await asyncio.to_thread(import_module, "httpx_aiohttp")
                from llama_stack.transport import Client, open_transport

                transport = self._settings.transport or open_transport(max_connections=MAX_FETCHES)
                self.http = Client(transport=transport, follow_redirects=False)
            return self.http


@asynccontextmanager
async def _open_door(settings: MemorySettings) -> AsyncIterator[_Door]:
    door = _Door(settings)
    try:
        yield door
    finally:
        if door.http is not None:
            await door.http.aclose()
