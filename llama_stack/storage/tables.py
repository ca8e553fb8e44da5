"""The tables as the newest migration leaves them; what the stores query. A test holds both together.

Every row has an owner, and every query of a store asks for it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from llama_stack.storage.columns import Document, Enumeration, Name, UtcDateTime
from llama_stack.storage.memory_tables import banks as banks
from llama_stack.storage.memory_tables import documents as documents
from llama_stack.storage.memory_tables import file_batches as file_batches
from llama_stack.storage.metadata import metadata as metadata

resources = Table(
    "resources",
    metadata,
    Column("owner", Name("owner"), nullable=False),
    Column("kind", Enumeration, nullable=False),
    Column("identifier", Name("identifier"), nullable=False),
    Column("body", Document, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("owner", "kind", "identifier"),
)

agents = Table(
    "agents",
    metadata,
    Column("agent_id", Name("agent_id"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("config", Document, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("kind", Enumeration, nullable=False, server_default="agent"),
    Index("agents_by_owner", "owner", "created_at", "agent_id"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Name("session_id"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("agent_id", Name("agent_id"), ForeignKey("agents.agent_id", ondelete="CASCADE"), nullable=False),
    Column("name", Name("name"), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Index("sessions_by_agent", "agent_id", "started_at", "session_id"),
)

turns = Table(
    "turns",
    metadata,
    Column("turn_id", Name("turn_id"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("session_id", Name("session_id"), ForeignKey("sessions.session_id", ondelete="CASCADE"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("state", Enumeration, nullable=False),
    Column("holder", Name("holder")),
    Column("held_until", UtcDateTime),
    Column("input", Document, nullable=False),
    Column("output", Document),
    Column("end_reason", Enumeration),
    Column("usage", Document, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    Column("settings", Document),
    UniqueConstraint("session_id", "sequence", name="turns_in_order"),
    CheckConstraint("state IN ('running', 'awaiting', 'completed')", name="turns_state"),
    Index(
        "one_unfinished_turn",
        "session_id",
        unique=True,
        sqlite_where=text("state <> 'completed'"),
        postgresql_where=text("state <> 'completed'"),
    ),
)

steps = Table(
    "steps",
    metadata,
    Column("turn_id", Name("turn_id"), ForeignKey("turns.turn_id", ondelete="CASCADE"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("owner", Name("owner"), nullable=False),
    Column("step_id", Name("step_id"), nullable=False),
    Column("body", Document, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("turn_id", "sequence"),
    UniqueConstraint("turn_id", "step_id", name="steps_once"),
)

responses = Table(
    "responses",
    metadata,
    Column("response_id", Name("response_id"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("session_id", Name("session_id"), ForeignKey("sessions.session_id", ondelete="CASCADE"), nullable=False),
    Column("turn_id", Name("turn_id"), nullable=False),
    Column("root_id", Name("root_id"), nullable=False),
    Column("previous_response_id", Name("previous_response_id")),
    Column("conversation_id", Name("conversation")),
    Column("model", Name("model"), nullable=False),
    Column("status", Enumeration, nullable=False),
    Column("is_background", Boolean, nullable=False),
    Column("request", Document, nullable=False),
    Column("body", Document),
    Column("created_at", UtcDateTime, nullable=False),
    Index("responses_by_owner", "owner", "created_at", "response_id"),
    Index("responses_by_session", "session_id"),
    Index(
        "unfinished_responses",
        "created_at",
        sqlite_where=text("status IN ('queued', 'in_progress')"),
        postgresql_where=text("status IN ('queued', 'in_progress')"),
    ),
)

response_events = Table(
    "response_events",
    metadata,
    Column("response_id", Name("response_id"), ForeignKey("responses.response_id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("owner", Name("owner"), nullable=False),
    Column("body", Document, nullable=False),
    PrimaryKeyConstraint("response_id", "position"),
)

conversations = Table(
    "conversations",
    metadata,
    Column("conversation_id", Name("conversation"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("session_id", Name("session_id"), ForeignKey("sessions.session_id", ondelete="CASCADE"), nullable=False),
    Column("metadata", Document, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

conversation_items = Table(
    "conversation_items",
    metadata,
    Column(
        "conversation_id",
        Name("conversation"),
        ForeignKey("conversations.conversation_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("position", Integer, nullable=False),
    Column("owner", Name("owner"), nullable=False),
    Column("item_id", Name("item_id"), nullable=False),
    Column("body", Document, nullable=False),
    PrimaryKeyConstraint("conversation_id", "position"),
    UniqueConstraint("conversation_id", "item_id", name="conversation_items_once"),
)

chat_completions = Table(
    "chat_completions",
    metadata,
    Column("completion_id", Name("completion_id"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("model", Name("model"), nullable=False),
    Column("metadata", Document, nullable=False),
    Column("messages", Document, nullable=False),
    Column("body", Document, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("chat_completions_by_owner", "owner", "created_at", "completion_id"),
)

key_values = Table(
    "key_values",
    metadata,
    Column("owner", Name("owner"), nullable=False),
    Column("namespace", Name("namespace"), nullable=False),
    Column("key", Name("key"), nullable=False),
    Column("value", Document, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("owner", "namespace", "key"),
)

files = Table(
    "files",
    metadata,
    Column("file_id", Name("file_id"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("filename", Name("filename"), nullable=False),
    Column("purpose", Name("purpose"), nullable=False),
    Column("mime_type", Name("mime_type"), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Name("sha256"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Index("files_by_owner", "owner", "created_at", "file_id"),
    Index(
        "files_by_expiry",
        "expires_at",
        sqlite_where=text("expires_at IS NOT NULL"),
        postgresql_where=text("expires_at IS NOT NULL"),
    ),
)

passed_rows = Table(
    "passed_rows",
    metadata,
    Column("place", Name("place"), primary_key=True),
    Column("owner", Name("owner"), nullable=False),
    Column("moment", UtcDateTime, nullable=False),
    Column("left_at", UtcDateTime, nullable=False),
    Index("passed_rows_by_time", "left_at"),
)
