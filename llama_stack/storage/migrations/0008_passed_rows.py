"""Where deleted rows stood in lists that are read page by page."""

from sqlalchemy import Connection

TABLES = """
CREATE TABLE passed_rows (
    place {name} NOT NULL,
    owner {name} NOT NULL,
    moment {moment} NOT NULL,
    left_at {moment} NOT NULL,
    PRIMARY KEY (place)
);
CREATE INDEX passed_rows_by_time ON passed_rows (left_at)
"""


def upgrade(connection: Connection) -> None:
    on_postgres = connection.dialect.name == "postgresql"
    types = {
        "name": 'TEXT COLLATE "C"' if on_postgres else "TEXT",
        "moment": "TIMESTAMP WITH TIME ZONE" if on_postgres else "DATETIME",
    }
    for statement in TABLES.format(**types).split(";"):
        connection.exec_driver_sql(statement)


def downgrade(connection: Connection) -> None:
    connection.exec_driver_sql("DROP TABLE passed_rows")
