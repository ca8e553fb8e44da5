"""Tables of memory: what is kept about a caller's banks, and the way of every document into them."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, PrimaryKeyConstraint, Table, text

from llama_stack.storage.columns import Document, Enumeration, Name, UtcDateTime
from llama_stack.storage.metadata import metadata

banks = Table(
    "banks",
    metadata,
    Column("owner", Name("owner"), nullable=False),
    Column("bank_id", Name("bank_id"), nullable=False),
    Column("kind", Enumeration, nullable=False),
    Column("name", Document, nullable=False),
    Column("metadata", Document, nullable=False),
    Column("expiry_days", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    Column("last_active_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("owner", "bank_id"),
    Index("banks_by_time", "owner", "created_at", "bank_id"),
)

documents = Table(
    "documents",
    metadata,
    Column("owner", Name("owner"), nullable=False),
    Column("bank_id", Name("bank_id"), nullable=False),
    Column("document_id", Name("document_id"), nullable=False),
    Column("revision", Name("revision"), nullable=False),
    Column("state", Enumeration, nullable=False),
    Column("name", Document, nullable=False),
    Column("mime_type", Document, nullable=False),
    Column("error_code", Document),
    Column("error_message", Document),
    Column("chunks", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("content_sha256", Name("content_sha256")),
    Column("metadata", Document, nullable=False),
    Column("sizes", Document),
    Column("file_id", Name("file_id")),
    Column("batch_id", Name("batch_id")),
    Column("holder", Name("holder")),
    Column("held_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("warnings", Document),
    PrimaryKeyConstraint("owner", "bank_id", "document_id"),
    Index("documents_by_time", "owner", "bank_id", "created_at", "document_id"),
    Index("documents_by_file", "owner", "file_id"),
    Index("documents_by_batch", "owner", "batch_id"),
    Index(
        "unfinished_documents",
        "created_at",
        sqlite_where=text("state IN ('pending', 'running')"),
        postgresql_where=text("state IN ('pending', 'running')"),
    ),
)

file_batches = Table(
    "file_batches",
    metadata,
    Column("owner", Name("owner"), nullable=False),
    Column("batch_id", Name("batch_id"), nullable=False),
    Column("bank_id", Name("bank_id"), nullable=False),
    Column("is_cancelled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("moved", Document),
    PrimaryKeyConstraint("owner", "batch_id"),
)

deletions = Table(
    "deletions",
    metadata,
    Column("owner", Name("owner"), nullable=False),
    Column("deletion_id", Name("deletion_id"), nullable=False),
    Column("bank_id", Name("bank_id"), nullable=False),
    Column("bank", Document, nullable=False),
    Column("document_ids", Document),
    Column("holder", Name("holder"), nullable=False),
    Column("held_until", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("owner", "deletion_id"),
)
