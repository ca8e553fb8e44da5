"""Vectors in memory."""

import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from llama_stack.api.chunk_index import BankPlace, ChunkIndex
from llama_stack.api.filters import Comparison
from llama_stack.api.vectors import Vectors
from llama_stack.errors import InvalidRequest, ProviderUnavailable
from llama_stack.testing.memory_contract import MemoryContract
from llama_stack.testing.memory_contract_ground import DIMENSION, chunk, ids, random_rows
from llama_stack_providers.inline._chunks import bank as bank_module
from llama_stack_providers.inline._chunks import index as index_module
from llama_stack_providers.inline._chunks.bank import QUICK_LIMIT, Interruption
from llama_stack_providers.inline._chunks.index import InlineIndex
from llama_stack_providers.inline._chunks.threads import in_thread
from llama_stack_providers.inline.faiss import Config, open_faiss
from llama_stack_providers.inline.sqlite_vec import Config as SqliteConfig
from llama_stack_providers.inline.sqlite_vec import open_sqlite_vec
from tests.providers.memory.bank_files import BankFiles
from tests.providers.memory.floors import floor

HNSW = {"index": {"kind": "hnsw", "m": 16}}
IVF_PQ = {"index": {"kind": "ivf_pq", "train_from": 1_000, "subvectors": 8}}
ENOUGH = 3_000
"""Chunks enough for a graph to be saved and for lists to be trained."""


class TestFlat(MemoryContract, BankFiles):
    module = "llama_stack_providers.inline.faiss"

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_faiss(Config(), floor(home))


class TestHnsw(MemoryContract):
    params = HNSW

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_faiss(Config(), floor(home))


class TestIvfPq(MemoryContract):
    """Of the contract's banks, that of two thousand chunks is large enough to be compressed."""

    params = {"index": {"kind": "ivf_pq", "train_from": 1_000}}

    def opened(self, home: Path) -> AbstractAsyncContextManager[ChunkIndex]:
        return open_faiss(Config(), floor(home))


