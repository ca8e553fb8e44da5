"""Memory in a Qdrant server or Qdrant Cloud, through its REST interface."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import AnyHttpUrl, Field, SecretStr

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers._vector_database.settings import DatabaseSettings


class Config(DatabaseSettings):
    url: AnyHttpUrl = Field(AnyHttpUrl("http://localhost:6333"), description="where Qdrant's REST interface listens")
    api_key: SecretStr | None = Field(None, description="key of the server or the cloud's cluster")
    collection_prefix: str = Field(
        "llama_stack_", pattern="^[A-Za-z0-9_-]{0,64}$", description="begins the name of every bank's collection"
    )
    exact: bool = Field(False, description="compare every vector instead of using the approximate index")


@asynccontextmanager
async def open_qdrant(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._qdrant.rest import open_rest
    from llama_stack_providers._qdrant.store import QdrantStore
    from llama_stack_providers._vector_database.index import marked_index

    key = config.api_key.get_secret_value() if config.api_key is not None else ""
    async with open_rest(floor.ground, config, key) as door:
        store = QdrantStore(door, config.collection_prefix, exact=config.exact)
        yield marked_index(store, config.write_chunks)


provider = MemoryProvider(summary="A Qdrant server or Qdrant Cloud", config=Config, open=open_qdrant)
