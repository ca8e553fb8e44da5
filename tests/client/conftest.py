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


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[LoopThread[str], ScriptedStack]]:
    """A real server in a thread of its own, and the stack it serves."""
    stack = ScriptedStack()
    with LoopThread(lambda: serving(create_app(stack))) as running:
        yield running, stack


@pytest.fixture
def inference() -> ScriptedInference:
    return ScriptedInference()


@pytest.fixture
def server(served: tuple[LoopThread[str], ScriptedStack], inference: ScriptedInference) -> LoopThread[str]:
    """The server, with this test's model behind it; `held` is its URL."""
    running, stack = served
    stack.inference = inference
    return running


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
