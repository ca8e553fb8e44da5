"""What was deleted is nowhere in the files of a SQLite database, its log included."""

import sqlite3
from pathlib import Path

import pytest

from llama_stack.api.common import Caller
from llama_stack.storage import Database, erasing, open_database
from llama_stack.storage.banks import BankStore
from llama_stack.storage.documents import DocumentStore, NewDocument, Ready

SECRET = b"Project-Nightingale"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "PAUSE_S", 0.0)


def holds_secret(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if SECRET in file.read_bytes())


async def fill(database: Database, caller: Caller) -> None:
    """A bank and thirty documents, each of them changed on its way, so that pages have been rewritten."""
    await BankStore(database).create(
        "bank", caller, kind="vector", name=SECRET.decode(), metadata={"of": SECRET.decode()}, expiry_days=None
    )
    store = DocumentStore(database)
    for number in range(30):
        name = f"{SECRET.decode()} {number} {'x' * 300 * (number % 3)}.pdf"
        (working,) = await store.begin("bank", [NewDocument(f"d{number}", name=name)], caller, is_held=True)
        await store.complete([(working, Ready(3, 300, "c" * 64, "application/pdf", [f"{name}: page 1 is damaged"]))])
        await store.set_metadata("bank", f"d{number}", {"path": f"/{name}"}, caller)


async def test_deleted_documents_and_banks_leave_file_and_log(tmp_path: Path, alice: Caller) -> None:
    async with open_database(f"sqlite:///{tmp_path / 'stack.db'}") as database:
        await fill(database, alice)
        assert "stack.db-wal" in holds_secret(tmp_path)
        documents = DocumentStore(database)
        assert await documents.forget("bank", [f"d{number}" for number in range(20)], alice) == 20
        await BankStore(database).forget("bank", alice)
        await database.erased()
        assert holds_secret(tmp_path) == []
        assert (tmp_path / "stack.db-wal").stat().st_size == 0
        # The log serves on.
        await fill(database, alice)
        assert (await documents.document("bank", "d1", alice)).status.chunks == 3


async def test_whoever_reads_what_was_is_waited_for(tmp_path: Path, alice: Caller) -> None:
    async with open_database(f"sqlite:///{tmp_path / 'stack.db'}") as database:
        await fill(database, alice)
        reader = sqlite3.connect(tmp_path / "stack.db")
        try:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM documents").fetchone() == (30,)
            await BankStore(database).forget("bank", alice)
            assert not await database._truncate_log()
            assert holds_secret(tmp_path) != []
            # Meanwhile others write.
            await BankStore(database).create("other", alice, kind="keyword", name="o", metadata={}, expiry_days=None)
        finally:
            reader.close()
        await database.erased()
        assert holds_secret(tmp_path) == []


async def test_a_delete_just_before_the_end_is_erased_with_it(tmp_path: Path, alice: Caller) -> None:
    async with open_database(f"sqlite:///{tmp_path / 'stack.db'}") as database:
        await fill(database, alice)
        await BankStore(database).forget("bank", alice)
    assert holds_secret(tmp_path) == []


async def test_other_databases_have_no_log_of_ours(url: str, alice: Caller) -> None:
    async with open_database("sqlite://" if url.startswith("sqlite") else url) as database:
        await fill(database, alice)
        await BankStore(database).forget("bank", alice)
        await database.erased()
