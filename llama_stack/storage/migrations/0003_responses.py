"""Responses with their logs of events, conversations with their items, and stored chat completions."""

from sqlalchemy import Connection

TABLES = """
CREATE TABLE responses (
    response_id {name} NOT NULL,
    owner {name} NOT NULL,
    session_id {name} NOT NULL,
    turn_id {name} NOT NULL,
    root_id {name} NOT NULL,
    previous_response_id {name},
    conversation_id {name},
    model {name} NOT NULL,
    status VARCHAR(16) NOT NULL,
    is_background BOOLEAN NOT NULL,
    request TEXT NOT NULL,
    body TEXT,
    created_at {moment} NOT NULL,
    PRIMARY KEY (response_id),
    FOREIGN KEY(session_id) REFERENCES sessions (session_id) ON DELETE CASCADE
);
CREATE INDEX responses_by_owner ON responses (owner, created_at, response_id);
CREATE INDEX responses_by_session ON responses (session_id);
CREATE INDEX unfinished_responses ON responses (created_at) WHERE status IN ('queued', 'in_progress');
CREATE TABLE response_events (
    response_id {name} NOT NULL,
    position INTEGER NOT NULL,
    owner {name} NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (response_id, position),
    FOREIGN KEY(response_id) REFERENCES responses (response_id) ON DELETE CASCADE
);
CREATE TABLE conversations (
    conversation_id {name} NOT NULL,
    owner {name} NOT NULL,
    session_id {name} NOT NULL,
    metadata TEXT NOT NULL,
    created_at {moment} NOT NULL,
    PRIMARY KEY (conversation_id),
    FOREIGN KEY(session_id) REFERENCES sessions (session_id) ON DELETE CASCADE
);
CREATE TABLE conversation_items (
    conversation_id {name} NOT NULL,
    position INTEGER NOT NULL,
    owner {name} NOT NULL,
    item_id {name} NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (conversation_id, position),
    CONSTRAINT conversation_items_once UNIQUE (conversation_id, item_id),
    FOREIGN KEY(conversation_id) REFERENCES conversations (conversation_id) ON DELETE CASCADE
);
CREATE TABLE chat_completions (
    completion_id {name} NOT NULL,
    owner {name} NOT NULL,
    model {name} NOT NULL,
    metadata TEXT NOT NULL,
    messages TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at {moment} NOT NULL,
    PRIMARY KEY (completion_id)
);
CREATE INDEX chat_completions_by_owner ON chat_completions (owner, created_at, completion_id)
"""

SESSIONS_OF_RESPONSES = """
DELETE FROM steps WHERE turn_id IN (
    SELECT turn_id FROM turns JOIN sessions USING (session_id) JOIN agents USING (agent_id) WHERE kind = 'responses'
);
DELETE FROM turns WHERE session_id IN (
    SELECT session_id FROM sessions JOIN agents USING (agent_id) WHERE kind = 'responses'
);
DELETE FROM sessions WHERE agent_id IN (SELECT agent_id FROM agents WHERE kind = 'responses');
DELETE FROM agents WHERE kind = 'responses'
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
    for table in ("chat_completions", "conversation_items", "conversations", "response_events", "responses"):
        connection.exec_driver_sql(f"DROP TABLE {table}")
    # The turns that responses were made of; by hand, because a migration runs without cascades on SQLite.
    for statement in SESSIONS_OF_RESPONSES.split(";"):
        connection.exec_driver_sql(statement)
