"""Vectors in memory."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack_providers.inline.faiss import Config, open_faiss
from tests.providers.memory.floors import floor


class TestFlat(MemoryContract):
    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_faiss(Config(), floor(home))


class TestHnsw(MemoryContract):
    params = {"index": {"kind": "hnsw", "m": 16}}

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_faiss(Config(), floor(home))


class TestIvfPq(MemoryContract):
    """Of the contract's banks, that of two thousand chunks is large enough to be compressed."""

    params = {"index": {"kind": "ivf_pq", "train_from": 1_000}}

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_faiss(Config(), floor(home))
