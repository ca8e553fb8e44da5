"""What is known of uploaded files; their contents lie in a folder."""

from sqlalchemy import Connection

TABLES = """
CREATE TABLE files (
    file_id {name} NOT NULL,
    owner {name} NOT NULL,
    filename {name} NOT NULL,
    purpose {name} NOT NULL,
    mime_type {name} NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 {name} NOT NULL,
    created_at {moment} NOT NULL,
    expires_at {moment},
    PRIMARY KEY (file_id)
);
CREATE INDEX files_by_owner ON files (owner, created_at, file_id);
CREATE INDEX files_by_expiry ON files (expires_at) WHERE expires_at IS NOT NULL
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
    connection.exec_driver_sql("DROP TABLE files")
