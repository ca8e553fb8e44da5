"""Memory in Chroma, in this process, kept in a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers._vector_database.settings import FolderSettings


class Config(FolderSettings):
    """folder: belongs to one process at a time."""


@asynccontextmanager
async def open_chroma(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._chroma.local import open_local
    from llama_stack_providers._chroma.store import ChromaStore
    from llama_stack_providers._vector_database.index import marked_index

    async with open_local(config.folder_in(floor.ground.state, "chroma")) as door:
        yield marked_index(ChromaStore(door, prefix="bank_"))


provider = MemoryProvider(
    summary="Chroma, in this process", config=Config, open=open_chroma, requires=("chromadb>=1.5",)
)
