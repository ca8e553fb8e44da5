from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.memory_faces.stacks import serve_memory


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server over a stack with memory."""
    async with serve_memory(home=tmp_path) as server:
        yield server.http
