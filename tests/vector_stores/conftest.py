"""Vector stores on a real server over a real index, with unmodified clients."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from llama_stack.compose import LocalStack
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from tests.memory.hashed import open_memory_stack

TENT = "# Tarn 2\n\nThe tent weighs 1.8 kg and stands on two poles.\n\n## Care\n\nDry it before storing it."


@dataclass(frozen=True)
class Running:
    url: str
    stack: LocalStack
    openai: AsyncOpenAI
    http: httpx.AsyncClient

    async def upload(self, name: str, content: str | bytes) -> str:
        """The id of a new file."""
        data = content.encode() if isinstance(content, str) else content
        return (await self.openai.files.create(file=(name, data), purpose="assistants")).id

    async def store(self, **settings: Any) -> str:
        return (await self.openai.vector_stores.create(**settings)).id


Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a server; started again in the same test, it finds what the first one kept."""

    @asynccontextmanager
    async def started(*scripts: Any, **settings: Any) -> AsyncIterator[Running]:
        async with (
            open_memory_stack(tmp_path, *scripts, **settings) as stack,
            serving(create_app(stack)) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
            httpx.AsyncClient(base_url=url, verify=False) as http,
        ):
            yield Running(url, stack, openai, http)

    return started


@pytest.fixture
async def server(start: Start) -> AsyncIterator[Running]:
    async with start() as running:
        yield running
