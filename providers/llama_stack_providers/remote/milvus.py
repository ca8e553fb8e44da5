"""Memory in a Milvus server or Zilliz Cloud, through Milvus's own client: its interface is gRPC."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field, SecretStr

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider, ProviderConfig


class Config(ProviderConfig):
    uri: str = Field("http://localhost:19530", pattern="^(https?|tcp)://", description="where Milvus listens")
    token: SecretStr | None = Field(None, description="API key, or `user:password`")
    database: str = Field("", description="database that the collections lie in; the default one when empty")
    timeout_s: float = Field(30.0, gt=0, description="longest wait for an answer")
    collection_prefix: str = Field(
        "llama_stack_", pattern="^[A-Za-z_][A-Za-z0-9_]{0,63}$", description="begins every bank's collection"
    )


@asynccontextmanager
async def open_milvus(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._milvus.door import Settings, open_door
    from llama_stack_providers._milvus.store import MilvusStore
    from llama_stack_providers._vector_database.index import marked_index

    token = config.token.get_secret_value() if config.token is not None else ""
    async with open_door(Settings(config.uri, token, config.database, config.timeout_s)) as door:
        yield marked_index(MilvusStore(door, config.collection_prefix))


provider = MemoryProvider(
    summary="A Milvus server or Zilliz Cloud", config=Config, open=open_milvus, requires=("pymilvus>=2.6",)
)
