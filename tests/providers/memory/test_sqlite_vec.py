"""Vectors in SQLite."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack_providers.inline.sqlite_vec import Config, open_sqlite_vec
from tests.providers.memory.floors import floor


class TestSqliteVec(MemoryContract):
    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_sqlite_vec(Config(), floor(home))
