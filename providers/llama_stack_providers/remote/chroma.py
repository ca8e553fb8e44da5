"""Memory in a Chroma server or Chroma Cloud, through its REST interface."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import AnyHttpUrl, Field, SecretStr

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers._vector_database.settings import DatabaseSettings


class Config(DatabaseSettings):
    url: AnyHttpUrl = Field(AnyHttpUrl("http://localhost:8000"), description="where Chroma listens")
    api_key: SecretStr | None = Field(None, description="sent as x-chroma-token, as Chroma Cloud wants it")
    tenant: str = Field("default_tenant", min_length=1, description="tenant that the database belongs to")
    database: str = Field("default_database", min_length=1, description="database that the collections lie in")
    collection_prefix: str = Field(
        "llama_stack_", pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="begins every bank's collection"
    )


@asynccontextmanager
async def open_chroma(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._chroma.rest import open_rest
    from llama_stack_providers._chroma.store import ChromaStore
    from llama_stack_providers._vector_database.index import marked_index

    key = config.api_key.get_secret_value() if config.api_key is not None else ""
    async with open_rest(floor.ground, config, key, config.tenant, config.database) as door:
        yield marked_index(ChromaStore(door, config.collection_prefix), config.write_chunks)


provider = MemoryProvider(summary="A Chroma server or Chroma Cloud", config=Config, open=open_chroma)
