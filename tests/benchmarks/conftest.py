"""An upstream on a free port, in the test's own loop."""

from collections.abc import AsyncIterator

import pytest_asyncio

from benchmarks import mock_upstream


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[str]:
    """Base URL with its /v1."""
    server = await mock_upstream.serve("127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
