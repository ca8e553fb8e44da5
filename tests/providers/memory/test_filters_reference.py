"""The plainest backend keeps the memory contract, so what the contract asks for can be done and means what it says."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.testing.memory_contract import MemoryContract
from tests.providers.memory.reference_index import open_reference


class TestReferenceIndex(MemoryContract):
    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_reference(home)
