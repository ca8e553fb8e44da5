"""What is kept about banks and about the way of documents into them, on SQLite and on PostgreSQL."""

import inspect
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from llama_stack.api.common import Caller
from llama_stack.api.memory import ChunkSizes, DocumentError, DocumentState, ListedOrder
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.storage import Database, open_database
from llama_stack.storage.banks import BankStore
from llama_stack.storage.columns import now
from llama_stack.storage.documents import HELD_LOOKED_AT, DocumentStore, NewDocument, Ready
from llama_stack.storage.memory_tables import banks, documents
from llama_stack.storage.pages import Between

READY = Ready(chunks=3, size_bytes=300, content_sha256="c" * 64, mime_type="text/plain")
FOR_ALL_OWNERS = {"claim", "renew", "metadata_of", "abandon", "complete", "fail", "give_back", "expired"}


@pytest.mark.parametrize("store", [BankStore, DocumentStore])
def test_every_method_demands_a_caller_or_works_for_all(store: type) -> None:
    for name, method in inspect.getmembers(store, inspect.isfunction):
        if not name.startswith("_") and name not in FOR_ALL_OWNERS:
            assert inspect.signature(method).parameters["caller"].default is inspect.Parameter.empty, name


@pytest.fixture
async def own_database(empty_url: str) -> AsyncIterator[Database]:
    """One in which nobody else's documents wait: whoever claims takes those of all owners."""
    async with open_database(empty_url) as opened:
        yield opened


async def finish(store: DocumentStore, bank_id: str, document_id: str, caller: Caller) -> None:
    workings = await store.begin(bank_id, [NewDocument(document_id)], caller, is_held=True)
    assert await store.complete([(workings[0], READY)]) == []


async def test_what_was_left_out_is_kept_until_the_document_comes_again(database: Database, alice: Caller) -> None:
    store = DocumentStore(database)
    (working,) = await store.begin("notes", [NewDocument("d")], alice, is_held=True)
    await store.complete([(working, replace(READY, warnings=["page 2 is damaged and was left out", "Größe"]))])
    kept = (await store.document("notes", "d", alice)).status
    assert kept.warnings == ["page 2 is damaged and was left out", "Größe"]
    await store.begin("notes", [NewDocument("d")], alice, is_held=True)
    assert (await store.document("notes", "d", alice)).status.warnings == []


async def test_a_bank_is_its_owners_only(database: Database, alice: Caller, bob: Caller) -> None:
    store = BankStore(database)
    made = await store.create("notes", alice, kind="vector", name="Notes", metadata={"a": "b"}, expiry_days=7)
    assert await store.bank("notes", alice) == made
    assert made.expires_at == made.last_active_at + timedelta(days=7)
    with pytest.raises(NotFound, match="notes"):
        await store.bank("notes", bob)
    with pytest.raises(NotFound, match="notes"):
        await store.update("notes", {"name": "mine"}, bob)
    await store.forget("notes", bob)
    await store.create("notes", bob, kind="keyword", name="Bob's", metadata={}, expiry_days=None)
    assert (await store.bank("notes", alice)).name == "Notes"
    changed = await store.update("notes", {"metadata": {}, "expiry_days": None}, alice)
    assert (changed.metadata, changed.expires_at, changed.name) == ({}, None, "Notes")


async def test_pages_of_banks_go_both_ways(database: Database, alice: Caller) -> None:
    store = BankStore(database)
    for name in "abcde":
        await store.create(name, alice, kind="vector", name="", metadata={}, expiry_days=None)
    await store.create("words", alice, kind="keyword", name="", metadata={}, expiry_days=None)

    async def page(order: ListedOrder, **ends: str) -> tuple[str, bool]:
        found = await store.page(alice, limit=2, between=Between(**ends), order=order, kind="vector")
        return "".join(bank.bank_id for bank in found.entries), found.next_after is not None

    assert await page(ListedOrder.OLDEST_FIRST) == ("ab", True)
    assert await page(ListedOrder.OLDEST_FIRST, after="b") == ("cd", True)
    assert await page(ListedOrder.OLDEST_FIRST, after="d") == ("e", False)
    assert await page(ListedOrder.OLDEST_FIRST, before="d") == ("bc", True)
    assert await page(ListedOrder.OLDEST_FIRST, before="b") == ("a", False)
    assert await page(ListedOrder.NEWEST_FIRST) == ("ed", True)
    with pytest.raises(InvalidRequest, match="exclude each other"):
        await page(ListedOrder.NEWEST_FIRST, before="a", after="b")


async def test_activity_is_noted_now_and_then_and_expiry_follows_it(own_database: Database, alice: Caller) -> None:
    store = BankStore(own_database)
    made = await store.create("old", alice, kind="vector", name="", metadata={}, expiry_days=1)
    await store.note_activity(made, alice)
    assert (await store.bank("old", alice)).last_active_at == made.last_active_at
    await finish(DocumentStore(own_database), "old", "d", alice)
    assert await store.expired() == []
    long_ago = now() - timedelta(days=2)
    async with own_database.write() as connection:
        await connection.execute(update(banks).values(last_active_at=long_ago))
    assert [bank.bank_id for bank in await store.expired()] == ["old"]
    await store.note_activity(await store.bank("old", alice), alice)
    assert await store.expired() == []


