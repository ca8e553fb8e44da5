"""OpenSearch itself is not installable here, so a server on loopback speaks its documented formats and its faults."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.errors import InvalidRequest, ProviderFailed
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import chunk, random_rows
from llama_stack_providers.remote.opensearch import Config, open_opensearch
from tests.providers.memory.loopback_database import LoopbackDatabase, floor_at
from tests.providers.memory.loopback_elastic import LoopbackElastic
from tests.providers.memory.loopback_faults import FaultsContract

PASSWORD = "opensearch-password-0123456789"
AUTHORIZATION = "Basic c3RhY2s6b3BlbnNlYXJjaC1wYXNzd29yZC0wMTIzNDU2Nzg5"
BANK = BankPlace(key="bank", dimension=8)


@pytest.fixture
async def cluster() -> AsyncIterator[LoopbackElastic]:
    server = LoopbackElastic(wanted_authorization=AUTHORIZATION, distribution="opensearch")
    async with server.served():
        yield server


def opened_at(server: LoopbackDatabase, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
    config = {"url": server.url, "username": "stack", "password": PASSWORD, "first_pause_s": 0.001, **settings}
    return open_opensearch(Config.model_validate(config), floor_at(home))


class TestOpenSearch(MemoryContract):
    @pytest.fixture(autouse=True)
    def _server(self, cluster: LoopbackElastic) -> None:
        self.cluster = cluster

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.cluster, home)


class TestFaults(FaultsContract):
    write_path = "/_bulk"
    search_path = "/_search"
    secret = PASSWORD

    @pytest.fixture(autouse=True)
    def _server(self, cluster: LoopbackElastic) -> None:
        self.server = cluster

    def opened(self, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.server, home, **settings)


async def test_an_index_is_made_as_it_is_asked_for(cluster: LoopbackElastic, tmp_path: Path) -> None:
    bank = BANK.model_copy(update={"params": {"m": 32, "ef_construction": 256}})
    async with opened_at(cluster, tmp_path) as index:
        await index.create_bank(bank)
        with pytest.raises(InvalidRequest, match="OpenSearch knows m, ef_construction") as refused:
            await index.create_bank(BankPlace(key="other", dimension=8, params={"index": "hnsw"}))
    assert refused.value.param == "params.index"
    told = cluster.indices["llama_stack_bank-1"].told
    assert told["settings"] == {"index": {"number_of_shards": 1, "knn": True}}
    assert told["mappings"]["properties"]["embedding"] == {
        "type": "knn_vector",
        "dimension": 8,
        "method": {
            "name": "hnsw",
            "space_type": "cosinesimil",
            "engine": "lucene",
            "parameters": {"m": 32, "ef_construction": 256},
        },
    }


async def test_elasticsearch_is_told_from_opensearch(cluster: LoopbackElastic, tmp_path: Path) -> None:
    cluster.distribution = ""
    with pytest.raises(ProviderFailed, match="no OpenSearch"):
        async with opened_at(cluster, tmp_path):
            pass


async def test_a_bank_without_vectors_needs_no_vector_index(cluster: LoopbackElastic, tmp_path: Path) -> None:
    words_only = BankPlace(key="words", dimension=0)
    async with opened_at(cluster, tmp_path) as index:
        await index.create_bank(words_only)
        with pytest.raises(InvalidRequest):
            await index.write_chunks(words_only, [chunk("a")], random_rows(1))
    assert "knn" not in cluster.indices["llama_stack_words-1"].told["settings"]["index"]
