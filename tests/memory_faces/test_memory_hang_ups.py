"""A search whose client has left is not worked on."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_stack.api.common import Caller
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest
from llama_stack.testing.scripted import ScriptedInference
from tests.memory_faces.stacks import WORDS, serve_memory

LIMIT_S = 60.0
SEARCHES: list[tuple[str, Any]] = [
    ("/v1/vector-io/query", {"vector_db_id": "notes", "query": "wool"}),
    ("/v1/tool-runtime/rag-tool/query", {"vector_db_ids": ["notes"], "content": "wool"}),
    ("/v1/memory/query", {"bank_id": "notes", "query": "wool"}),
]


class Endless(ScriptedInference):
    """Never has its vectors. asked, left: when it begins to work on them, and when it stops."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        self.asked.set()
        try:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")
        finally:
            self.left.set()


@pytest.mark.parametrize(("path", "body"), SEARCHES)
async def test_a_search_ends_with_its_client(tmp_path: Path, path: str, body: Any) -> None:
    engine = Endless()
    async with serve_memory(home=tmp_path, inference=engine) as server:
        await server.client.vector_dbs.register(vector_db_id="notes", embedding_model=WORDS)
        async with httpx.AsyncClient(base_url=server.url, verify=False) as impatient:
            asking = asyncio.create_task(impatient.post(path, json=body))
            await asyncio.wait_for(engine.asked.wait(), LIMIT_S)
            asking.cancel()
            await asyncio.wait([asking])
        await asyncio.wait_for(engine.left.wait(), LIMIT_S)
    assert asking.cancelled()
