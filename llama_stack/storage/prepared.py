"""Statements that every turn runs, with their SQL made once.

SQLAlchemy's way from a statement to a SQLite file costs several times what the statement itself does, and a turn has a
dozen of them. What is run here changes rows and gives their number; whatever reads rows goes the usual way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Insert, Update
from sqlalchemy.engine import Dialect

from llama_stack.storage.engine import execute_plainly


class Prepared:
    """An INSERT or UPDATE whose values have the same names every time."""

    def __init__(self, statement: Insert | Update) -> None:
        self._statement = statement
        self._sql = ""
        self._places: list[_Place] = []

    def run(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """The number of rows changed. Raises what SQLAlchemy raises, and KeyError for a value that is missing."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, values).rowcount
        if not self._sql:
            self._prepare(connection.dialect, values)
        return execute_plainly(connection, self._sql, [place.filled(values) for place in self._places])

    def _prepare(self, dialect: Dialect, values: Mapping[str, Any]) -> None:
        columns = self._statement.table.columns
        compiled = self._statement.compile(dialect=dialect, column_keys=[name for name in values if name in columns])
        self._places = [
            _Place(
                name,
                is_given=name in values,
                fixed=None if name in values else compiled.params[name],
                process=compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect),
            )
            for name in compiled.positiontup or ()
        ]
        self._sql = str(compiled)


@dataclass(frozen=True, slots=True)
class _Place:
    """A question mark of the SQL. process: turns a value into what the driver takes."""

    name: str
    is_given: bool
    fixed: Any
    process: Callable[[Any], Any] | None

    def filled(self, values: Mapping[str, Any]) -> Any:
        value = values[self.name] if self.is_given else self.fixed
        return value if self.process is None else self.process(value)
