"""Banks in Milvus: Milvus Lite in this process, and the same engine as a gRPC server of its own process."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pymilvus
import pytest
from pydantic import ValidationError

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.inference import Inference
from llama_stack.api.memory import Chunk
from llama_stack.errors import InvalidRequest, ProviderUnavailable
from llama_stack.provider import Ground, InferenceFloor
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import (
    DIMENSION,
    axis,
    chunk,
    everything,
    ids,
    of_document,
    one,
    random_rows,
)
from llama_stack_providers.inline.milvus import Config as InlineConfig
from llama_stack_providers.inline.milvus import open_milvus as open_inline
from llama_stack_providers.remote.milvus import Config as RemoteConfig
from llama_stack_providers.remote.milvus import open_milvus as open_remote
from tests.providers.memory.key_value_bank import check_key_value_bank
from tests.providers.memory.loopback_milvus import run_milvus_server


def floor(home: Path) -> InferenceFloor:
    return InferenceFloor(Ground(home=home, state=home), cast(Inference, None))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_milvus_server(tmp_path_factory.mktemp("milvus")) as running:
        yield running


class TestInline(MemoryContract):
    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_inline(InlineConfig(), floor(home))


class TestRemote(MemoryContract):
    @pytest.fixture(autouse=True)
    def _server(self, uri: str) -> None:
        self.uri = uri

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_remote(RemoteConfig(uri=self.uri), floor(home))


BANK = BankPlace(key="bank", dimension=DIMENSION)


def pieces(document_id: str, version: int, count: int = 6) -> list[Chunk]:
    return [chunk(document_id, number, metadata={"version": version}) for number in range(count)]


def whole(version: int, count: int = 6) -> list[tuple[int, int]]:
    return [(version, number) for number in range(count)]


async def test_what_the_graph_of_the_index_does_not_lead_to_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,500 rows without a pattern, a search for all of them reaches 1,325; of these few, three."""
    search = pymilvus.MilvusClient.search

    def lossy(*arguments: Any, **settings: Any) -> Any:
        return [search(*arguments, **settings)[0][:3]]

    vectors = random_rows(20)
    async with open_inline(InlineConfig(), floor(tmp_path)) as index:
        await index.create_bank(BANK)
        await index.write_chunks(BANK, [chunk("d", number) for number in range(len(vectors))], vectors)
        best = await index.search_vector(BANK, vectors.row_bytes(0), 10)
        monkeypatch.setattr(pymilvus.MilvusClient, "search", lossy)
        found = await index.search_vector(BANK, vectors.row_bytes(0), 10)
    assert [hit.chunk for hit in found] == [hit.chunk for hit in best]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in best], abs=1e-4)


async def seen_versions(index: ChunkIndex, bank: BankPlace, document_id: str) -> list[tuple[int, int]]:
    """Version and position of every chunk of the document, from a search and from a listing that must agree."""
    found = await index.search_vector(bank, one(axis(0)), 50, of_document(document_id))
    listed = await index.list_chunks(bank, document_ids=[document_id])
    versions = sorted((hit.chunk.metadata["version"], hit.chunk.position) for hit in found)
    assert versions == sorted((hit.chunk.metadata["version"], hit.chunk.position) for hit in listed)
    return versions


KILLED_AFTER = """
import asyncio, os, sys
from pathlib import Path
from pymilvus import MilvusClient
from tests.providers.memory.test_milvus import BANK, InlineConfig, floor, open_inline, pieces, random_rows

operation = sys.argv[2]
real = getattr(MilvusClient, operation)

def last(*arguments, **named):
    real(*arguments, **named)
    os._exit(9)

async def main():
    async with open_inline(InlineConfig(), floor(Path(sys.argv[1]))) as index:
        setattr(MilvusClient, operation, last)
        await index.write_chunks(BANK, pieces("a", 2), random_rows(6), replace_documents=True)

asyncio.run(main())
"""


async def test_values_are_found_by_their_keys(tmp_path: Path) -> None:
    async with open_inline(InlineConfig(), floor(tmp_path)) as index:
        await check_key_value_bank(index)


