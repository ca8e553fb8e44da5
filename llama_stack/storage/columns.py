"""Column types that behave the same on SQLite and PostgreSQL, and what the stores fill them with."""

import secrets
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from sqlalchemy import DateTime, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from llama_stack.errors import InvalidRequest

MAX_NAME_BYTES = 512
"""Three such names make one primary key; PostgreSQL allows an index row about 2700 bytes."""


class Name(TypeDecorator[str]):
    """An id, a key, an owner or a name: UTF-8 text of 1 to 512 bytes, sorted by code point.

    PostgreSQL's default collation would sort by a language's rules, so pages and prefixes would differ between the
    two databases. `param` is the request field that InvalidRequest names when a value cannot be stored.
    """

    impl = Text
    cache_ok = True

    def __init__(self, param: str) -> None:
        super().__init__()
        self.param = param

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return Text(collation="C") if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        try:
            size_bytes = len(value.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"{self.param} is not valid Unicode text", param=self.param) from error
        if not 1 <= size_bytes <= MAX_NAME_BYTES or "\0" in value:
            raise InvalidRequest(
                f"{self.param} must be 1 to {MAX_NAME_BYTES} bytes of text without a NUL character", param=self.param
            )
        return value


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, always with the time zone UTC. A naive datetime is refused: nobody knows which moment it means."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# JSON documents are text: JSONB would refuse the escaped NUL that a model can produce and would reorder keys.
Document = Text
Enumeration = String(16)


def new_id(prefix: str) -> str:
    """`prefix_` and 128 random bits, so that an id can neither be guessed nor tells how many there are."""
    return f"{prefix}_{secrets.token_hex(16)}"


def now() -> datetime:
    return datetime.now(UTC)


def as_json(word: BaseModel) -> str:
    """The document of a model. Raises InvalidRequest for text no database can keep (half a surrogate pair)."""
    try:
        return word.model_dump_json()
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"this {type(word).__name__} cannot be stored as JSON: {error}") from error
