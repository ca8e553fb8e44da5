"""Memory in Chroma, in this process, kept in a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import Field

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider, ProviderConfig


class Config(ProviderConfig):
    folder: Path | None = Field(None, description="where the banks lie; a folder of the provider's own when not given")


@asynccontextmanager
async def open_chroma(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._chroma.local import open_local
    from llama_stack_providers._chroma.store import ChromaStore
    from llama_stack_providers._vector_database.index import marked_index

    folder = floor.ground.state / "chroma" if config.folder is None else config.folder
    async with open_local(folder) as door:
        yield marked_index(ChromaStore(door, prefix="bank_"))


provider = MemoryProvider(
    summary="Chroma, in this process", config=Config, open=open_chroma, requires=("chromadb>=1.5",)
)
