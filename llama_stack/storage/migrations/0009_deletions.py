"""A deletion in a memory bank is noted until nothing of it is left."""

from sqlalchemy import Connection

TABLE = """
CREATE TABLE deletions (
    owner {name} NOT NULL,
    deletion_id {name} NOT NULL,
    bank_id {name} NOT NULL,
    bank TEXT NOT NULL,
    document_ids TEXT,
    holder {name} NOT NULL,
    held_until {moment} NOT NULL,
    created_at {moment} NOT NULL,
    PRIMARY KEY (owner, deletion_id)
)
"""


def upgrade(connection: Connection) -> None:
    on_postgres = connection.dialect.name == "postgresql"
    types = {
        "name": 'TEXT COLLATE "C"' if on_postgres else "TEXT",
        "moment": "TIMESTAMP WITH TIME ZONE" if on_postgres else "DATETIME",
    }
    connection.exec_driver_sql(TABLE.format(**types))


def downgrade(connection: Connection) -> None:
    connection.exec_driver_sql("DROP TABLE deletions")
