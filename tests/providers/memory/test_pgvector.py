"""Banks in a real PostgreSQL with the real pgvector, which a wheel brings along."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar, cast

import asyncpg
import pytest
from pydantic import SecretStr, ValidationError

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.common import JsonObject
from llama_stack.api.filters import Comparison
from llama_stack.api.inference import Inference
from llama_stack.api.vectors import Vectors
from llama_stack.errors import Conflict, InvalidRequest, ProviderUnavailable
from llama_stack.provider import Ground, InferenceFloor
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import axis, chunk, everything, ids, one, random_rows
from llama_stack_providers.remote._pgvector import index as index_module
from llama_stack_providers.remote._pgvector.settings import BankSettings
from llama_stack_providers.remote.pgvector import Config, open_pgvector
from tests.providers.memory.key_value_bank import check_key_value_bank
from tests.providers.memory.loopback_faults import EXTREME_VALUES, check_filters
from tests.storage.conftest import create_postgres_database

__all__ = ["create_postgres_database"]

pytestmark = pytest.mark.postgres
WIDE = 2_001


@pytest.fixture(scope="module")
def url(create_postgres_database: Callable[[], str]) -> str:
    return create_postgres_database()


@pytest.fixture
def empty_url(create_postgres_database: Callable[[], str]) -> str:
    return create_postgres_database()


def opened_at(url: str, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
    config = Config.model_validate({"url": url, "max_connections": 4, **settings})
    return open_pgvector(config, InferenceFloor(Ground(home=home, state=home), cast(Inference, None)))


@pytest.fixture
async def index(url: str, tmp_path: Path) -> AsyncIterator[ChunkIndex]:
    async with opened_at(url, tmp_path) as opened:
        yield opened


class TestExact(MemoryContract):
    @pytest.fixture(autouse=True)
    def _database(self, url: str) -> None:
        self.url = url

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.url, home)


class TestHnsw(TestExact):
    params: ClassVar[JsonObject] = {"index": "hnsw", "exact_below": 0, "m": 8, "ef_construction": 32, "ef_search": 40}


class TestWithoutPreparedStatements(TestExact):
    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return opened_at(self.url, home, prepared_statements=False, schema_name="memory_of_ours")


async def test_large_numbers_come_back_as_they_went_in(index: ChunkIndex) -> None:
    bank = BankPlace(key="numbers", dimension=0)
    await index.create_bank(bank)
    numbers: JsonObject = {"float": 1e22, "largest": 1.5e308, "id": 2**63 - 1, "exact": 2**70 + 1, "endless": 10**400}
    await index.write_chunks(bank, [chunk("a", metadata=numbers)], None)
    [found] = await index.list_chunks(bank)
    assert {key: repr(value) for key, value in found.chunk.metadata.items()} == {
        key: repr(value) for key, value in numbers.items()
    }


async def test_values_are_found_by_their_keys(index: ChunkIndex) -> None:
    await check_key_value_bank(index)


async def test_the_graph_serves_a_search_of_a_large_bank(url: str, index: ChunkIndex) -> None:
    bank = BankPlace(key="graph", dimension=8, params={"index": "hnsw", "exact_below": 100})
    rows = random_rows(3_000)
    await index.create_bank(bank)
    await index.write_chunks(bank, [chunk("d", number) for number in range(3_000)], rows)
    found = [ids(await index.search_vector(bank, rows.row_bytes(number), 1)) for number in range(0, 3_000, 300)]
    assert found == [[f"d-{number:04}"] for number in range(0, 3_000, 300)]
    connection = await asyncpg.connect(url)
    try:
        # The count of scans comes from another process's statistics.
        await connection.execute("select pg_stat_force_next_flush()")
        definition = await connection.fetchval("select indexdef from pg_indexes where indexname = 'bank_graph_vectors'")
        plan = await connection.fetch(
            "explain select chunk_id from bank_graph order by embedding <=> '[1,2,3,4,5,6,7,8]' limit 5"
        )
    finally:
        await connection.close()
    assert "hnsw (embedding vector_cosine_ops) WITH (m='16', ef_construction='64')" in definition
    assert any("bank_graph_vectors" in line[0] for line in plan)


async def test_common_words_of_a_large_bank_add_to_scores_only(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = BankPlace(key="common", dimension=0)
    texts = ["stone " * (1 + number % 3) + ("harbour" if number % 50 == 0 else "lake") for number in range(400)]
    chunks = [chunk("d", number, text, language="en") for number, text in enumerate(texts)]
    harbours = [f"d-{number:04}" for number in range(0, 400, 50)]
    async with opened_at(url, tmp_path) as index:
        await index.create_bank(bank)
        await index.write_chunks(bank, chunks, None)
        exact = await index.search_keyword(bank, "harbour stone", 400)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("analyze bank_common")
    finally:
        await connection.close()
    monkeypatch.setattr(index_module, "COMMON_SINCE_CHUNKS", 1)
    async with opened_at(url, tmp_path) as index:
        best = await index.search_keyword(bank, "harbour stone", 5)
        assert [hit.score for hit in best] == pytest.approx([hit.score for hit in exact[:5]])
        assert ids(best) == ids(exact[:5])
        assert set(ids(best)) < set(harbours)
        # Where the rare word chooses too few, the common one chooses, too; alone it always does.
        assert ids(await index.search_keyword(bank, "harbour stone", 400)) == ids(exact)
        assert len(await index.search_keyword(bank, "stones", 400)) == 400


async def test_several_servers_share_one_database(url: str, tmp_path: Path) -> None:
    bank = BankPlace(key="shared", dimension=8)
    async with opened_at(url, tmp_path) as first, opened_at(url, tmp_path) as second:
        await asyncio.gather(*(index.create_bank(bank) for index in (first, second) * 4))
        await first.write_chunks(bank, [chunk("a", 0, "a river", language="en")], random_rows(1))
        assert ids(await second.search_keyword(bank, "rivers", 5)) == ["a-0000"]
        versions = [
            [chunk("a", number, f"of {name}") for number in range(count)] for name, count in (("x", 3), ("y", 5))
        ]
        for _ in range(5):
            await asyncio.gather(
                first.write_chunks(bank, versions[0], random_rows(3), replace_documents=True),
                second.write_chunks(bank, versions[1], random_rows(5), replace_documents=True),
            )
            assert await everything(first, bank) in versions
        await second.drop_bank(bank)
        await second.create_bank(bank.model_copy(update={"dimension": 4}))
        await second.write_chunks(bank.model_copy(update={"dimension": 4}), [chunk("b")], random_rows(1, 4))
        assert ids(await first.search_vector(bank.model_copy(update={"dimension": 4}), one(axis(0, 1.0, 4)), 5)) == [
            "b-0000"
        ]


async def test_the_first_servers_on_an_empty_database_do_not_quarrel(empty_url: str, tmp_path: Path) -> None:
    async def create(number: int) -> None:
        async with opened_at(empty_url, tmp_path, schema_name="fresh") as index:
            await index.create_bank(BankPlace(key=f"bank{number}", dimension=3))

    await asyncio.gather(*(create(number) for number in range(4)))


async def test_settings_that_cannot_be_served_are_named(index: ChunkIndex) -> None:
    for params, dimension, param in (
        ({"index": "ivf"}, 8, "params.index"),
        ({"lists": 3}, 8, "params.lists"),
        ({"index": "hnsw"}, WIDE, "params.index"),
        ({"index": "hnsw", "m": 64}, 8, "params.ef_construction"),
        ({"m": "many"}, 8, "params.m"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await index.create_bank(BankPlace(key="refused", dimension=dimension, params=params))
        assert refused.value.param == param
    wide = BankPlace(key="wide", dimension=WIDE)
    await index.create_bank(wide)
    await index.write_chunks(wide, [chunk("a")], random_rows(1, WIDE))
    assert ids(await index.search_vector(wide, random_rows(1, WIDE).row_bytes(0), 1)) == ["a-0000"]


async def test_a_table_of_somebody_else_is_left_alone(url: str, index: ChunkIndex) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("create table bank_theirs (id integer)")
        await connection.execute("create table bank_newer (id integer)")
        await connection.execute("comment on table bank_newer is '{\"format\": 99}'")
    finally:
        await connection.close()
    with pytest.raises(Conflict, match="was not made by"):
        await index.create_bank(BankPlace(key="theirs", dimension=8))
    with pytest.raises(Conflict, match="newer version"):
        await index.create_bank(BankPlace(key="newer", dimension=8))


async def test_text_that_postgresql_cannot_keep_is_refused(index: ChunkIndex) -> None:
    bank = BankPlace(key="texts", dimension=8)
    await index.create_bank(bank)
    for refused in (chunk("a", 0, "zero \0 byte"), chunk("a", metadata={"zero": "\0"}), chunk("a", 0, "half \ud800")):
        with pytest.raises(InvalidRequest):
            await index.write_chunks(bank, [refused], random_rows(1))
    with pytest.raises(InvalidRequest, match="JSON"):
        await index.write_chunks(bank, [chunk("a", metadata={"n": float("nan")})], random_rows(1))
    with pytest.raises(InvalidRequest, match=r"U\+0000"):
        await index.list_chunks(bank, where=Comparison(type="eq", key="zero", value="\0"))
    assert await everything(index, bank) == []


async def test_filters_hold_for_long_texts_and_large_numbers(index: ChunkIndex) -> None:
    await check_filters(index, EXTREME_VALUES, ordered_bytes=10_000)


async def test_a_bank_whose_vectors_are_all_zero_is_searched(index: ChunkIndex) -> None:
    bank = BankPlace(key="zeros", dimension=8)
    await index.create_bank(bank)
    rows = Vectors.of([[0.0] * 8, axis(0), axis(0, -1.0)], 8)
    await index.write_chunks(bank, [chunk("a", number) for number in range(3)], rows)
    found = await index.search_vector(bank, one(axis(0)), 3)
    assert [(hit.chunk.chunk_id, hit.score) for hit in found] == [("a-0001", 1.0), ("a-0002", -1.0), ("a-0000", -1.0)]


async def test_a_connection_that_was_cut_is_replaced(url: str, index: ChunkIndex) -> None:
    bank = BankPlace(key="cut", dimension=8)
    await index.create_bank(bank)
    connection = await asyncpg.connect(url)
    try:
        await connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
            " and application_name = 'llama-stack' and datname = current_database()"
        )
    finally:
        await connection.close()
    await index.write_chunks(bank, [chunk("a")], random_rows(1))
    assert ids(await index.list_chunks(bank)) == ["a-0000"]


async def test_a_database_that_cannot_be_used_is_unavailable(
    url: str,
    create_postgres_database: Callable[[], str],
    tmp_path: Path,
) -> None:
    with pytest.raises(ProviderUnavailable, match="cannot be reached") as failed:
        async with opened_at("postgresql://stack:secret@127.0.0.1:1/memory", tmp_path):
            pass
    assert "secret" not in failed.value.message
    with pytest.raises(ProviderUnavailable, match="does not exist"):
        async with opened_at(url.replace("/stack_", "/nowhere_"), tmp_path):
            pass


async def test_who_may_not_install_pgvector_is_told_who_may(empty_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(empty_url)
    try:
        await connection.execute("create role clerk login")
    finally:
        await connection.close()
    with pytest.raises(ProviderUnavailable, match="let a superuser run CREATE EXTENSION vector"):
        async with opened_at(empty_url.replace("://postgres:", "://clerk:"), tmp_path):
            pass


def test_an_address_of_something_else_is_refused_without_being_shown() -> None:
    with pytest.raises(ValidationError) as refused:
        Config(url=SecretStr("mysql://stack:secret@db/memory"))
    assert "secret" not in str(refused.value)
    assert BankSettings().index == "exact"