class TestCrashes:
    @pytest.mark.parametrize("operation", ["insert", "upsert", "delete"])
    async def test_a_killed_process_leaves_one_version(self, operation: str, tmp_path: Path) -> None:
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            await index.create_bank(BANK)
            await index.write_chunks(BANK, pieces("a", 1), random_rows(6))
        killed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED_AFTER, str(tmp_path), operation,
            cwd=Path(__file__).parents[3], env={**os.environ, "PYTHONPATH": "."},
        )  # fmt: skip
        assert await killed.wait() == 9
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            assert await seen_versions(index, BANK, "a") == whole(1 if operation == "insert" else 2)
            assert (await index.stats(BANK)).chunks == 6
            await index.write_chunks(BANK, pieces("a", 3, 2), random_rows(2), replace_documents=True)
            assert await seen_versions(index, BANK, "a") == whole(3, 2)

    async def test_a_bank_whose_making_broke_off_is_made_ready(self, uri: str, tmp_path: Path) -> None:
        from pymilvus import MilvusClient

        from llama_stack_providers._milvus.rows import schema_of

        bank = BankPlace(key=f"b{uuid4().hex[:24]}", dimension=DIMENSION)
        client = MilvusClient(uri=uri)
        await asyncio.to_thread(client.create_collection, f"llama_stack_{bank.key}", schema=schema_of(bank))
        await asyncio.to_thread(client.close)
        async with open_remote(RemoteConfig(uri=uri), floor(tmp_path)) as index:
            await index.create_bank(bank)
            await index.write_chunks(bank, pieces("a", 1), random_rows(6))
            assert await seen_versions(index, bank, "a") == whole(1)


class TestLimits:
    async def test_many_rows_are_flushed_and_still_found(self, tmp_path: Path) -> None:
        async with open_inline(InlineConfig(flush_rows=100), floor(tmp_path)) as index:
            await index.create_bank(BANK)
            for version in range(3):
                await index.write_chunks(BANK, pieces("a", version, 150), random_rows(150), replace_documents=True)
                assert (await index.stats(BANK)).chunks == 150
            assert await everything(index, BANK) == pieces("a", 2, 150)
            assert ids(await index.search_keyword(BANK, "piece", 200)) != []

    async def test_a_vector_of_one_number_is_refused(self, tmp_path: Path) -> None:
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            with pytest.raises(InvalidRequest, match="2 numbers or more"):
                await index.create_bank(BANK.model_copy(update={"dimension": 1}))

    async def test_metadata_has_room_for_so_many_keys(self, tmp_path: Path) -> None:
        async with open_inline(InlineConfig(), floor(tmp_path)) as index:
            await index.create_bank(BANK)
            crowded = chunk("a", metadata={f"key {number}": True for number in range(5000)})
            with pytest.raises(InvalidRequest, match="4095 keys"):
                await index.write_chunks(BANK, [crowded], random_rows(1))


class TestFailures:
    async def test_an_unreachable_server_is_unavailable_and_the_token_stays_secret(self, tmp_path: Path) -> None:
        config = RemoteConfig.model_validate({"uri": "http://127.0.0.1:9", "token": "secret-token", "timeout_s": 0.5})
        with pytest.raises(ProviderUnavailable, match="Milvus cannot be reached") as failed:
            async with open_remote(config, floor(tmp_path)):
                pass
        assert "secret-token" not in str(failed.value)

    async def test_a_server_that_went_away_is_unavailable(self, tmp_path: Path) -> None:
        bank = BankPlace(key="bank", dimension=DIMENSION)
        async with AsyncExitStack() as stack:
            with run_milvus_server(tmp_path / "server") as uri:
                config = RemoteConfig(uri=uri, timeout_s=30)
                index = await stack.enter_async_context(open_remote(config, floor(tmp_path)))
                await index.create_bank(bank)
                await index.write_chunks(bank, pieces("a", 1), random_rows(6))
            with pytest.raises(ProviderUnavailable):
                await index.search_vector(bank, one(axis(0)), 5)

    async def test_a_file_is_no_address(self) -> None:
        with pytest.raises(ValidationError):
            RemoteConfig(uri="./somewhere.db")

    @pytest.mark.parametrize("module", ["pymilvus", "milvus_lite.server_manager"])
    async def test_a_missing_library_names_the_extra(
        self, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ProviderUnavailable, match=r"pip install 'llama-stack\[milvus\]'"):
            async with open_inline(InlineConfig(), floor(tmp_path)):
                pass
