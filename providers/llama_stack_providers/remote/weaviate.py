"""Memory banks in Weaviate, version 1.21 or later, over REST and GraphQL (docs.weaviate.io/weaviate/api).

Each bank is one collection, found by vector and by words (BM25), with filters as Weaviate's own conditions. Weaviate
has no transactions: see `_vector_database/heads.py` for how a write is whole all the same, and what that costs.
Vectors are found at once unless the server was told to index them later (ASYNC_INDEXING).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers._vector_database.settings import DatabaseSettings
from llama_stack_providers.remote._weaviate.settings import BankSettings


class Config(DatabaseSettings):
    """url: such as http://localhost:8080, without /v1."""

    api_key: SecretStr | None = Field(None, description="sent as bearer token; empty for a server that wants none")
    index: BankSettings = Field(BankSettings(), description="of banks that do not say otherwise in their params")
    replicas: int = Field(1, ge=1, description="copies of each new bank; with more than one, a majority must answer")


@asynccontextmanager
async def open_weaviate(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._vector_database.index import open_index_with_heads
    from llama_stack_providers._vector_database.service import open_service
    from llama_stack_providers.remote._weaviate.store import WeaviateStore

    secrets = {"authorization": f"Bearer {config.api_key.get_secret_value()}"} if config.api_key else {}
    async with open_service("Weaviate", config, floor.ground, secrets=secrets) as service:
        await service.ask("GET", "v1/.well-known/ready")
        store = WeaviateStore(service, config.index, config.replicas)
        async with open_index_with_heads(store, config.write_chunks) as index:
            yield index


provider = MemoryProvider(
    summary="Memory banks in Weaviate: HNSW or flat, filters, and BM25",
    config=Config,
    open=open_weaviate,
)
