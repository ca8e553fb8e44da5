"""Memory in Qdrant's local mode: vectors, filters and keywords in this process, kept in a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers._vector_database.settings import FolderSettings


class Config(FolderSettings):
    """folder: belongs to one process at a time."""


@asynccontextmanager
async def open_qdrant(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._qdrant.local import open_local
    from llama_stack_providers._qdrant.store import QdrantStore
    from llama_stack_providers._vector_database.index import marked_index

    async with open_local(config.folder_in(floor.ground.state, "qdrant")) as door:
        yield marked_index(QdrantStore(door, prefix=""))


provider = MemoryProvider(
    summary="Qdrant's local mode, in this process",
    config=Config,
    open=open_qdrant,
    requires=("qdrant-client>=1.14",),
)
