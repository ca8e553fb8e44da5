"""Statements with their SQL made once do what SQLAlchemy would."""

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from llama_stack.errors import InvalidRequest
from llama_stack.storage import Database
from llama_stack.storage.prepared import Prepared
from llama_stack.storage.tables import key_values

MOMENT = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
PREPARED = Prepared(insert(key_values))


@pytest.fixture
def row() -> dict[str, Any]:
    """Of an owner of its own."""
    return {
        "owner": secrets.token_hex(8), "namespace": "notes", "key": "a", "value": '"secret words"',
        "updated_at": MOMENT,
    }  # fmt: skip


async def rows_of(database: Database, owner: str) -> list[dict[str, Any]]:
    query = select(key_values).where(key_values.c.owner == owner).order_by(key_values.c.key)
    return await database.reading(lambda connection: [dict(one) for one in connection.execute(query).mappings()])


async def test_rows_are_those_of_the_usual_way(database: Database, row: dict[str, Any]) -> None:
    second, third = {**row, "key": "b"}, {**row, "key": "c"}
    assert await database.writing(lambda connection: PREPARED.run(connection, row)) == 1
    assert await database.writing(lambda connection: PREPARED.run(connection, second)) == 1
    await database.writing(lambda connection: connection.execute(insert(key_values), third))
    assert await rows_of(database, row["owner"]) == [row, second, third]


async def test_values_that_a_statement_names_itself_stay(database: Database, row: dict[str, Any]) -> None:
    prepared = Prepared(
        update(key_values)
        .where(key_values.c.owner == bindparam("of_owner"), key_values.c.namespace == "notes")
        .values(value=bindparam("new_value"))
    )
    mine = {"of_owner": row["owner"], "new_value": "1"}
    await database.writing(lambda connection: PREPARED.run(connection, row))
    assert await database.writing(lambda connection: prepared.run(connection, mine)) == 1
    assert await database.writing(lambda connection: prepared.run(connection, {**mine, "of_owner": "none"})) == 0
    assert await rows_of(database, row["owner"]) == [{**row, "value": "1"}]


async def test_failures_have_the_usual_names_and_tell_no_values(database: Database, row: dict[str, Any]) -> None:
    await database.writing(lambda connection: PREPARED.run(connection, row))
    with pytest.raises(IntegrityError) as raised:
        await database.writing(lambda connection: PREPARED.run(connection, row))
    assert "secret words" not in str(raised.value)
    with pytest.raises(InvalidRequest, match="key must be 1 to 512 bytes"):
        await database.writing(lambda connection: PREPARED.run(connection, {**row, "key": "x" * 513}))
    # The transaction was given up, and the next one is not touched by it.
    assert await database.writing(lambda connection: PREPARED.run(connection, {**row, "key": "b"})) == 1
