"""Lists are read page by page over several servers, while what they show is deleted or gets another state."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from llama_stack.api.common import Caller
from llama_stack.api.memory import DocumentError, DocumentState, ListedOrder
from llama_stack.errors import InvalidRequest
from llama_stack.storage import Database, listed, open_database
from llama_stack.storage.documents import DocumentStore, NewDocument
from llama_stack.storage.pages import Between
from llama_stack.storage.tables import passed_rows


@pytest.fixture
async def other(url: str, database: Database) -> AsyncIterator[Database]:
    """The same database, as another server has it."""
    async with open_database(url) as opened:
        yield opened


async def shown(
    database: Database, caller: Caller, between: Between, states: list[DocumentState] | None = None
) -> list[str]:
    page = await DocumentStore(database).page(
        "notes", caller, limit=2, between=between, order=ListedOrder.OLDEST_FIRST, states=states
    )
    return [one.document_id for one in page.entries]


async def test_a_page_goes_on_behind_what_another_server_deleted(
    database: Database, other: Database, alice: Caller, bob: Caller
) -> None:
    new = [NewDocument(f"secret {number}") for number in range(6)]
    workings = await DocumentStore(database).begin("notes", new, alice, is_held=True)
    await DocumentStore(database).begin("notes", new, bob, is_held=True)
    pending = [DocumentState.RUNNING]
    assert await shown(database, alice, Between(), pending) == ["secret 0", "secret 1"]

    assert await DocumentStore(other).forget("notes", ["secret 1", "secret 3", "nothing"], alice) == 2
    assert await shown(database, alice, Between(after="secret 1"), pending) == ["secret 2", "secret 4"]
    assert await shown(database, alice, Between(before="secret 3")) == ["secret 0", "secret 2"]
    # What is no longer in the wanted state is a place in the list, too.
    await DocumentStore(other).fail(workings[4], DocumentError(code="damaged", message="broken off"))
    assert await shown(database, alice, Between(after="secret 4"), pending) == ["secret 5"]
    await DocumentStore(other).abandon([workings[5]])
    assert await shown(database, alice, Between(after="secret 5")) == []
    assert await shown(database, bob, Between(after="secret 3")) == ["secret 4", "secret 5"]
    with pytest.raises(InvalidRequest, match="there is no 'nothing' in this list"):
        await shown(database, alice, Between(after="nothing"))
    async with database.read() as connection:
        rows = (await connection.execute(select(passed_rows).where(passed_rows.c.owner == alice.owner))).all()
    assert len(rows) == 3
    assert "secret" not in repr(rows)


async def test_old_places_are_forgotten(empty_url: str, alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_database(empty_url) as database:
        store = DocumentStore(database)

        async def left_behind(deleted: str) -> int | None:
            await store.forget("notes", [deleted], alice)
            async with database.read() as connection:
                return (await connection.execute(select(func.count()).select_from(passed_rows))).scalar()

        await store.begin("notes", [NewDocument(str(number)) for number in range(5)], alice, is_held=True)
        monkeypatch.setattr(listed, "MOST_KEPT", 2)
        assert [await left_behind(str(number)) for number in range(4)] == [1, 2, 2, 2]
        assert await shown(database, alice, Between(after="3")) == ["4"]
        monkeypatch.setattr(listed, "KEPT_FOR", timedelta(seconds=-1))
        assert await left_behind("4") == 0
