"""The files' service over a real folder and a real database."""

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pydantic import ValidationError

from llama_stack.api.common import Caller
from llama_stack.api.files import File, FilePurpose
from llama_stack.errors import ConfigError, InvalidRequest, NotFound, PayloadTooLarge, ProviderUnavailable, RateLimited
from llama_stack.files import service as service_module
from llama_stack.files.service import FileService, open_files
from llama_stack.storage import Database, open_database
from tests.files.conftest import ALICE, BOB, Clock, about, contents_in, pieces, read, until

LIMIT = 10_000_000
DYING = Path(__file__).with_name("dying.py")


async def test_what_goes_in_comes_out(files: FileService, folder: Path, clock: Clock) -> None:
    content = os.urandom(3_000_000)
    file = await files.create(pieces(content[:10], content[10:2_000_000], content[2_000_000:]), about("a.pdf"), ALICE)
    assert file == File(
        file_id=file.file_id,
        filename="a.pdf",
        purpose=FilePurpose.ASSISTANTS,
        mime_type="application/pdf",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        created_at=clock.now,
    )
    assert await files.file(file.file_id, ALICE) == file
    assert await read(files.content(file.file_id, ALICE)) == content
    assert (await files.path(file.file_id, ALICE)).read_bytes() == content
    assert contents_in(folder) == {file.file_id}


async def test_a_type_that_is_told_is_kept_and_another_is_guessed(files: FileService) -> None:
    told = await files.create(pieces(b"x"), about("a.pdf", mime_type="text/markdown"), ALICE)
    unknown = await files.create(pieces(b"x"), about("a.unheard-of"), ALICE)
    assert (told.mime_type, unknown.mime_type) == ("text/markdown", "application/octet-stream")


@pytest.mark.parametrize("mime_type", ["text", "text/plain\r\nx: y", "text/pl ain"])
def test_a_type_is_nothing_else(mime_type: str) -> None:
    with pytest.raises(ValidationError, match="mime_type"):
        about(mime_type=mime_type)


async def test_another_owner_finds_nothing(files: FileService) -> None:
    file = await files.create(pieces(b"secret"), about(), ALICE)
    for work in (
        files.file(file.file_id, BOB),
        files.path(file.file_id, BOB),
        files.delete(file.file_id, BOB),
        anext(files.content(file.file_id, BOB)),
    ):
        with pytest.raises(NotFound, match=file.file_id):
            await work
    assert (await files.page(BOB)).entries == []
    with pytest.raises(InvalidRequest, match="after"):
        await files.page(BOB, after=file.file_id)
    assert (await files.page(ALICE)).entries == [file]


@pytest.mark.parametrize("file_id", ["file-0", "../stack.db", "incoming", "", "a\0b", "x" * 600])
async def test_an_id_is_no_path(files: FileService, file_id: str) -> None:
    with pytest.raises((NotFound, InvalidRequest)) as refused:
        await files.path(file_id, ALICE)
    assert refused.value.param == "file_id"


async def test_pages(files: FileService, clock: Clock) -> None:
    made = []
    for number in range(5):
        purpose = FilePurpose.BATCH if number % 2 else FilePurpose.VISION
        made.append(await files.create(pieces(b"x"), about(f"{number}", purpose=purpose), ALICE))
        clock.pass_by(1)
    first = await files.page(ALICE, limit=2)
    second = await files.page(ALICE, limit=2, after=first.next_after)
    third = await files.page(ALICE, limit=2, after=second.next_after)
    assert [*first.entries, *second.entries, *third.entries] == made[::-1]
    assert third.next_after is None
    assert (await files.page(ALICE, order="asc")).entries == made
    assert (await files.page(ALICE, order="asc", purpose=FilePurpose.BATCH)).entries == made[1::2]
    for limit in (0, 10_001):
        with pytest.raises(InvalidRequest, match="limit"):
            await files.page(ALICE, limit=limit)


