"""Killed while it takes files in, then started again: every file is there or says why not, and none is done twice."""

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from llama_stack.api.memory import (
    DocumentError,
    DocumentState,
    DocumentStatus,
    ListedOrder,
    MemoryQuery,
    SearchMode,
)
from llama_stack.memory.jobs import AT_ONCE
from llama_stack.memory.service import MemoryService
from llama_stack.storage import default_url, open_database
from llama_stack.storage.documents import DocumentStore, Ready, Working
from llama_stack.storage.pages import Between
from tests.memory.dying_ingestion import BANK, LoggingInference, broken_of, log_of
from tests.memory.hashed import ALICE, open_memory_stack

ROOT = Path(__file__).parents[2]
PAGE = 1_000
ENDED = (DocumentState.COMPLETED, DocumentState.FAILED)


async def killed(home: Path, count: int, moment: str, number: int, limit_s: float) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.memory.dying_ingestion", str(home), str(count), moment, str(number)),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limit_s):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == -signal.SIGKILL, errors.decode()


async def states_after_death(home: Path) -> dict[str, DocumentState]:
    """Of every file, by its name, as the dead process left them."""
    async with open_database(default_url(home), migrate=False) as database:
        statuses: list[DocumentStatus] = []
        after: str | None = None
        while True:
            page = await DocumentStore(database).page(
                BANK, ALICE, limit=PAGE, between=Between(after), order=ListedOrder.OLDEST_FIRST
            )
            statuses += page.entries
            after = page.next_after
            if after is None:
                return {Path(one.name).stem: one.state for one in statuses}


async def all_documents(memory: MemoryService) -> list[DocumentStatus]:
    statuses: list[DocumentStatus] = []
    after: str | None = None
    while True:
        page = await memory.documents(BANK, ALICE, limit=PAGE, after=after, order=ListedOrder.OLDEST_FIRST)
        statuses += page.entries
        after = page.next_after
        if after is None:
            return statuses


def embedded_by(home: Path, process: str) -> Counter[str]:
    log = log_of(home, process)
    return Counter(log.read_text().split() if log.exists() else [])


class Ends:
    """Counts documents that come to an end in this process; `all_there` is set with the last of them."""

    def __init__(self, expected: int, patch: pytest.MonkeyPatch) -> None:
        self.seen: Counter[str] = Counter()
        self.all_there = asyncio.Event()
        self._expected = expected
        complete, fail = DocumentStore.complete, DocumentStore.fail

        async def completing(store: DocumentStore, workings: Sequence[tuple[Working, Ready]]) -> list[Working]:
            overtaken = await complete(store, workings)
            self._note([working for working, _ in workings])
            return overtaken

        async def failing(store: DocumentStore, working: Working, error: DocumentError) -> None:
            await fail(store, working, error)
            self._note([working])

        patch.setattr(DocumentStore, "complete", completing)
        patch.setattr(DocumentStore, "fail", failing)

    def _note(self, workings: Sequence[Working]) -> None:
        self.seen.update(working.document_id for working in workings)
        if self.seen.total() >= self._expected:
            self.all_there.set()


async def goes_on_where_it_was(
    home: Path, count: int, moment: str, number: int, patch: pytest.MonkeyPatch, *, limit_s: float
) -> None:
    await killed(home, count, moment, number, limit_s)
    broken = {f"file-{place:05}" for place in broken_of(count)}
    whole = {f"file-{place:05}" for place in range(count)} - broken
    before = await states_after_death(home)
    assert before.keys() == whole | broken, "a file that was accepted is lost"
    left = {name for name, state in before.items() if state not in ENDED}
    assert left, "it died too late"

    ends = Ends(len(left), patch)
    inference = LoggingInference(log_of(home, "second"))
    inference.begin.set()
    async with open_memory_stack(home, inference=inference) as stack, asyncio.timeout(limit_s):
        memory = await stack.memory()
        await ends.all_there.wait()
        stats = await memory.stats(BANK, ALICE)
        statuses = await all_documents(memory)
        first, second = (embedded_by(home, process) for process in ("first", "second"))
        last = f"file-{max(place for place in range(count) if f'file-{place:05}' in whole):05}"
        found = await memory.query([BANK], MemoryQuery(query=last, mode=SearchMode.KEYWORD), ALICE)

    assert stats.documents == {DocumentState.COMPLETED: len(whole), DocumentState.FAILED: len(broken)}
    assert stats.chunks == len(whole), "a document stands twice in the index, or not at all"
    assert found[0].document_name == f"{last}.md"
    named = {Path(one.name).stem: one for one in statuses}
    assert {name for name, one in named.items() if one.state is DocumentState.FAILED} == broken
    assert {one.error.code for name, one in named.items() if name in broken and one.error} == {"damaged", "empty"}
    assert all(one.error is None for name, one in named.items() if name in whole)

    assert set(ends.seen.values()) == {1}
    assert second == Counter(left & whole), "what was done is done again, or what is left is done twice"
    assert first.total() == len(first)
    assert len(first.keys() & second.keys()) <= AT_ONCE, "more was begun anew than had been under way"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("moment", "number"), [("embedding", 150), ("completing", 150)])
async def test_three_hundred_files_survive_a_kill(
    tmp_path: Path, moment: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await goes_on_where_it_was(tmp_path, 300, moment, number, monkeypatch, limit_s=120)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_ten_thousand_files_survive_a_kill_at_half_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await goes_on_where_it_was(tmp_path, 10_000, "embedding", 5_000, monkeypatch, limit_s=800)
