"""Files in a vector store of a running server, and the tool that searches them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI

from llama_stack.testing.scripted import Script, calls
from tests.memory.hashed import DIMENSION, EMBEDDING_MODEL, EmbeddingInference
from tests.responses.conftest import Running, Start

LAMP = "The lamp shines for 1,200 hours. Its warranty lasts 42 months from the day of purchase."
BOOTS = "The boots are made of leather. Dry them slowly, never on a stove."
ASKS = calls(("file_search", '{"query": "How long is the warranty of the lamp?"}'))
LIMIT_S = 60
WITH_MEMORY: dict[str, Any] = {
    "providers": {"memory": [{"provider_id": "sqlite-vec", "provider_type": "inline::sqlite-vec"}]},
    "embedding_models": {EMBEDDING_MODEL: DIMENSION},
}


@asynccontextmanager
async def with_files(
    start: Start, *scripts: Script, files: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[tuple[Running, str]]:
    """A running server and the id of a vector store that holds the files, read and to be found."""
    async with start(inference=EmbeddingInference(*scripts), **WITH_MEMORY, **settings) as running:
        wanted = {"lamp.txt": LAMP, "boots.txt": BOOTS} if files is None else files
        yield running, await stored(running.openai, wanted)


async def stored(openai: AsyncOpenAI, files: dict[str, str]) -> str:
    store = await openai.vector_stores.create(name="Manuals")
    for name, text in files.items():
        file = await openai.files.create(file=(name, text.encode()), purpose="assistants")
        async with asyncio.timeout(LIMIT_S):
            kept = await openai.vector_stores.files.create_and_poll(
                vector_store_id=store.id, file_id=file.id, poll_interval_ms=20, attributes={"kind": name[:4]}
            )
        assert kept.status == "completed", kept.last_error
    return store.id


def search(*store_ids: str, **more: Any) -> Any:
    return {"type": "file_search", "vector_store_ids": list(store_ids), **more}
