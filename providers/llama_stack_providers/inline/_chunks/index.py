"""ChunkIndex over a folder of banks, for any way of keeping vectors."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from llama_stack.api.chunk_index import BankPlace, FoundChunk, IndexAbilities, IndexStats
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.memory import Chunk
from llama_stack.api.vectors import FLOAT_BYTES, Vectors
from llama_stack.errors import InvalidRequest, NotFound, StackError
from llama_stack.provider import ProviderConfig
from llama_stack_providers.inline._chunks.bank import Bank, Interruption
from llama_stack_providers.inline._chunks.files import Extend
from llama_stack_providers.inline._chunks.folder import Folder, OpenBank, OpenKeeper
from llama_stack_providers.inline._chunks.threads import in_thread

logger = logging.getLogger(__name__)

Where = Comparison | Compound | None
ResultT = TypeVar("ResultT")
WRITING_THREADS = 2
TIDYING_DELAY_S = 1.0


class InlineConfig(ProviderConfig):
    """Settings that all indexes in this process share."""

    folder: Path | None = Field(None, description="where the banks' files lie; default: the provider's own folder")
    max_open_banks: int = Field(64, ge=1, description="banks that stay open, and in memory, while nobody uses them")
    search_threads: int = Field(
        min(8, os.cpu_count() or 1), ge=1, le=64, description="searches and listings that run at the same time"
    )


@dataclass(frozen=True)
class Engine:
    """What a provider brings. check: raises InvalidRequest for params of a bank that it cannot serve.

    extend: makes a connection ready. keeper: for the vectors of a bank. start_searching, start_writing: run first in
    each thread that does so.
    """

    abilities: IndexAbilities
    check: Callable[[BankPlace], None]
    extend: Extend
    keeper: OpenKeeper
    start_searching: Callable[[], None] | None = None
    start_writing: Callable[[], None] | None = None


class InlineIndex:
    """Checks what is asked for, then has it done in a thread. Writes to one bank wait for each other.

    A search in a small bank in memory is made at once: it takes a third of a millisecond, and changing threads as long.
    """

    def __init__(self, folder: Folder, engine: Engine, readers: Executor, writers: Executor) -> None:
        self._folder = folder
        self._engine = engine
        self._readers = readers
        self._writers = writers
        self._untidy: dict[str, BankPlace] = {}
        self._tidying = asyncio.Event()

    def abilities(self) -> IndexAbilities:
        return self._engine.abilities

    async def create_bank(self, bank: BankPlace) -> None:
        widest = self._engine.abilities.max_dimension
        if not 0 <= bank.dimension <= widest:
            raise InvalidRequest(
                f"vectors of {bank.dimension} numbers cannot be kept; their dimension is between 1 and {widest}, "
                "or 0 for a bank without vectors",
                param="dimension",
            )
        self._engine.check(bank)
        await self._folder.create(bank)

    async def drop_bank(self, bank: BankPlace) -> None:
        await self._folder.drop(bank.key)

    async def write_chunks(
        self, bank: BankPlace, chunks: list[Chunk], vectors: Vectors | None, *, replace_documents: bool = False
    ) -> None:
        async with self._folder.using(bank) as entry:
            _check_vectors(entry.bank.facts.dimension, len(chunks), vectors)
            if chunks:
                await self._write(entry, lambda there, stop: there.write(chunks, vectors, replace_documents, stop))
                self._tidy_later(bank, entry)

    async def search_vector(
        self,
        bank: BankPlace,
        vector: bytes,
        limit: int,
        where: Where = None,
        *,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        async with self._folder.using(bank) as entry:
            dimension = entry.bank.facts.dimension
            if not dimension:
                raise InvalidRequest("this bank has no vectors; search it by words", param="vector")
            if len(vector) != dimension * FLOAT_BYTES:
                raise InvalidRequest(
                    f"the bank's vectors have {dimension} numbers, this one has {len(vector) / FLOAT_BYTES:g}; "
                    "embed the query with the bank's model",
                    param="vector",
                )
            found = None
            if where is None and not with_vectors:
                found = entry.bank.search_quickly(vector, limit)
            if found is None:
                found = await self._read(
                    entry, lambda there, stop: there.search_vector(vector, limit, where, with_vectors, stop)
                )
            self._tidy_later(bank, entry)
            return found

    async def search_keyword(self, bank: BankPlace, query: str, limit: int, where: Where = None) -> list[FoundChunk]:
        async with self._folder.using(bank) as entry:
            return await self._read(entry, lambda there, stop: there.search_words(query, limit, where, stop))

    async def list_chunks(
        self,
        bank: BankPlace,
        *,
        document_ids: list[str] | None = None,
        where: Where = None,
        limit: int = 1000,
        after: str | None = None,
        with_vectors: bool = False,
    ) -> list[FoundChunk]:
        async with self._folder.using(bank) as entry:
            return await self._read(
                entry, lambda there, stop: there.list_chunks(document_ids, where, limit, after, with_vectors, stop)
            )

    async def set_metadata(self, bank: BankPlace, document_id: str, metadata: JsonObject) -> None:
        async with self._folder.using(bank) as entry:
            await self._write(entry, lambda there, stop: there.set_metadata(document_id, metadata, stop))

    async def delete_documents(self, bank: BankPlace, document_ids: list[str]) -> int:
        async with self._folder.using(bank) as entry:
            gone = await self._write(entry, lambda there, stop: there.delete_documents(document_ids, stop))
            self._tidy_later(bank, entry)
            return gone

    async def delete_where(self, bank: BankPlace, where: Comparison | Compound) -> int:
        async with self._folder.using(bank) as entry:
            gone = await self._write(entry, lambda there, stop: there.delete_where(where, stop))
            self._tidy_later(bank, entry)
            return gone

    async def stats(self, bank: BankPlace) -> IndexStats:
        async with self._folder.using(bank) as entry:
            return await self._read(entry, lambda there, stop: there.stats(stop))

    async def tidy(self, bank: BankPlace) -> None:
        """Give back all that deletes have left; happens by itself, a while after them."""
        more = True
        while more:
            async with self._folder.using(bank) as entry:
                more = await self._write(entry, lambda there, stop: there.tidy(stop))

    async def tidy_forever(self) -> None:
        """Tidy the banks that something was removed from, one after the other, a step at a time."""
        while True:
            await self._tidying.wait()
            # Documents are often deleted one after the other; tidying once behind them all costs as much as once.
            await asyncio.sleep(TIDYING_DELAY_S)
            while self._untidy:
                _, bank = self._untidy.popitem()
                try:
                    await self.tidy(bank)
                except NotFound:
                    # It was dropped meanwhile, and is as tidy as can be.
                    continue
                except StackError as error:
                    # What is left takes room, no more; the next removal brings the bank here again.
                    logger.warning("a memory bank could not be tidied: %s", error)
            self._tidying.clear()

    def _tidy_later(self, bank: BankPlace, entry: OpenBank) -> None:
        if entry.bank.untidy:
            self._untidy[bank.key] = bank
            self._tidying.set()

    async def _read(self, entry: OpenBank, work: Callable[[Bank, Interruption], ResultT]) -> ResultT:
        return await in_thread(self._readers, lambda stop: work(entry.bank, stop))

    async def _write(self, entry: OpenBank, work: Callable[[Bank, Interruption], ResultT]) -> ResultT:
        async with entry.writing:
            return await in_thread(self._writers, lambda stop: work(entry.bank, stop))


@asynccontextmanager
async def open_index(config: InlineConfig, home: Path, engine: Engine) -> AsyncIterator[InlineIndex]:
    """Open the folder, `home` where the config names none; on leaving, wait for what runs and close its banks."""
    with (
        ThreadPoolExecutor(config.search_threads, "memory-search", engine.start_searching) as readers,
        ThreadPoolExecutor(WRITING_THREADS, "memory-write", engine.start_writing) as writers,
    ):
        folder = Folder(config.folder or home, engine.extend, engine.keeper, writers, config.max_open_banks)
        index = InlineIndex(folder, engine, readers, writers)
        if engine.start_searching is not None:
            engine.start_searching()  # the event loop's thread does, too
        # Not a task group: that would wrap whatever is raised while the index is in use.
        tidying = asyncio.create_task(index.tidy_forever())
        try:
            yield index
        finally:
            tidying.cancel()
            await asyncio.wait([tidying])
            await folder.close()


def _check_vectors(dimension: int, chunks: int, vectors: Vectors | None) -> None:
    if vectors is None:
        if dimension and chunks:
            raise InvalidRequest(
                f"the bank wants a vector of {dimension} numbers with each chunk; embed them first", param="vectors"
            )
        return
    if not dimension:
        raise InvalidRequest("the bank has no vectors; write the chunks without them", param="vectors")
    if vectors.dimension != dimension:
        raise InvalidRequest(
            f"the bank's vectors have {dimension} numbers, these have {vectors.dimension}; "
            "embed the chunks with the bank's model",
            param="vectors",
        )
    if len(vectors) != chunks:
        raise InvalidRequest(f"{len(vectors)} vectors came with {chunks} chunks; each has one", param="vectors")
