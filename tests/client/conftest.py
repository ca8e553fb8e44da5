"""The fixtures of the four ways: a scripted model, a real server over it, and each way to reach it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from llama_stack import LlamaStack
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import ScriptedInference, ScriptedStack
from tests.client.ways import CREDENTIALS, AsyncWay, SyncWay, Way, in_process

WAYS = [(face, place) for face in ("async", "sync") for place in ("in-process", "http")]


@pytest.fixture
def inference() -> ScriptedInference:
    """Tests put their scripts in with `play`."""
    return ScriptedInference()


@pytest.fixture
def server(inference: ScriptedInference) -> Iterator[LoopThread[str]]:
    """A real server in a thread of its own; `held` is its URL."""
    with LoopThread(lambda: serving(create_app(ScriptedStack(inference)))) as running:
        yield running


@pytest.fixture(params=WAYS, ids="-".join)
async def way(request: pytest.FixtureRequest, inference: ScriptedInference) -> AsyncIterator[Way]:
    face, place = request.param
    server: LoopThread[str] | None = request.getfixturevalue("server") if place == "http" else None
    opening = in_process(inference) if server is None else LlamaStack.connect(server.held, provider_data=CREDENTIALS)
    if face == "async":
        async with opening as stack:
            yield AsyncWay(stack, server)
    else:
        with opening as sync_stack:
            yield SyncWay(sync_stack, server)
