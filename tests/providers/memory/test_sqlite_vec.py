"""Vectors in SQLite."""

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.errors import InvalidRequest, ProviderUnavailable
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import chunk, ids, random_rows
from llama_stack_providers.inline.sqlite_vec import Config, open_sqlite_vec
from tests.providers.memory.bank_files import BankFiles
from tests.providers.memory.floors import floor


class TestSqliteVec(MemoryContract, BankFiles):
    module = "llama_stack_providers.inline.sqlite_vec"

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_sqlite_vec(Config(), floor(home))

    async def test_settings_of_a_bank_are_refused(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            with pytest.raises(InvalidRequest, match="index"):
                await index.create_bank(self.place().model_copy(update={"params": {"index": {"kind": "hnsw"}}}))

    async def test_more_banks_than_stay_open(self, tmp_path: Path) -> None:
        banks = [self.place() for _ in range(5)]
        async with open_sqlite_vec(Config(max_open_banks=1), floor(tmp_path)) as index:
            for bank in banks:
                await index.create_bank(bank)
                await index.write_chunks(bank, [chunk(bank.key)], random_rows(1))
            for bank in banks + banks:
                assert ids(await index.search_vector(bank, random_rows(1).row_bytes(0), 5)) == [f"{bank.key}-0000"]

    async def test_a_missing_library_comes_with_its_remedy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "sqlite_vec", None)
        with pytest.raises(ProviderUnavailable, match="pip install"):
            async with self.opened(tmp_path):
                raise AssertionError("it opened without its library")
