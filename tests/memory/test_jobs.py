"""Files that wait are read, whatever else goes wrong meanwhile."""

import asyncio
import logging

import pytest

from llama_stack.errors import ProviderUnavailable
from llama_stack.memory import jobs
from llama_stack.memory.jobs import FileJobs
from llama_stack.storage.documents import StoredDocument, Working

WORKING = Working("alice", "bank", "d", "rev")


class Store:
    """Hands out one document after its faults."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.waiting = 1
        self.given_back: list[Working] = []

    async def claim(self, limit: int) -> list[tuple[Working, StoredDocument]]:
        if self.faults:
            raise self.faults.pop(0)
        claimed, self.waiting = min(self.waiting, limit), 0
        return [(WORKING, StoredDocument({}))] * claimed

    async def give_back(self, workings: list[Working]) -> None:
        self.given_back += workings


async def nothing() -> None:
    return


@pytest.mark.parametrize("fault", [ProviderUnavailable("the database is away"), RuntimeError("a bug of ours")])
async def test_a_fault_is_told_and_reading_goes_on(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "LOOK_EVERY_S", 0.01)
    done = asyncio.Event()

    async def work(working: Working, document: StoredDocument) -> None:
        done.set()

    files = FileJobs(Store(fault), work, nothing)  # type: ignore[arg-type]  # what the jobs need of a store
    with caplog.at_level(logging.WARNING):
        async with files.running(), asyncio.timeout(60):
            await done.wait()
    assert "looking for files to read failed" in caplog.text or "the database is away" in caplog.text


async def test_what_is_under_way_at_the_end_is_given_back() -> None:
    begun = asyncio.Event()

    async def work(working: Working, document: StoredDocument) -> None:
        begun.set()
        await asyncio.Event().wait()

    store = Store()
    files = FileJobs(store, work, nothing)  # type: ignore[arg-type]  # what the jobs need of a store
    async with files.running(), asyncio.timeout(60):
        await begun.wait()
    assert store.given_back == [WORKING]