async def test_a_document_is_worked_on_by_one_and_seen_by_its_owner(
    own_database: Database, alice: Caller, bob: Caller
) -> None:
    store = DocumentStore(own_database)
    new = NewDocument("d", "d.txt", "text/plain", {"year": 2024}, ChunkSizes(chunk_size_tokens=64), "file-1", "batch-1")
    (waiting,) = await store.begin("bank", [new], alice, is_held=False)
    pending = (await store.document("bank", "d", alice)).status
    assert (pending.state, pending.metadata, pending.file_id) == (DocumentState.PENDING, {"year": 2024}, "file-1")
    with pytest.raises(NotFound, match="no document 'd'"):
        await store.document("bank", "d", bob)

    ((working, stored),) = await store.claim(5)
    assert working.revision != waiting.revision
    assert stored.owner == alice.owner
    assert await store.claim(5) == []
    assert await store.metadata_of(waiting) is None
    assert await store.metadata_of(working) == {"year": 2024}
    assert await store.complete([(waiting, READY)]) == [waiting]
    assert await store.complete([(working, READY)]) == []
    done = (await store.document("bank", "d", alice)).status
    assert (done.state, done.chunks, done.size_bytes) == (DocumentState.COMPLETED, 3, 300)
    assert (await store.counts(["bank", "other"], alice))["bank"].documents == {DocumentState.COMPLETED: 1}
    assert (await store.counts(["bank"], bob))["bank"].documents == {}
    assert [one.status.document_id for one in await store.with_content("bank", "c" * 64, alice)] == ["d"]
    assert await store.with_content("bank", "c" * 64, bob) == []
    assert [one.bank_id for one in await store.with_file("file-1", alice)] == ["bank"]
    assert await store.forget("bank", ["d"], bob) == 0
    assert await store.forget("bank", ["d", "unknown"], alice) == 1


async def test_what_a_dead_worker_held_is_claimed_again(own_database: Database, alice: Caller) -> None:
    store = DocumentStore(own_database)
    await store.begin("bank", [NewDocument("d", file_id="f")], alice, is_held=False)
    ((first, _),) = await store.claim(1)
    await store.renew([first])
    assert await store.claim(1) == []
    async with own_database.write() as connection:
        await connection.execute(update(documents).values(held_until=now() - timedelta(seconds=1)))
    ((second, _),) = await store.claim(1)
    await store.fail(first, DocumentError(code="damaged", message="no longer its to say"))
    assert (await store.document("bank", "d", alice)).status.state is DocumentState.RUNNING
    await store.fail(second, DocumentError(code="damaged", message="broken off"))
    failed = (await store.document("bank", "d", alice)).status
    assert failed.error == DocumentError(code="damaged", message="broken off")
    await store.begin("bank", [NewDocument("d", file_id="f")], alice, is_held=False)
    assert (await store.document("bank", "d", alice)).status.error is None


async def test_what_waits_behind_many_that_are_worked_on_is_claimed(own_database: Database, alice: Caller) -> None:
    store = DocumentStore(own_database)
    held = [NewDocument(f"held-{number}") for number in range(2 * HELD_LOOKED_AT)]
    await store.begin("bank", held, alice, is_held=True)
    await store.begin("bank", [NewDocument("waiting", file_id="f")], alice, is_held=False)
    assert [stored.status.document_id for _, stored in await store.claim(4)] == ["waiting"]
    assert await store.claim(4) == []


async def test_a_batch_keeps_its_counts_and_an_ended_one_its_end(own_database: Database, alice: Caller) -> None:
    store, kept = DocumentStore(own_database), BankStore(own_database)
    first, second = await kept.create_batch("bank", alice), await kept.create_batch("bank", alice)
    new = [NewDocument(name, batch_id=first.batch_id) for name in "abc"]
    await store.begin("bank", new, alice, is_held=False)
    claimed = await store.claim(2)
    await store.complete([(working, READY) for working, _ in claimed])
    done, waiting = claimed[0][0].document_id, "c"
    again = [NewDocument(name, batch_id=second.batch_id) for name in (done, waiting)]
    for _ in range(2):  # a batch is not left for itself
        await store.begin("bank", again, alice, is_held=False)
    counts = (await store.counts(["bank", "other"], alice, batch_id=first.batch_id))["bank"]
    assert counts.documents == {DocumentState.COMPLETED: 2, DocumentState.CANCELLED: 1}
    await kept.cancel_batch(first.batch_id, alice)
    assert not (await kept.batch("bank", first.batch_id, alice)).is_cancelled
    await kept.cancel_batch(second.batch_id, alice)
    assert (await kept.batch("bank", second.batch_id, alice)).is_cancelled


async def test_a_batch_is_counted_and_what_waits_is_cancelled(
    own_database: Database, alice: Caller, bob: Caller
) -> None:
    store, kept = DocumentStore(own_database), BankStore(own_database)
    batch = await kept.create_batch("bank", alice)
    new = [NewDocument(f"d{number}", batch_id=batch.batch_id) for number in range(1200)]
    await store.begin("bank", new, alice, is_held=False)
    ((working, _),) = await store.claim(1)
    await store.complete([(working, READY)])
    with pytest.raises(NotFound):
        await kept.batch("bank", batch.batch_id, bob)
    await kept.cancel_batch(batch.batch_id, bob)
    await kept.cancel_batch(batch.batch_id, alice)
    counts = (await store.counts(["bank"], alice, batch_id=batch.batch_id))["bank"]
    assert counts.documents == {DocumentState.COMPLETED: 1, DocumentState.CANCELLED: 1199}
    assert (await kept.batch("bank", batch.batch_id, alice)).is_cancelled
    page = await store.page(
        "bank",
        alice,
        limit=10,
        between=Between(),
        order=ListedOrder.OLDEST_FIRST,
        states=[DocumentState.COMPLETED],
        batch_id=batch.batch_id,
    )
    assert [one.document_id for one in page.entries] == [working.document_id]
