"""The tables of a bank's file.

A source is a document with one set of metadata, so metadata is kept and filtered once a document, not once a chunk;
`attributes` are its scalars, sorted by key and value. Words are a contentless FTS5 index of stems under the ids of
the chunks (https://sqlite.org/fts5.html#contentless_delete_tables). Ids of chunks only ever grow: an index in memory
or in a snapshot can tell by them what it lacks.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llama_stack.api.common import JsonObject
from llama_stack.errors import ProviderFailed

if TYPE_CHECKING:
    import apsw

APPLICATION_ID = 0x4C4C4342
"""Says in a file's head that it is a bank of ours."""
VERSION = 1

_TABLES = """
CREATE TABLE bank (
    dimension INTEGER NOT NULL, keyword INTEGER NOT NULL, params TEXT NOT NULL,
    next_id INTEGER NOT NULL DEFAULT 1, removed INTEGER NOT NULL DEFAULT 0, changes INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE sources (id INTEGER PRIMARY KEY, document_id TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE INDEX sources_by_document ON sources (document_id);
CREATE TABLE attributes (
    key TEXT NOT NULL, kind INTEGER NOT NULL, value NOT NULL, source INTEGER NOT NULL,
    PRIMARY KEY (key, kind, value, source)
) WITHOUT ROWID;
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, chunk_id TEXT NOT NULL UNIQUE, source INTEGER NOT NULL, position INTEGER NOT NULL,
    language TEXT NOT NULL, details TEXT NOT NULL, content TEXT NOT NULL
);
CREATE INDEX chunks_by_source ON chunks (source, position, chunk_id);
CREATE TABLE languages (language TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_WORDS = """
CREATE VIRTUAL TABLE words USING fts5 (stems, content='', contentless_delete=1, tokenize='ascii');
INSERT INTO words (words, rank) VALUES ('automerge', 8);
"""
# Stems hold no ASCII character that this tokenizer would split at, and it leaves all others alone.


@dataclass(frozen=True)
class BankFacts:
    """What a bank was made with."""

    dimension: int
    keyword: bool
    params: JsonObject


def create_tables(connection: "apsw.Connection", facts: BankFacts) -> None:
    """Make an empty file a bank. Within a transaction, so that a crash leaves an empty file."""
    connection.execute(_TABLES)
    if facts.keyword:
        connection.execute(_WORDS)
    connection.execute(
        "INSERT INTO bank (dimension, keyword, params) VALUES (?, ?, ?)",
        (facts.dimension, facts.keyword, json.dumps(facts.params)),
    )
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", VERSION)


def read_facts(connection: "apsw.Connection", name: str) -> BankFacts | None:
    """What the file was made with; None for one that was never finished. Raises ProviderFailed for a foreign one."""
    version: Any = connection.pragma("user_version")
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get == 0:
        return None
    if connection.pragma("application_id") != APPLICATION_ID:
        raise ProviderFailed(f"{name} is no bank of this provider; choose another folder")
    if version > VERSION:
        raise ProviderFailed(
            f"{name} was written by a newer llama-stack (format {version}, not {VERSION}); update llama-stack"
        )
    dimension, keyword, params = connection.execute("SELECT dimension, keyword, params FROM bank").get
    return BankFacts(dimension, bool(keyword), json.loads(params))


@contextmanager
def transaction(connection: "apsw.Connection", *, writing: bool) -> Iterator[None]:
    """One that writes says so at its start: a reader that turns into a writer cannot wait for another writer."""
    connection.execute("BEGIN IMMEDIATE" if writing else "BEGIN")
    try:
        yield
    except BaseException:
        # Some errors, a full disk among them, have rolled back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
