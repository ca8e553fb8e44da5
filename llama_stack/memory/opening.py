"""The memory of a stack, raised: readers, the way out to addresses, banks, and work in the background."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llama_stack.api.files import LocalFiles
from llama_stack.api.stack import Registry, Stack
from llama_stack.documents.limits import ReadingLimits
from llama_stack.documents.reading import open_reader
from llama_stack.memory.arrivals import Arrivals
from llama_stack.memory.banks import Banks, IndexProvider
from llama_stack.memory.service import MemoryService, open_memory
from llama_stack.storage.banks import BankStore
from llama_stack.storage.database import Database

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class MemorySettings:
    """transport: replaces the network in tests. providers: the stack's memory providers, in order of preference."""

    providers: Sequence[IndexProvider]
    transport: "httpx.AsyncBaseTransport | None" = None
    limits: ReadingLimits = field(default_factory=ReadingLimits)


@asynccontextmanager
async def open_memory_of(
    stack: Stack, registry: Registry, files: LocalFiles, database: Database, settings: MemorySettings
) -> AsyncIterator[MemoryService]:
    async with open_reader(settings.limits) as reader:
        banks = Banks(stack, registry, BankStore(database), settings.providers)
        arrivals = Arrivals(reader, settings.transport)
        async with open_memory(banks, database, stack.inference, arrivals, files) as service:
            yield service
