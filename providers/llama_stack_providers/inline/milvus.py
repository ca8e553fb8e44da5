"""Memory in Milvus Lite, in this process, kept in a folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from llama_stack.api.chunk_index import ChunkIndex
from llama_stack.provider import InferenceFloor, MemoryProvider
from llama_stack_providers._vector_database.settings import FolderSettings


class Config(FolderSettings):
    flush_rows: int = Field(1000, ge=1, description="chunks written to a bank until they are put into an indexed file")
    timeout_s: float = Field(60.0, gt=0, description="longest wait for an answer of the engine")


@asynccontextmanager
async def open_milvus(config: Config, floor: InferenceFloor) -> AsyncIterator[ChunkIndex]:
    from llama_stack_providers._milvus.door import open_lite
    from llama_stack_providers._milvus.store import MilvusStore
    from llama_stack_providers._vector_database.index import marked_index

    folder = config.folder_in(floor.ground.state, "milvus")
    async with open_lite(folder, config.flush_rows, config.timeout_s) as door:
        yield marked_index(MilvusStore(door, prefix="bank_"))


provider = MemoryProvider(
    summary="Milvus Lite, in this process",
    config=Config,
    open=open_milvus,
    requires=("pymilvus>=2.6", "milvus-lite>=3.1"),
)
