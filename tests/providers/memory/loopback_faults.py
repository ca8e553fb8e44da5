"""What a database without transactions does wrong, and what readers see then: tests to inherit."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.filters import Comparison, matches
from llama_stack.api.memory import Chunk
from llama_stack.errors import NotFound, ProviderFailed, ProviderUnavailable, RateLimited, StackError
from llama_stack.testing.memory_contract_ground import axis, chunk, everything, ids, of_document, one, random_rows
from llama_stack_providers._vector_database import heads
from llama_stack_providers._vector_database.heads import LEFTOVER_AGE_S, Head, HeadStore
from llama_stack_providers._vector_database.index import DatabaseIndex
from llama_stack_providers._vector_database.rows import Row
from tests.providers.memory.loopback_database import Fault, LoopbackDatabase

BANK = BankPlace(key="bank", dimension=8)
OLD = [chunk("a", number, f"old river {number}", language="en") for number in range(5)]
NEW = [chunk("a", number, f"new lake {number}", language="en") for number in range(7)]


EXTREME_VALUES: tuple[Any, ...] = (
    *("x" * 5_000, "x" * 5_000 + "y", "x" * 4_096, "x" * 4_095 + "z", " x", "x ", "\tx", "0"),
    *(2**53, 2**53 + 1, 2**53 - 1, -(2**53) - 1, 2.0**53, 2**62, -0.0, 0, 1e308, -1e308, 5e-324),
)


async def check_filters(index: ChunkIndex, values: Sequence[Any], *, ordered_bytes: int) -> None:
    """Holds each comparison with each value against its meaning. ordered_bytes: longest text whose order counts."""
    bank = BANK.model_copy(update={"key": "extremes"})
    await index.create_bank(bank)
    chunks = [chunk(f"d{number:02}", metadata={"value": value}) for number, value in enumerate(values)]
    await index.write_chunks(bank, chunks, random_rows(len(chunks)))
    for value in values:
        for operator in ("eq", "ne", "gt", "gte", "lt", "lte"):
            if operator[0] in "gl" and isinstance(value, str) and len(value) > ordered_bytes:
                continue
            where = Comparison.model_validate({"type": operator, "key": "value", "value": value})
            expected = [part.chunk_id for part in chunks if matches(where, part.metadata)]
            assert ids(await index.list_chunks(bank, where=where)) == expected, (operator, value)


def store_of(index: ChunkIndex) -> HeadStore:
    """What is below the index, to bring about there what only a crash does."""
    assert isinstance(index, DatabaseIndex)
    return cast(HeadStore, index._store)


class FaultsContract:
    """write_path: where chunks are sent. search_path: where is searched. secret: what is configured as key."""

    write_path: ClassVar[str]
    search_path: ClassVar[str]
    secret: ClassVar[str]
    server: LoopbackDatabase

    def opened(self, home: Path, **settings: object) -> AbstractAsyncContextManager[ChunkIndex]:
        raise NotImplementedError

    async def test_a_write_that_fails_half_way_is_not_seen(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path, write_chunks=2) as index:
            await index.create_bank(BANK)
            await index.write_chunks(BANK, OLD, random_rows(5))
            # The third of four requests that carry chunks.
            self.server.faults = [Fault(500, "disk full", method="POST", path=self.write_path, skips=2)]
            with pytest.raises(ProviderFailed, match="disk full"):
                await index.write_chunks(BANK, NEW, random_rows(7), replace_documents=True)
            assert await everything(index, BANK) == OLD
            assert len(await index.search_vector(BANK, one(axis(0)), 20)) == 5
            assert await index.search_keyword(BANK, "lake", 20) == []
            assert (await index.stats(BANK)).chunks == 5
            await index.write_chunks(BANK, NEW, random_rows(7), replace_documents=True)
            assert await everything(index, BANK) == NEW

    async def test_what_a_crashed_server_left_is_not_seen_and_goes(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            await index.create_bank(BANK)
            await index.write_chunks(BANK, OLD, random_rows(5))
            for age_s, write in ((0, "lives"), (LEFTOVER_AGE_S + 60, "crashed")):
                rows = [Row(part, write, int(time.time()) - age_s, random_rows(1).row(0), ["lake"]) for part in NEW]
                await store_of(index).put_rows(BANK, rows, last=True)
            assert await everything(index, BANK) == OLD
            assert len(await index.search_vector(BANK, random_rows(1).row_bytes(0), 5)) == 5
            assert await index.search_keyword(BANK, "lake", 5) == []
            assert ids(await index.search_keyword(BANK, "river", 5)) == [part.chunk_id for part in OLD]
            await index.write_chunks(BANK, OLD, random_rows(5), replace_documents=True)
            assert (await index.stats(BANK)).chunks == len(OLD) + len(NEW), "the one that may still live stays"
            assert await everything(index, BANK) == OLD

    async def test_a_write_whose_answer_is_lost_is_whole(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path, attempts=1) as index:
            await index.create_bank(BANK)
            await index.write_chunks(BANK, OLD, random_rows(5))
            for skips in range(3):
                self.server.faults = [Fault(503, method="POST", path=self.write_path, skips=skips, after=True)]
                try:
                    await index.write_chunks(BANK, NEW, random_rows(7), replace_documents=True)
                except StackError:
                    assert await everything(index, BANK) in (OLD, NEW)
                self.server.faults = []
                await index.write_chunks(BANK, OLD, random_rows(5), replace_documents=True)
                assert await everything(index, BANK) == OLD

    async def test_servers_that_write_the_same_document_leave_one_of_the_versions(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as first, self.opened(tmp_path) as second:
            await first.create_bank(BANK)
            for _ in range(4):
                await asyncio.gather(
                    first.write_chunks(BANK, OLD, random_rows(5), replace_documents=True),
                    second.write_chunks(BANK, NEW, random_rows(7), replace_documents=True),
                    *(self._sees_whole(index) for index in (first, second) * 3),
                )
                assert await everything(first, BANK) == await everything(second, BANK)
                assert await everything(first, BANK) in (OLD, NEW)

    async def _sees_whole(self, index: ChunkIndex) -> None:
        seen = [hit.chunk for hit in await index.list_chunks(BANK, where=of_document("a"))]
        assert seen in ([], OLD, NEW)
        found = {hit.chunk.content for hit in await index.search_vector(BANK, one(axis(0)), 20)}
        assert found in (set(), {part.content for part in OLD}, {part.content for part in NEW})

    async def test_a_document_of_many_small_writes_stays_one_of_few(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(heads, "MAX_WRITES", 3)
        async with self.opened(tmp_path) as index:
            await index.create_bank(BANK)
            for number in range(10):
                await index.write_chunks(BANK, [chunk("a", number)], random_rows(1))
                # One of them again, in another form.
                await index.write_chunks(BANK, [chunk("a", 0, f"form {number}")], random_rows(1))
            expected = [chunk("a", 0, "form 9"), *(chunk("a", number) for number in range(1, 10))]
            assert await everything(index, BANK) == expected
            assert (await index.stats(BANK)).chunks == 10
            (head,) = (await store_of(index).heads(BANK, ["a"])).values()
            assert len(head.writes) <= 3

    async def test_what_a_crash_left_to_be_deleted_stays_out_of_sight(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            await index.create_bank(BANK)
            await index.write_chunks(BANK, OLD, random_rows(5))
            (head,) = (await store_of(index).heads(BANK, ["a"])).values()
            older = Row(OLD[0].model_copy(update={"content": "older river"}), head.writes[0], 0, None, ["river"])
            stray = replace(older, chunk=older.chunk.model_copy(update={"chunk_id": "stray"}))
            await store_of(index).put_rows(BANK, [stray], last=True)
            hidden = Head(head.writes, (stray.row_id,), head.version)
            assert await store_of(index).put_heads(BANK, {"a": hidden}) == []
            assert await everything(index, BANK) == OLD
            assert len(await index.search_keyword(BANK, "river", 6)) == 5
            await index.write_chunks(BANK, [chunk("a", 9)], random_rows(1))
            assert await everything(index, BANK) == [*OLD, chunk("a", 9)]
            assert (await index.stats(BANK)).chunks == 6

    async def test_filters_hold_for_long_texts_and_large_numbers(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            # Of texts that are the same so far, more than 4,096 bytes are not put in order.
            await check_filters(index, EXTREME_VALUES, ordered_bytes=4_096)

    async def test_a_busy_server_is_asked_again(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index:
            await index.create_bank(BANK)
            self.server.faults = [
                Fault(429, "slow down", path=self.write_path, times=2),
                Fault(503, "starting", path=self.search_path, times=2),
            ]
            await index.write_chunks(BANK, OLD, random_rows(5))
            assert await everything(index, BANK) == OLD

    async def test_a_server_that_stays_busy_is_told_of(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path, attempts=2) as index:
            await index.create_bank(BANK)
            self.server.faults = [Fault(429, "slow down", {"retry-after": "7"}, path=self.search_path, times=99)]
            with pytest.raises(RateLimited, match="slow down") as limited:
                await index.list_chunks(BANK)
            assert limited.value.retry_after_s == 7
            self.server.faults = [Fault(503, "no shards", path=self.search_path, times=99)]
            with pytest.raises(ProviderUnavailable, match="no shards"):
                await index.search_vector(BANK, one(axis(0)), 5)
            self.server.faults = [Fault(200, "<html>", path=self.search_path)]
            with pytest.raises(ProviderFailed, match="not JSON"):
                await index.search_vector(BANK, one(axis(0)), 5)

    async def test_a_refused_key_is_told_of_and_not_told(self, tmp_path: Path) -> None:
        self.server.wanted_authorization = "Bearer another"
        with pytest.raises(ProviderFailed, match="check the provider's") as refused:
            async with self.opened(tmp_path) as index:
                await index.create_bank(BANK)
        assert refused.value.http_status == 401
        assert "**********" in str(refused.value)
        assert self.secret not in str(refused.value)

    async def test_a_server_that_is_not_there_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(ProviderUnavailable, match="cannot be reached"):
            async with self.opened(tmp_path, url="http://127.0.0.1:1") as index:
                await index.create_bank(BANK)

    async def test_a_bank_that_is_dropped_meanwhile_is_not_found(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as index, self.opened(tmp_path) as other:
            await index.create_bank(BANK)
            await index.write_chunks(BANK, OLD, random_rows(5))
            await other.drop_bank(BANK)
            late = Comparison(type="gt", key="year", value=2000)
            with pytest.raises(NotFound):
                await index.search_keyword(BANK, "river", 5, late)
            with pytest.raises(NotFound):
                await index.write_chunks(BANK, OLD, random_rows(5))
            await other.create_bank(BANK)
            newer: list[Chunk] = [chunk("b", 0, "a lake", metadata={"year": 2001})]
            await other.write_chunks(BANK, newer, random_rows(1))
            assert [hit.chunk for hit in await index.search_vector(BANK, one(axis(0)), 5, late)] == newer
