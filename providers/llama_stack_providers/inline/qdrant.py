"""Memory in Qdrant's local mode: vectors, filters and keywords in this process, kept in a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import Field

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider, ProviderConfig


class Config(ProviderConfig):
    folder: Path | None = Field(None, description="where the banks lie; a folder of the provider's own when not given")


@asynccontextmanager
async def open_qdrant(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._qdrant.local import open_local
    from llama_stack_providers._qdrant.store import QdrantStore
    from llama_stack_providers._vector_database.index import marked_index

    folder = floor.ground.state / "qdrant" if config.folder is None else config.folder
    async with open_local(folder) as door:
        yield marked_index(QdrantStore(door, prefix=""))


provider = MemoryProvider(
    summary="Qdrant's local mode, in this process",
    config=Config,
    open=open_qdrant,
    requires=("qdrant-client>=1.14",),
)
