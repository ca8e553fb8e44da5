"""Registered resources; agents with their sessions, turns and steps; the small key-value store."""

from sqlalchemy import Connection

TABLES = """
CREATE TABLE resources (
    owner {name} NOT NULL,
    kind VARCHAR(16) NOT NULL,
    identifier {name} NOT NULL,
    body TEXT NOT NULL,
    created_at {moment} NOT NULL,
    PRIMARY KEY (owner, kind, identifier)
);
CREATE TABLE agents (
    agent_id {name} NOT NULL,
    owner {name} NOT NULL,
    config TEXT NOT NULL,
    created_at {moment} NOT NULL,
    PRIMARY KEY (agent_id)
);
CREATE INDEX agents_by_owner ON agents (owner, created_at, agent_id);
CREATE TABLE sessions (
    session_id {name} NOT NULL,
    owner {name} NOT NULL,
    agent_id {name} NOT NULL,
    name {name} NOT NULL,
    started_at {moment} NOT NULL,
    PRIMARY KEY (session_id),
    FOREIGN KEY(agent_id) REFERENCES agents (agent_id) ON DELETE CASCADE
);
CREATE INDEX sessions_by_agent ON sessions (agent_id, started_at, session_id);
CREATE TABLE turns (
    turn_id {name} NOT NULL,
    owner {name} NOT NULL,
    session_id {name} NOT NULL,
    sequence INTEGER NOT NULL,
    state VARCHAR(16) NOT NULL,
    holder {name},
    held_until {moment},
    input TEXT NOT NULL,
    output TEXT,
    end_reason VARCHAR(16),
    usage TEXT NOT NULL,
    started_at {moment} NOT NULL,
    completed_at {moment},
    PRIMARY KEY (turn_id),
    CONSTRAINT turns_in_order UNIQUE (session_id, sequence),
    CONSTRAINT turns_state CHECK (state IN ('running', 'awaiting', 'completed')),
    FOREIGN KEY(session_id) REFERENCES sessions (session_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX one_unfinished_turn ON turns (session_id) WHERE state <> 'completed';
CREATE TABLE steps (
    turn_id {name} NOT NULL,
    sequence INTEGER NOT NULL,
    owner {name} NOT NULL,
    step_id {name} NOT NULL,
    body TEXT NOT NULL,
    created_at {moment} NOT NULL,
    PRIMARY KEY (turn_id, sequence),
    CONSTRAINT steps_once UNIQUE (turn_id, step_id),
    FOREIGN KEY(turn_id) REFERENCES turns (turn_id) ON DELETE CASCADE
);
CREATE TABLE key_values (
    owner {name} NOT NULL,
    namespace {name} NOT NULL,
    key {name} NOT NULL,
    value TEXT NOT NULL,
    updated_at {moment} NOT NULL,
    PRIMARY KEY (owner, namespace, key)
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
    for table in ("key_values", "steps", "turns", "sessions", "agents", "resources"):
        connection.exec_driver_sql(f"DROP TABLE {table}")
