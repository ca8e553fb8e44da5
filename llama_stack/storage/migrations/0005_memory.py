"""What is kept about memory banks, and the way of every document into them."""

from sqlalchemy import Connection

TABLES = """
CREATE TABLE banks (
    owner {name} NOT NULL,
    bank_id {name} NOT NULL,
    kind VARCHAR(16) NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    expiry_days INTEGER,
    created_at {moment} NOT NULL,
    last_active_at {moment} NOT NULL,
    PRIMARY KEY (owner, bank_id)
);
CREATE INDEX banks_by_time ON banks (owner, created_at, bank_id);
CREATE TABLE documents (
    owner {name} NOT NULL,
    bank_id {name} NOT NULL,
    document_id {name} NOT NULL,
    revision {name} NOT NULL,
    state VARCHAR(16) NOT NULL,
    name TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    error_code TEXT,
    error_message TEXT,
    chunks INTEGER NOT NULL,
    size_bytes BIGINT NOT NULL,
    content_sha256 {name},
    metadata TEXT NOT NULL,
    sizes TEXT,
    file_id {name},
    batch_id {name},
    holder {name},
    held_until {moment},
    created_at {moment} NOT NULL,
    PRIMARY KEY (owner, bank_id, document_id)
);
CREATE INDEX documents_by_time ON documents (owner, bank_id, created_at, document_id);
CREATE INDEX documents_by_file ON documents (owner, file_id);
CREATE INDEX documents_by_batch ON documents (owner, batch_id);
CREATE INDEX unfinished_documents ON documents (created_at) WHERE state IN ('pending', 'running');
CREATE TABLE file_batches (
    owner {name} NOT NULL,
    batch_id {name} NOT NULL,
    bank_id {name} NOT NULL,
    is_cancelled BOOLEAN NOT NULL,
    created_at {moment} NOT NULL,
    PRIMARY KEY (owner, batch_id)
)
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
    for table in ("file_batches", "documents", "banks"):
        connection.exec_driver_sql(f"DROP TABLE {table}")
