"""Elasticsearch itself is not installable here: a server on loopback speaks its documented formats and its faults."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.vectors import Vectors
from llama_stack.errors import Conflict, InvalidRequest, ProviderFailed, RateLimited
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import axis, chunk, everything, ids, random_rows
from llama_stack_providers.remote.elasticsearch import Config, open_elasticsearch
from tests.providers.memory.key_value_bank import check_key_value_bank
from tests.providers.memory.loopback_database import Fault, LoopbackDatabase, floor_at
from tests.providers.memory.loopback_elastic import Index, LoopbackElastic
from tests.providers.memory.loopback_faults import FaultsContract

KEY = "ZWxhc3RpYy1rZXktMDEyMzQ1Njc4OQ=="
BANK = BankPlace(key="bank", dimension=8)


@pytest.fixture
async def elastic() -> AsyncIterator[LoopbackElastic]:
    server = LoopbackElastic(wanted_authorization=f"ApiKey {KEY}")
    async with server.served():
        yield server


def opened_at(server: LoopbackDatabase, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
    config = {"url": server.url, "api_key": KEY, "first_pause_s": 0.001, "write_chunks": 700, **settings}
    return open_elasticsearch(Config.model_validate(config), floor_at(home))


@pytest.fixture
async def index(elastic: LoopbackElastic, tmp_path: Path) -> AsyncIterator[ChunkIndex]:
    async with opened_at(elastic, tmp_path) as opened:
        await opened.create_bank(BANK)
        yield opened


class TestElasticsearch(MemoryContract):
    @pytest.fixture(autouse=True)
    def _server(self, elastic: LoopbackElastic) -> None:
        self.elastic = elastic

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.elastic, home)


class TestFaults(FaultsContract):
    write_path = "/_bulk"
    search_path = "/_search"
    secret = KEY

    @pytest.fixture(autouse=True)
    def _server(self, elastic: LoopbackElastic) -> None:
        self.server = elastic

    def opened(self, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.server, home, **settings)


def told_of(elastic: LoopbackElastic, bank: BankPlace) -> dict[str, Any]:
    return elastic.indices[f"llama_stack_{bank.key}-1"].told


async def test_an_index_is_made_as_it_is_asked_for(elastic: LoopbackElastic, tmp_path: Path) -> None:
    quantized = BANK.model_copy(update={"params": {"index": "int8_hnsw", "m": 32}})
    flat = BankPlace(key="flat", dimension=8, params={"index": "flat"})
    async with opened_at(elastic, tmp_path, shards=2, replicas=0) as index:
        await index.create_bank(quantized)
        await index.create_bank(flat)
    told = told_of(elastic, quantized)
    assert told["settings"] == {"index": {"number_of_shards": 2, "number_of_replicas": 0}}
    assert told["mappings"]["properties"]["embedding"] == {
        "type": "dense_vector",
        "dims": 8,
        "index": True,
        "similarity": "cosine",
        "index_options": {"type": "int8_hnsw", "m": 32, "ef_construction": 100},
    }
    assert told_of(elastic, flat)["mappings"]["properties"]["embedding"]["index_options"] == {"type": "flat"}


async def test_settings_that_elasticsearch_has_not_are_named(index: ChunkIndex) -> None:
    with pytest.raises(InvalidRequest, match="Elasticsearch knows") as refused:
        await index.create_bank(BankPlace(key="other", dimension=8, params={"lists": 3}))
    assert refused.value.param == "params.lists"


async def test_an_index_of_somebody_else_is_left_alone(elastic: LoopbackElastic, index: ChunkIndex) -> None:
    for key, meta, words in (("theirs", {}, "was not made by"), ("newer", {"format": 99}, "newer version")):
        name = f"llama_stack_{key}-1"
        elastic.indices[name] = Index(name, {"aliases": {}, "mappings": {"_meta": meta, "properties": {}}})
        with pytest.raises(Conflict, match=words):
            await index.create_bank(BankPlace(key=key, dimension=8))


async def test_chunks_that_a_busy_node_refuses_are_sent_again(elastic: LoopbackElastic, index: ChunkIndex) -> None:
    chunks = [chunk("a", number) for number in range(9)]
    elastic.busy_items = 12
    await index.write_chunks(BANK, chunks, random_rows(9))
    assert await everything(index, BANK) == chunks
    elastic.busy_items = 10_000
    with pytest.raises(RateLimited, match="too busy"):
        await index.write_chunks(BANK, chunks[:3], random_rows(3), replace_documents=True)
    elastic.busy_items = 0
    assert await everything(index, BANK) == chunks


async def test_one_chunk_that_cannot_be_kept_fails_the_whole_write(index: ChunkIndex) -> None:
    rows = Vectors.of([axis(0), [0.0] * 8, axis(1)], 8)
    with pytest.raises(InvalidRequest, match="zero magnitude") as refused:
        await index.write_chunks(BANK, [chunk("a", number) for number in range(3)], rows)
    assert refused.value.param == "vectors"
    assert await everything(index, BANK) == []
    assert (await index.stats(BANK)).chunks == 0


async def test_metadata_is_changed_though_others_write(elastic: LoopbackElastic, index: ChunkIndex) -> None:
    await index.write_chunks(BANK, [chunk("a", number) for number in range(6)], random_rows(6))
    elastic.conflicts = 4
    await index.set_metadata(BANK, "a", {"state": "final"})
    assert [one.metadata for one in await everything(index, BANK)] == [{"state": "final"}] * 6
    elastic.conflicts = 10_000
    with pytest.raises(Conflict, match="try again"):
        await index.set_metadata(BANK, "a", {"state": "draft"})


async def test_an_error_of_the_server_keeps_status_and_reason(elastic: LoopbackElastic, index: ChunkIndex) -> None:
    told = '{"error": {"type": "search_phase_execution_exception", "reason": "all shards failed"}, "status": 400}'
    elastic.faults = [Fault(400, told, path="/_search")]
    with pytest.raises(ProviderFailed, match="all shards failed") as failed:
        await index.search_keyword(BANK, "river", 5)
    assert failed.value.http_status == 400


async def test_who_may_not_read_sizes_still_gets_counts(elastic: LoopbackElastic, index: ChunkIndex) -> None:
    await index.write_chunks(BANK, [chunk("a"), chunk("b")], random_rows(2))
    full = await index.stats(BANK)
    assert (full.chunks, full.documents) == (2, 2)
    assert full.size_bytes
    elastic.faults = [Fault(403, "{}", path="/_stats")]
    assert await index.stats(BANK) == full.model_copy(update={"size_bytes": None})


async def test_opensearch_is_told_from_elasticsearch(elastic: LoopbackElastic, tmp_path: Path) -> None:
    elastic.distribution = "opensearch"
    with pytest.raises(ProviderFailed, match="no Elasticsearch"):
        async with opened_at(elastic, tmp_path):
            pass


async def test_a_user_with_a_password_is_let_in(elastic: LoopbackElastic, tmp_path: Path) -> None:
    elastic.wanted_authorization = "Basic c3RhY2s6b3BlbiBzZXNhbWU="
    async with opened_at(elastic, tmp_path, api_key=None, username="stack", password="open sesame") as index:
        await index.create_bank(BANK)
        await index.write_chunks(BANK, [chunk("a")], random_rows(1))
        assert ids(await index.list_chunks(BANK)) == ["a-0000"]


async def test_values_are_found_by_their_keys(index: ChunkIndex) -> None:
    await check_key_value_bank(index)
