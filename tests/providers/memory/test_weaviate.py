"""Weaviate itself is not installable here, so a server on loopback speaks its documented formats and its faults."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.errors import Conflict, InvalidRequest, ProviderFailed
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import chunk, everything, ids, random_rows
from llama_stack_providers.remote.weaviate import Config, open_weaviate
from tests.providers.memory.key_value_bank import check_key_value_bank
from tests.providers.memory.loopback_database import Fault, LoopbackDatabase, floor_at
from tests.providers.memory.loopback_faults import FaultsContract
from tests.providers.memory.loopback_weaviate import Collection, LoopbackWeaviate

KEY = "weaviate-key-0123456789"
BANK = BankPlace(key="bank", dimension=8)


@pytest.fixture
async def weaviate() -> AsyncIterator[LoopbackWeaviate]:
    server = LoopbackWeaviate(wanted_authorization=f"Bearer {KEY}")
    async with server.served():
        yield server


def opened_at(server: LoopbackDatabase, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
    config = {"url": server.url, "api_key": KEY, "first_pause_s": 0.001, "write_chunks": 700, **settings}
    return open_weaviate(Config.model_validate(config), floor_at(home))


@pytest.fixture
async def index(weaviate: LoopbackWeaviate, tmp_path: Path) -> AsyncIterator[ChunkIndex]:
    async with opened_at(weaviate, tmp_path) as opened:
        await opened.create_bank(BANK)
        yield opened


class TestWeaviate(MemoryContract):
    @pytest.fixture(autouse=True)
    def _server(self, weaviate: LoopbackWeaviate) -> None:
        self.weaviate = weaviate

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.weaviate, home)


class TestFaults(FaultsContract):
    write_path = "/v1/batch/objects"
    search_path = "/v1/graphql"
    secret = KEY

    @pytest.fixture(autouse=True)
    def _server(self, weaviate: LoopbackWeaviate) -> None:
        self.server = weaviate

    def opened(self, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.server, home, **settings)


async def test_a_collection_is_made_as_it_is_asked_for(weaviate: LoopbackWeaviate, tmp_path: Path) -> None:
    flat = BankPlace(key="flat", dimension=8, params={"index": "flat"})
    graph = BankPlace(key="graph", dimension=8, params={"ef": 200, "max_connections": 16})
    async with opened_at(weaviate, tmp_path, replicas=3) as index:
        await index.create_bank(flat)
        await index.create_bank(graph)
        await index.write_chunks(graph, [chunk("a")], random_rows(1))
        assert ids(await index.list_chunks(graph)) == ["a-0000"]
    told = weaviate.collections["Bank_flat"].told
    assert (told["vectorIndexType"], told["vectorIndexConfig"]) == ("flat", {"distance": "cosine"})
    told = weaviate.collections["Bank_graph"].told
    assert told["vectorIndexConfig"] == {"distance": "cosine", "ef": 200, "efConstruction": 128, "maxConnections": 16}
    assert (told["replicationConfig"], told["vectorizer"]) == ({"factor": 3}, "none")


async def test_settings_that_weaviate_has_not_are_named(index: ChunkIndex) -> None:
    with pytest.raises(InvalidRequest, match="Weaviate knows index, ef") as refused:
        await index.create_bank(BANK.model_copy(update={"key": "other", "params": {"lists": 3}}))
    assert refused.value.param == "params.lists"


async def test_a_collection_of_somebody_else_is_left_alone(weaviate: LoopbackWeaviate, index: ChunkIndex) -> None:
    weaviate.collections["Bank_theirs"] = Collection({"class": "Bank_theirs", "properties": []})
    with pytest.raises(Conflict, match="was not made by this provider"):
        await index.create_bank(BankPlace(key="theirs", dimension=8))
    newer = {"class": "Bank_newer", "description": '{"format": 99}', "properties": []}
    weaviate.collections["Bank_newer"] = Collection(newer)
    with pytest.raises(Conflict, match="newer version"):
        await index.create_bank(BankPlace(key="newer", dimension=8))


async def test_an_object_that_weaviate_refuses_fails_the_write(weaviate: LoopbackWeaviate, index: ChunkIndex) -> None:
    failed = '[{"result": {"status": "FAILED", "errors": {"error": [{"message": "no space left"}]}}}]'
    weaviate.faults = [Fault(200, failed, method="POST", path="/v1/batch/objects")]
    with pytest.raises(ProviderFailed, match="no space left"):
        await index.write_chunks(BANK, [chunk("a"), chunk("b")], random_rows(2))
    assert await everything(index, BANK) == []


async def test_too_many_different_keys_are_refused(index: ChunkIndex) -> None:
    many = {f"key {number}": number for number in range(1_001)}
    with pytest.raises(InvalidRequest, match="1000 different keys") as refused:
        await index.write_chunks(BANK, [chunk("a", metadata=many)], random_rows(1))
    assert refused.value.param == "metadata"
    assert await everything(index, BANK) == []


async def test_values_are_found_by_their_keys(index: ChunkIndex) -> None:
    await check_key_value_bank(index)
