"""Small JSON values by key, for what does not earn a table of its own."""

import json

from sqlalchemy import Text, delete, literal, select

from llama_stack.api.common import Caller, JsonValue, Page, Word
from llama_stack.errors import InvalidRequest, NotFound, PayloadTooLarge
from llama_stack.storage.columns import now
from llama_stack.storage.database import Database
from llama_stack.storage.pages import check_limit
from llama_stack.storage.tables import key_values

MAX_VALUE_BYTES = 1024 * 1024
_LAST_CHARACTER = "\U0010ffff"


class KeyValue(Word):
    key: str
    value: JsonValue


class KeyValueStore:
    """Values by owner, namespace and key; the namespace is the part of the stack that uses it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, namespace: str, key: str, value: JsonValue, caller: Caller) -> None:
        """Keep a value, in place of an earlier one.

        Raises InvalidRequest for what is not JSON (NaN, infinity) and PayloadTooLarge over MAX_VALUE_BYTES.
        """
        row = {"owner": caller.owner, "namespace": namespace, "key": key, "value": _encode(value), "updated_at": now()}
        new = self._database.insert(key_values).values(row)
        statement = new.on_conflict_do_update(
            index_elements=["owner", "namespace", "key"],
            set_={"value": new.excluded.value, "updated_at": new.excluded.updated_at},
        )
        async with self._database.write() as connection:
            await connection.execute(statement)

    async def get(self, namespace: str, key: str, caller: Caller) -> JsonValue:
        """One value. Raises NotFound."""
        query = select(key_values.c.value).where(
            key_values.c.owner == caller.owner, key_values.c.namespace == namespace, key_values.c.key == key
        )
        async with self._database.read() as connection:
            value = (await connection.execute(query)).scalar()
        if value is None:
            raise _not_found(namespace, key)
        return _decode(value)

    async def delete(self, namespace: str, key: str, caller: Caller) -> None:
        """Forget a value. Raises NotFound."""
        statement = delete(key_values).where(
            key_values.c.owner == caller.owner, key_values.c.namespace == namespace, key_values.c.key == key
        )
        async with self._database.write() as connection:
            if (await connection.execute(statement)).rowcount == 0:
                raise _not_found(namespace, key)

    async def page(
        self, namespace: str, caller: Caller, *, prefix: str = "", limit: int = 100, after: str | None = None
    ) -> Page[KeyValue]:
        """The namespace's values whose key begins with `prefix`, by key, from the one after `after`."""
        query = select(key_values.c.key, key_values.c.value).where(
            key_values.c.owner == caller.owner, key_values.c.namespace == namespace
        )
        # A range instead of LIKE: an index serves it, case counts in it, and % and _ are ordinary characters.
        if prefix:
            query = query.where(key_values.c.key >= prefix)
        if (end := _end_of(prefix)) is not None:
            query = query.where(key_values.c.key < literal(end, Text()))
        if after is not None:
            query = query.where(key_values.c.key > after)
        query = query.order_by(key_values.c.key).limit(check_limit(limit) + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        entries = [KeyValue(key=row.key, value=_decode(row.value)) for row in rows[:limit]]
        return Page(entries=entries, next_after=entries[-1].key if len(rows) > limit else None)


def _end_of(prefix: str) -> str | None:
    """The first text after all that begin with the prefix, by code point; None where there is no such text."""
    stem = prefix.rstrip(_LAST_CHARACTER)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    # Surrogates are no characters: what follows U+D7FF is U+E000.
    return stem[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)


def _encode(value: JsonValue) -> str:
    try:
        # Escaped to ASCII: this keeps half surrogate pairs, which a database would refuse.
        encoded = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequest(f"value is not JSON: {error}", param="value") from error
    if len(encoded) > MAX_VALUE_BYTES:
        raise PayloadTooLarge(f"value has {len(encoded)} bytes as JSON; at most {MAX_VALUE_BYTES} fit", param="value")
    return encoded


def _decode(value: str) -> JsonValue:
    decoded: JsonValue = json.loads(value)
    return decoded


def _not_found(namespace: str, key: str) -> NotFound:
    return NotFound(f"there is no {key!r} in {namespace!r}", param="key")