@pytest.mark.parametrize("params", [{}, HNSW, IVF_PQ], ids=["flat", "hnsw", "ivf_pq"])
class TestLargeBanks:
    async def test_the_nearest_are_found_through_deletes_and_restarts(
        self, params: dict[str, Any], tmp_path: Path
    ) -> None:
        bank = BankPlace(key="large", dimension=DIMENSION, params=params)
        rows = random_rows(ENOUGH)
        async with _with_chunks(bank, rows, tmp_path) as index:
            assert await _recall(index, bank, rows, set()) > 0.95
            gone = set(range(0, ENOUGH, 2))
            await index.delete_where(bank, Comparison(type="eq", key="even", value=True))
            assert await _recall(index, bank, rows, gone) > 0.95
            # Now without the dead.
            await cast(InlineIndex, index).tidy(bank)
            assert await _recall(index, bank, rows, gone) > 0.95
        async with open_faiss(Config(), floor(tmp_path)) as index:
            assert await _recall(index, bank, rows, gone) > 0.95

    async def test_filters_leave_as_many_as_there_are(self, params: dict[str, Any], tmp_path: Path) -> None:
        bank = BankPlace(key="large", dimension=DIMENSION, params=params)
        rows = random_rows(ENOUGH)
        async with _with_chunks(bank, rows, tmp_path) as index:
            query = rows.row_bytes(0)
            for tenth, count in ((None, ENOUGH), (3, ENOUGH // 10)):
                where = None if tenth is None else Comparison(type="eq", key="tenth", value=tenth)
                assert len(await index.search_vector(bank, query, ENOUGH, where)) == count
            odd = Comparison(type="eq", key="even", value=False)
            assert len(await index.search_vector(bank, query, 100, odd)) == 100


async def test_a_saved_index_is_taken_up_and_a_damaged_one_built_anew(tmp_path: Path) -> None:
    bank = BankPlace(key="large", dimension=DIMENSION, params=HNSW)
    rows = random_rows(ENOUGH)
    async with _with_chunks(bank, rows, tmp_path) as index:
        await index.search_vector(bank, rows.row_bytes(0), 1)
        # What comes after the snapshot is found as well.
        await cast(InlineIndex, index).tidy(bank)
        (snapshot,) = _files(tmp_path, "*.faiss")
        await index.write_chunks(bank, [chunk("late")], Vectors.of([[9.0] * DIMENSION], DIMENSION))
        await index.delete_documents(bank, ["d0001"])
    for damage in (False, True):
        if damage:
            snapshot.write_bytes(snapshot.read_bytes()[:1_000])
        async with open_faiss(Config(), floor(tmp_path)) as index:
            found = await index.search_vector(bank, Vectors.of([[1.0] * DIMENSION], DIMENSION).row_bytes(0), 3)
            assert ids(found)[0] == "late-0000"
            assert ids(await index.search_vector(bank, rows.row_bytes(1), 1)) != ["d0001-0000"]
            assert ids(await index.search_vector(bank, rows.row_bytes(2), 1)) == ["d0002-0000"]


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry for each piece of work that is done in a thread."""
    done: list[str] = []

    async def counted(executor: Executor, work: Callable[[Interruption], Any]) -> Any:
        done.append("work")
        return await in_thread(executor, work)

    monkeypatch.setattr(index_module, "in_thread", counted)
    monkeypatch.setattr(bank_module, "disk_reads", lambda: 0)
    return done


async def test_a_small_bank_is_searched_without_a_thread_unless_that_may_take_long(
    tmp_path: Path, in_threads: list[str]
) -> None:
    bank, rows = BankPlace(key="small", dimension=DIMENSION), random_rows(60)
    async with open_faiss(Config(), floor(tmp_path)) as ours, open_faiss(Config(), floor(tmp_path)) as theirs:
        await ours.create_bank(bank)
        await ours.write_chunks(bank, [chunk(f"d{number:02}") for number in range(60)], rows)
        loading = await ours.search_vector(bank, rows.row_bytes(7), 5)
        in_threads.clear()
        assert await ours.search_vector(bank, rows.row_bytes(7), 5) == loading
        assert not in_threads

        await ours.delete_documents(bank, ["d07"])
        in_threads.clear()
        assert await ours.search_vector(bank, rows.row_bytes(7), 4) == loading[1:]
        assert not in_threads

        much = await ours.search_vector(bank, rows.row_bytes(7), QUICK_LIMIT + 1)
        filtered = await ours.search_vector(
            bank, rows.row_bytes(7), 5, Comparison(type="ne", key="document_id", value="d08")
        )
        assert len(in_threads) == 2
        assert (len(much), len(filtered)) == (QUICK_LIMIT + 1, 5)

        # What another process wrote is read from the file.
        await theirs.write_chunks(
            bank, [chunk("d07")], Vectors(rows.buffer[7 * DIMENSION * 4 :][: DIMENSION * 4], DIMENSION)
        )
        in_threads.clear()
        assert ids(await ours.search_vector(bank, rows.row_bytes(7), 5)) == ids(loading)
        assert len(in_threads) == 1


async def test_many_equals_and_a_slow_disk_are_left_to_threads(
    tmp_path: Path, in_threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, equal = BankPlace(key="equals", dimension=DIMENSION), [1.0] * DIMENSION
    query = Vectors.of([equal], DIMENSION).row_bytes(0)
    async with open_faiss(Config(), floor(tmp_path)) as index:
        await index.create_bank(bank)
        chunks = [chunk(f"d{number:02}") for number in range(40)]
        await index.write_chunks(bank, chunks, Vectors.of([equal] * 40, DIMENSION))
        for _ in range(2):
            in_threads.clear()
            assert ids(await index.search_vector(bank, query, 2)) == ["d00-0000", "d01-0000"]
            assert len(in_threads) == 1

        reads = iter(range(10))
        monkeypatch.setattr(bank_module, "disk_reads", lambda: next(reads))
        for count in (0, 1):
            in_threads.clear()
            assert len(await index.search_vector(bank, query, 40)) == 40
            assert len(in_threads) == count


async def test_changes_of_another_process_are_seen(tmp_path: Path) -> None:
    """Two openings of one folder know as little of each other as two processes."""
    bank, rows = BankPlace(key="shared", dimension=DIMENSION), random_rows(4)
    async with open_faiss(Config(), floor(tmp_path)) as ours, open_faiss(Config(), floor(tmp_path)) as theirs:
        await ours.create_bank(bank)
        await ours.write_chunks(bank, [chunk("a"), chunk("b")], Vectors(rows.buffer[: 2 * DIMENSION * 4], DIMENSION))
        assert len(await theirs.search_vector(bank, rows.row_bytes(0), 5)) == 2
        assert len(await ours.search_vector(bank, rows.row_bytes(0), 5)) == 2
        await theirs.write_chunks(bank, [chunk("c")], Vectors(rows.row_bytes(2), DIMENSION))
        await theirs.delete_documents(bank, ["a"])
        found = await ours.search_vector(bank, rows.row_bytes(2), 5)
        assert ids(found)[0] == "c-0000"
        assert sorted(ids(found)) == ["b-0000", "c-0000"]
        await ours.write_chunks(bank, [chunk("d")], Vectors(rows.row_bytes(3), DIMENSION))
        assert ids(await theirs.search_vector(bank, rows.row_bytes(3), 1)) == ["d-0000"]


async def test_a_bank_moves_between_the_providers_in_this_process(tmp_path: Path) -> None:
    bank, rows = BankPlace(key="moving", dimension=DIMENSION), random_rows(3)
    async with open_sqlite_vec(SqliteConfig(), floor(tmp_path)) as index:
        await index.create_bank(bank)
        await index.write_chunks(bank, [chunk("a"), chunk("b")], Vectors(rows.buffer[: 2 * DIMENSION * 4], DIMENSION))
    async with open_faiss(Config(), floor(tmp_path)) as index:
        assert ids(await index.search_vector(bank, rows.row_bytes(1), 1)) == ["b-0000"]
        await index.write_chunks(bank, [chunk("c")], Vectors(rows.row_bytes(2), DIMENSION))
    async with open_sqlite_vec(SqliteConfig(), floor(tmp_path)) as index:
        assert ids(await index.search_vector(bank, rows.row_bytes(2), 1)) == ["c-0000"]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"index": {"kind": "annoy"}}, "params.index"),
        ({"index": {"kind": "hnsw", "m": 1}}, "params.index.hnsw.m"),
        ({"index": "hnsw"}, "params.index"),
        ({"kind": "hnsw"}, "params.kind"),
        ({"index": {"kind": "ivf_pq", "subvectors": 3}}, "subvectors"),
    ],
)
async def test_settings_that_cannot_be_served_are_refused(params: dict[str, Any], reason: str, tmp_path: Path) -> None:
    async with open_faiss(Config(), floor(tmp_path)) as index:
        with pytest.raises(InvalidRequest, match=reason):
            await index.create_bank(BankPlace(key="odd", dimension=DIMENSION, params=params))


async def test_a_missing_library_comes_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ProviderUnavailable, match=r"pip install 'llama-stack\[faiss\]'"):
        async with open_faiss(Config(), floor(tmp_path)):
            raise AssertionError("it opened without its library")


def _files(home: Path, pattern: str) -> list[Path]:
    return list(home.rglob(pattern))


@asynccontextmanager
async def _with_chunks(bank: BankPlace, rows: Vectors, home: Path) -> AsyncIterator[ChunkIndex]:
    """An opening with the bank in it, loaded, filled and tidied."""
    chunks = [
        chunk(f"d{number:04}", metadata={"even": number % 2 == 0, "tenth": number % 10}) for number in range(len(rows))
    ]
    async with open_faiss(Config(), floor(home)) as index:
        await index.create_bank(bank)
        await index.search_vector(bank, rows.row_bytes(0), 1)
        await index.write_chunks(bank, chunks, rows)
        await cast(InlineIndex, index).tidy(bank)
        yield index


async def _recall(index: ChunkIndex, bank: BankPlace, rows: Vectors, gone: set[int]) -> float:
    """Share of queries by a stored vector that find its chunk first; the dead are never found."""
    asked = [number for number in range(0, len(rows), 37) if number not in gone]
    hits = 0
    for number in asked:
        found = ids(await index.search_vector(bank, rows.row_bytes(number), 5))
        assert len(found) == 5
        assert not {int(name[1:5]) for name in found} & gone
        hits += found[0] == f"d{number:04}-0000"
    return hits / len(asked)
