"""State: one database, brought to its schema when it is opened, and stores that show a caller their own rows only."""

from llama_stack.api.agents import AgentRecord
from llama_stack.api.common import Page
from llama_stack.storage.agents import AgentStore
from llama_stack.storage.database import Database, Work, open_database, rollback_schema, schema_status, upgrade_schema
from llama_stack.storage.engine import default_url
from llama_stack.storage.key_values import KeyValue, KeyValueStore
from llama_stack.storage.resources import ResourceStore
from llama_stack.storage.schema import SchemaStatus
from llama_stack.storage.turns import OpenTurn

__all__ = [
    "AgentRecord",
    "AgentStore",
    "Database",
    "KeyValue",
    "KeyValueStore",
    "OpenTurn",
    "Page",
    "ResourceStore",
    "SchemaStatus",
    "Work",
    "default_url",
    "open_database",
    "rollback_schema",
    "schema_status",
    "upgrade_schema",
]