async def test_a_page_may_be_longer_than_one_query(files: FileService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_stack.storage.files.MAX_LIMIT", 2)
    made = [(await files.create(pieces(b"x"), about(), ALICE)).file_id for _ in range(5)]
    for limit, more in ((3, True), (4, True), (5, False), (6, False)):
        page = await files.page(ALICE, limit=limit)
        assert {entry.file_id for entry in page.entries} <= set(made)
        assert len(page.entries) == min(limit, 5)
        assert (page.next_after is not None) is more


async def test_a_deleted_file_is_gone_with_its_bytes(files: FileService, folder: Path) -> None:
    file = await files.create(pieces(b"x"), about(), ALICE)
    kept = await files.create(pieces(b"y"), about(), ALICE)
    content = files.content(file.file_id, ALICE)
    assert await anext(content) == b"x"
    await files.delete(file.file_id, ALICE)
    assert await read(content) == b""
    with pytest.raises(NotFound):
        await files.file(file.file_id, ALICE)
    with pytest.raises(NotFound):
        await files.delete(file.file_id, ALICE)
    assert contents_in(folder) == {kept.file_id}


async def test_an_expired_file_is_hidden_at_once_and_then_removed(
    files: FileService, folder: Path, clock: Clock
) -> None:
    file = await files.create(pieces(b"x"), about(expires_after_s=3600), ALICE)
    assert file.expires_at is not None
    assert (file.expires_at - file.created_at).total_seconds() == 3600
    clock.pass_by(3599)
    await files.sweep()
    assert await files.file(file.file_id, ALICE) == file
    clock.pass_by(1)
    with pytest.raises(NotFound):
        await files.file(file.file_id, ALICE)
    assert (await files.page(ALICE)).entries == []
    assert contents_in(folder) == {file.file_id}
    await files.sweep()
    assert contents_in(folder) == set()


async def test_who_wants_to_know_of_a_deletion_is_told_until_it_is_done(
    files: FileService, folder: Path, clock: Clock
) -> None:
    told: list[tuple[str, Caller]] = []
    failures: list[Exception] = [ProviderUnavailable("down"), KeyError("a bug")]

    async def forget(file: File, caller: Caller) -> None:
        assert await asyncio.to_thread((folder / file.file_id).exists)
        told.append((file.file_id, caller))
        if failures:
            raise failures.pop()

    files.on_delete(forget)
    deleted = await files.create(pieces(b"x"), about(), ALICE)
    expiring = await files.create(pieces(b"y"), about(expires_after_s=3600), BOB)
    await files.delete(deleted.file_id, ALICE)
    with pytest.raises(NotFound):
        await files.file(deleted.file_id, ALICE)
    await files.sweep()
    assert contents_in(folder) == {deleted.file_id, expiring.file_id}
    clock.pass_by(3600)
    await files.sweep()
    assert contents_in(folder) == set()
    assert told[:2] == [(deleted.file_id, ALICE)] * 2
    assert (expiring.file_id, BOB) in told[2:]
    assert len(told) == 4


async def test_one_that_cannot_be_removed_holds_up_no_other(files: FileService, folder: Path, clock: Clock) -> None:
    made = [await files.create(pieces(b"x"), about(expires_after_s=3600), ALICE) for _ in range(4)]
    stubborn = min(file.file_id for file in made)

    async def forget(file: File, caller: Caller) -> None:
        if file.file_id == stubborn:
            raise ProviderUnavailable("down")

    files.on_delete(forget)
    clock.pass_by(3600)
    await files.sweep()
    assert contents_in(folder) == {stubborn}


async def test_nothing_is_left_of_what_is_refused(files: FileService, folder: Path) -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"x" * 2_000_000
        raise InvalidRequest("no more")

    with pytest.raises(InvalidRequest, match="empty"):
        await files.create(pieces(), about(), ALICE)
    with pytest.raises(InvalidRequest, match="empty"):
        await files.create(pieces(b"", b""), about(), ALICE)
    with pytest.raises(PayloadTooLarge, match=r"larger than 10000000 bytes.*storage\.max_file_bytes"):
        await files.create(pieces(*[b"x" * 1_000_000] * 10, b"x"), about(), ALICE)
    with pytest.raises(InvalidRequest, match="no more"):
        await files.create(broken(), about(), ALICE)
    assert contents_in(folder) == set()
    exact = await files.create(pieces(*[b"x" * 1_000_000] * 10), about(), ALICE)
    assert exact.size_bytes == LIMIT


async def test_nothing_is_left_of_what_is_cancelled(files: FileService, folder: Path) -> None:
    has_begun = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        yield b"x" * 2_000_000
        has_begun.set()
        await asyncio.Event().wait()

    making = asyncio.create_task(files.create(endless(), about(), ALICE))
    await has_begun.wait()
    assert len(contents_in(folder)) == 2
    making.cancel()
    await asyncio.wait([making])
    assert making.cancelled()
    assert contents_in(folder) == set()


async def test_whoever_is_cancelled_while_the_row_is_written_leaves_both_or_neither(
    files: FileService, folder: Path, database: Database
) -> None:
    async with database.write():
        making = asyncio.create_task(files.create(pieces(b"x"), about(), ALICE))
        # Its content is in its place and its row waits for the transaction above.
        await until(lambda: any(name.startswith("file-") for name in contents_in(folder)))
        making.cancel()
    await asyncio.wait([making])
    assert contents_in(folder) == {file.file_id for file in (await files.page(ALICE)).entries}
    assert making.cancelled()


async def test_only_so_many_are_received_at_once(
    files: FileService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "MAX_INCOMING", 1)
    async with files.receive() as first:
        with pytest.raises(RateLimited) as refused:
            await files.create(pieces(b"x"), about(), ALICE)
        assert refused.value.retry_after_s is not None
        await first.write(b"y")
        await first.keep(about(), ALICE)
    await files.create(pieces(b"x"), about(), ALICE)
    assert len(contents_in(folder)) == 2


async def test_a_folder_that_fills_up_is_said_so(files: FileService, folder: Path) -> None:
    """Like every failure of the disk; a part that cannot be renamed stands for one that cannot be written."""
    async with files.receive() as incoming:
        await incoming.write(b"x")
        (part,) = [name for name in contents_in(folder) if name.endswith(".part")]
        await asyncio.to_thread((folder / part).unlink)
        with pytest.raises(ProviderUnavailable, match=r"No such file.*storage\.files"):
            await incoming.keep(about(), ALICE)
    assert contents_in(folder) == set()


async def test_two_processes_share_a_folder(files: FileService, folder: Path, database: Database) -> None:
    async with files.receive() as incoming:
        await incoming.write(b"x" * 2_000_000)
        async with open_files(folder, database, max_file_bytes=LIMIT) as other:
            await other.clear_up()
            theirs = await other.create(pieces(b"y"), about(), ALICE)
            assert await read(files.content(theirs.file_id, ALICE)) == b"y"
        ours = await incoming.keep(about(), ALICE)
    assert contents_in(folder) == {ours.file_id, theirs.file_id}


async def test_a_new_process_finds_what_was_kept(folder: Path, database: Database) -> None:
    async with open_files(folder, database, max_file_bytes=LIMIT) as first:
        file = await first.create(pieces(b"x"), about(), ALICE)
    async with open_files(folder, database, max_file_bytes=LIMIT) as second:
        assert await second.file(file.file_id, ALICE) == file
        assert await read(second.content(file.file_id, ALICE)) == b"x"
    assert list((folder / "incoming").iterdir()) == []


@pytest.mark.parametrize("moment", ["written", "placed", "known"])
async def test_what_a_killed_process_left_is_cleared_up(
    folder: Path, database: Database, tmp_path: Path, moment: str
) -> None:
    """written: in part. placed: whole, but not in the database. known: in the database, but still marked."""
    command = [sys.executable, str(DYING), str(folder), str(tmp_path / "stack.db"), moment]
    died = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert died.returncode == -signal.SIGKILL, died.stderr
    left = contents_in(folder)
    assert left, "the process left nothing to clear up"
    async with open_files(folder, database, max_file_bytes=LIMIT) as files:
        known = {file.file_id for file in (await files.page(ALICE)).entries}
        assert len(known) == (1 if moment == "known" else 0)
        assert contents_in(folder) == known
    assert list((folder / "incoming").iterdir()) == []


async def test_a_folder_with_another_database_loses_nothing(folder: Path, database: Database, tmp_path: Path) -> None:
    async with open_files(folder, database, max_file_bytes=LIMIT) as files:
        file = await files.create(pieces(b"x"), about(), ALICE)
    async with (
        open_database(f"sqlite:///{tmp_path / 'another.db'}") as another,
        open_files(folder, another, max_file_bytes=LIMIT) as elsewhere,
    ):
        assert (await elsewhere.page(ALICE)).entries == []
    assert contents_in(folder) == {file.file_id}


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
async def test_a_new_folder_is_its_users_own_and_another_stays_as_it_is(database: Database, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    for folder, mode in ((tmp_path / "deep" / "new", 0o700), (shared, 0o775)):
        async with open_files(folder, database, max_file_bytes=LIMIT):
            assert (await asyncio.to_thread(folder.stat)).st_mode & 0o777 == mode


async def test_a_folder_that_cannot_be_used_ends_the_opening(database: Database, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match=r"storage\.files.*cannot hold files"):
        async with open_files(tmp_path / "taken", database, max_file_bytes=LIMIT):
            pass
