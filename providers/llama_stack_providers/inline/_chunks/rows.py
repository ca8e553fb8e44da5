"""Chunks as rows, and back."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from llama_stack.api.memory import Chunk

if TYPE_CHECKING:
    import apsw

COLUMNS = "c.id, c.chunk_id, s.document_id, c.content, c.position, c.language, c.details, s.metadata"

_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def details_of(chunk: Chunk) -> str:
    """What of a chunk is neither searched nor sorted by."""
    details = [chunk.document_name, chunk.start, chunk.end, chunk.page, chunk.headings, chunk.token_count]
    try:
        return orjson.dumps(details).decode()
    except TypeError:
        # It knows no integers of more than 64 bits.
        return _compact(details)


def read_chunk(row: tuple[Any, ...]) -> Chunk:
    """From a row of COLUMNS."""
    _, chunk_id, document_id, content, position, language, details, metadata = row
    document_name, start, end, page, headings, token_count = _read_details(details)
    return Chunk(
        chunk_id=chunk_id,
        document_id=document_id,
        content=content,
        document_name=document_name,
        position=position,
        start=start,
        end=end,
        page=page,
        headings=headings,
        token_count=token_count,
        language=language,
        score=0.0,
        metadata=json.loads(metadata),
    )


def _read_details(text: str) -> list[Any]:
    details: list[Any] = orjson.loads(text)
    # Integers of more than 64 bits come as floats, and none of the details is one.
    return json.loads(text) if float in map(type, details) else details


def read_found(
    connection: "apsw.Connection", scored: list[tuple[int, float]], limit: int
) -> list[tuple[int, float, Chunk]]:
    """The best `limit` of the scored ids, equal ones in the order of chunk ids, with their scores and chunks."""
    if len(scored) > limit:
        scored = _cut(connection, scored, limit)
    scores = dict(scored)
    rows = select(
        connection,
        f"SELECT {COLUMNS} FROM chunks AS c JOIN sources AS s ON s.id = c.source"  # noqa: S608  a constant
        " WHERE c.id IN (SELECT value FROM json_each(?))",
        (json_list(scores),),
    )
    found = [(row[0], scores[row[0]], read_chunk(row)) for row in rows]
    return sorted(found, key=lambda entry: (-entry[1], entry[2].chunk_id))


def _cut(connection: "apsw.Connection", scored: list[tuple[int, float]], limit: int) -> list[tuple[int, float]]:
    statement = "SELECT id, chunk_id FROM chunks WHERE id IN (SELECT value FROM json_each(?))"
    names = select(connection, statement, (json_list(key for key, _ in scored),))
    name_of: dict[int, str] = dict(names)
    return sorted(scored, key=lambda entry: (-entry[1], name_of[entry[0]]))[:limit]


def select(connection: "apsw.Connection", statement: str, values: Sequence[Any] = ()) -> list[Any]:
    """All rows. Their types are known from the schema, not to the library."""
    return connection.execute(statement, values).fetchall()


def json_list(values: Iterable[int | str]) -> str:
    """A list as one bound value, whatever its length."""
    return json.dumps(list(values), ensure_ascii=False)
