"""What is known of files, on SQLite and on PostgreSQL."""

import inspect
import secrets
from datetime import datetime, timedelta

import pytest

from llama_stack.api.common import Caller, Page
from llama_stack.api.files import File, FilePurpose
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.storage import Database
from llama_stack.storage.columns import now
from llama_stack.storage.files import FileHousekeeping, FileStore

NOON = now().replace(microsecond=123456)


def file_of(created_at: datetime = NOON, expires_at: datetime | None = None, size_bytes: int = 1) -> File:
    return File(
        file_id=f"file-{secrets.token_hex(8)}",
        filename="größe'); --.txt",
        purpose=FilePurpose.FINE_TUNE_RESULTS,
        mime_type="text/plain",
        size_bytes=size_bytes,
        sha256="0" * 64,
        created_at=created_at,
        expires_at=expires_at,
    )


def test_every_method_demands_a_caller() -> None:
    for name, method in inspect.getmembers(FileStore, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(method).parameters["caller"].default is inspect.Parameter.empty, name


async def test_what_is_added_is_found_by_its_owner_only(database: Database, alice: Caller, bob: Caller) -> None:
    store, file = FileStore(database), file_of(size_bytes=6_000_000_000, expires_at=NOON + timedelta(hours=1))
    await store.add(file, alice)
    assert await store.file(file.file_id, NOON, alice) == file
    assert await store.page(NOON, alice, limit=10) == Page(entries=[file])
    for work in (store.file(file.file_id, NOON, bob), store.hide(file.file_id, NOON, bob)):
        with pytest.raises(NotFound, match=file.file_id):
            await work
    await store.remove(file.file_id, bob)
    assert await store.page(NOON, bob, limit=10) == Page(entries=[])
    with pytest.raises(InvalidRequest, match="after"):
        await store.page(NOON, bob, limit=10, after=file.file_id)
    assert await store.file(file.file_id, NOON, alice) == file


async def test_a_file_is_hidden_from_the_moment_it_expires(database: Database, alice: Caller) -> None:
    store, housekeeping = FileStore(database), FileHousekeeping(database)
    soon, later, never = (file_of(expires_at=NOON + timedelta(hours=1)), file_of(), file_of())
    for file in (soon, later, never):
        await store.add(file, alice)
    then = NOON + timedelta(hours=1)
    assert await store.file(soon.file_id, then - timedelta(microseconds=1), alice) == soon
    with pytest.raises(NotFound):
        await store.file(soon.file_id, then, alice)
    assert await store.hide(later.file_id, NOON, alice) == later
    with pytest.raises(NotFound):
        await store.hide(later.file_id, NOON, alice)
    assert (await store.page(then, alice, limit=10)).entries == [never]
    expired = {file.file_id: owner for file, owner in await housekeeping.expired(then, limit=1000)}
    assert expired[soon.file_id] == expired[later.file_id] == alice
    assert never.file_id not in expired
    behind = await housekeeping.expired(then, after=max(soon.file_id, later.file_id), limit=1000)
    assert not {soon.file_id, later.file_id} & {file.file_id for file, _ in behind}
    assert await housekeeping.known([soon.file_id, "file-unknown"]) == {soon.file_id}
    await store.remove(soon.file_id, alice)
    assert await housekeeping.known([soon.file_id, "file-unknown"]) == set()


async def test_pages_keep_files_of_one_moment_apart(database: Database, alice: Caller) -> None:
    store, made = FileStore(database), sorted([file_of() for _ in range(5)], key=lambda file: file.file_id)
    for file in made:
        await store.add(file, alice)
    seen: list[File] = []
    after: str | None = None
    while True:
        page = await store.page(NOON, alice, limit=2, after=after, order="asc")
        seen += page.entries
        if (after := page.next_after) is None:
            break
    assert seen == made
    none = await store.page(NOON, alice, limit=2, purpose=FilePurpose.BATCH)
    assert none == Page(entries=[])
