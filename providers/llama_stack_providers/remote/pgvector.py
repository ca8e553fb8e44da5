"""Memory banks in PostgreSQL with the extension pgvector (github.com/pgvector/pgvector), found by vector and by words.

Each bank is one table. Several servers may work on one database at the same time; nothing but figures that speed up
a search is kept in the process.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr, field_validator

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider, ProviderConfig
from llama_stack_providers.remote._pgvector.settings import BankSettings


class Config(ProviderConfig):
    url: SecretStr = Field(description="postgresql://user:password@host:5432/database; libpq's options are understood")
    schema_name: str = Field(
        "public", pattern="^[a-z_][a-z0-9_]{0,62}$", description="schema of the banks' tables; made where it is missing"
    )
    index: BankSettings = Field(BankSettings(), description="of banks that do not say otherwise in their params")
    max_connections: int = Field(10, ge=1, le=500, description="most connections of this server; other calls wait")
    connect_timeout_s: float = Field(10.0, gt=0, description="longest wait for a connection, a free one included")
    statement_timeout_s: float = Field(120.0, gt=0, description="longest that one statement may take")
    prepared_statements: bool = Field(True, description="false behind a pooler that hands out connections by statement")

    @field_validator("url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return url


@asynccontextmanager
async def open_pgvector(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    """Raises ProviderUnavailable where the database cannot be reached or has no pgvector, with what to do."""
    from llama_stack_providers.remote._pgvector.connections import open_connections
    from llama_stack_providers.remote._pgvector.index import PgvectorIndex

    async with open_connections(
        config.url.get_secret_value(),
        schema=config.schema_name,
        size=config.max_connections,
        connect_timeout_s=config.connect_timeout_s,
        statement_timeout_s=config.statement_timeout_s,
        prepared_statements=config.prepared_statements,
    ) as connections:
        yield PgvectorIndex(connections, config.schema_name, config.index)


provider = MemoryProvider(
    summary="Memory banks in PostgreSQL with pgvector: exact or HNSW, filters and BM25 in SQL",
    config=Config,
    open=open_pgvector,
    requires=("asyncpg>=0.30",),
)
