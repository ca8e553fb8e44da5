"""The folder that the banks' files lie in, and which of them are open."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llama_stack.api.chunk_index import BankPlace
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack_providers.inline._chunks.bank import Bank, files_of
from llama_stack_providers.inline._chunks.files import Extend, open_file, sqlite_errors
from llama_stack_providers.inline._chunks.filters import add_exact_comparison
from llama_stack_providers.inline._chunks.keeper import VECTORS_TABLE, VectorKeeper
from llama_stack_providers.inline._chunks.schema import BankFacts, create_tables, read_facts, transaction
from llama_stack_providers.inline._chunks.threads import in_thread

if TYPE_CHECKING:
    import apsw

SUFFIX = ".bank"
OpenKeeper = Callable[[BankFacts, Path], VectorKeeper]
"""From what a bank was made with, and its file."""
_KEY = re.compile("[a-z][a-z0-9_]{0,47}")


@dataclass
class OpenBank:
    """writing: held by whoever writes. users: how many work on it; idle: set while nobody does."""

    bank: Bank
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Folder:
    """Banks are opened when they are needed; of those that nobody needs, the one unused for longest is closed.

    limit: how many stay open at once, not counting those in use.
    """

    def __init__(self, path: Path, extend: Extend, open_keeper: OpenKeeper, executor: Executor, limit: int) -> None:
        self._path = path
        self._extend = extend
        self._open_keeper = open_keeper
        self._executor = executor
        self._limit = limit
        self._open: OrderedDict[str, OpenBank] = OrderedDict()
        self._changing = asyncio.Lock()

    @asynccontextmanager
    async def using(self, place: BankPlace) -> AsyncIterator[OpenBank]:
        """The bank, which stays open meanwhile. Raises NotFound where there is none."""
        entry = self._open.get(place.key)
        if entry is None:
            async with self._changing:
                entry = self._open.get(place.key) or await self._enter(place.key)
                entry.users += 1
                await self._close_unused()
        else:
            entry.users += 1
        entry.idle.clear()
        self._open.move_to_end(place.key)
        try:
            yield entry
        finally:
            entry.users -= 1
            if not entry.users:
                entry.idle.set()

    async def create(self, place: BankPlace) -> None:
        """Raises Conflict where it is there with another dimension."""
        async with self._changing:
            entry = self._open.get(place.key)
            if entry is not None:
                facts = entry.bank.facts
            else:
                path = self._file(place.key)
                wanted = BankFacts(place.dimension, place.keyword, place.params)
                facts = await in_thread(self._executor, lambda _: self._create_file(path, wanted))
        if facts.dimension != place.dimension:
            raise Conflict(
                f"the bank is there with vectors of {facts.dimension} numbers, not {place.dimension}; "
                "drop it first or choose another id"
            )

    async def drop(self, key: str) -> None:
        path = self._file(key)
        async with self._changing:
            entry = self._open.pop(key, None)
            if entry is not None:
                if entry.users:
                    await entry.idle.wait()
                await in_thread(self._executor, lambda _: entry.bank.close())
            await in_thread(self._executor, lambda _: _remove(path))

    async def close(self) -> None:
        async with self._changing:
            while self._open:
                _, entry = self._open.popitem()
                if entry.users:
                    await entry.idle.wait()
                await in_thread(self._executor, lambda _, bank=entry.bank: bank.close())  # type: ignore[misc]  # bound early

    async def _enter(self, key: str) -> OpenBank:
        path = self._file(key)
        bank = await in_thread(self._executor, lambda _: self._open_file(path))
        if bank is None:
            raise NotFound("there is no such memory bank; register it first")
        entry = self._open[key] = OpenBank(bank)
        return entry

    async def _close_unused(self) -> None:
        unused = [key for key, entry in self._open.items() if not entry.users]
        for key in unused[: max(0, len(unused) - self._limit)]:
            entry = self._open.pop(key)
            await in_thread(self._executor, lambda _, bank=entry.bank: bank.close())  # type: ignore[misc]  # bound early

    def _file(self, key: str) -> Path:
        # It becomes a file's name, so nothing else may pass.
        if not _KEY.fullmatch(key):
            raise InvalidRequest("a bank's key is a letter and up to 47 more of a-z, 0-9 and _", param="key")
        return self._path / f"{key}{SUFFIX}"

    def _create_file(self, path: Path, wanted: BankFacts) -> BankFacts:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        writer = open_file(path, self._extend, writable=True)
        try:
            with sqlite_errors(path), transaction(writer, writing=True):
                there = read_facts(writer, path.name)
                if there is not None:
                    return there
                create_tables(writer, wanted)
                writer.execute(VECTORS_TABLE)
                return wanted
        finally:
            writer.close()

    def _open_file(self, path: Path) -> Bank | None:
        if not path.exists():
            return None

        def extend(connection: "apsw.Connection") -> None:
            self._extend(connection)
            add_exact_comparison(connection)

        writer = open_file(path, extend, writable=True)
        try:
            with sqlite_errors(path):
                facts = read_facts(writer, path.name)
                if facts is None:
                    writer.close()
                    return None
                return Bank(path, facts, writer, extend, self._open_keeper(facts, path))
        except BaseException:
            writer.close()
            raise


def _remove(path: Path) -> None:
    for file in [*files_of(path), *path.parent.glob(f"{path.stem}.*")]:
        file.unlink(missing_ok=True)
