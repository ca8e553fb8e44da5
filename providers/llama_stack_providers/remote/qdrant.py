"""Memory in a Qdrant server or Qdrant Cloud, through its REST interface."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, HttpUrl, SecretStr

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider, ProviderConfig


class Config(ProviderConfig):
    url: HttpUrl = Field(HttpUrl("http://localhost:6333"), description="where Qdrant's REST interface listens")
    api_key: SecretStr | None = Field(None, description="key of the server or the cloud's cluster")
    timeout_s: float = Field(30.0, gt=0, description="longest wait for an answer")
    collection_prefix: str = Field(
        "llama_stack_", pattern="^[A-Za-z0-9_-]{0,64}$", description="begins the name of every bank's collection"
    )
    exact: bool = Field(False, description="compare every vector instead of using the approximate index")


@asynccontextmanager
async def open_qdrant(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._qdrant.index import QdrantIndex
    from llama_stack_providers._qdrant.rest import open_rest

    key = config.api_key.get_secret_value() if config.api_key is not None else None
    async with open_rest(floor.ground, str(config.url), key, config.timeout_s) as door:
        yield QdrantIndex(door, config.collection_prefix, exact=config.exact)


provider = MemoryProvider(summary="A Qdrant server or Qdrant Cloud", config=Config, open=open_qdrant)
