"""A real server on loopback for other people's clients: over a scripted model, or over the embedded one."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from llama_stack.api.inference import Capabilities, ChatRequest
from llama_stack.api.tools import Tools
from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack


@dataclass(frozen=True)
class Served:
    """url: of the server. inference: its scripted model, `scripted`."""

    url: str
    inference: ScriptedInference

    @property
    def chats(self) -> list[ChatRequest]:
        """What the model was asked, in order."""
        assert all(isinstance(request, ChatRequest) for request in self.inference.requests)
        return [request for request in self.inference.requests if isinstance(request, ChatRequest)]


@pytest.fixture(autouse=True)
def nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the one who runs the tests asks for: no client reports to its maker."""
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "false")
    monkeypatch.setenv("OPENAI_AGENTS_DISABLE_TRACING", "1")


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`serve(*scripts)`: a server whose model follows the scripts.

    vision: whether that model reads images. tools: tool groups of the server by id, each with what runs its tools.
    """

    @asynccontextmanager
    async def started(
        *scripts: Script, vision: bool = True, tools: Mapping[str, Tools] | None = None
    ) -> AsyncIterator[Served]:
        inference = ScriptedInference(*scripts, capabilities=Capabilities(embedding=True, vision=vision))
        async with (
            open_scripted_stack(inference=inference, tools=tools, home=tmp_path / "served") as stack,
            serving(create_app(stack)) as url,
        ):
            yield Served(url, inference)

    return started


@pytest.fixture(scope="session")
def starter_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The starter distribution with its embedded model, served from a thread of its own."""
    home = tmp_path_factory.mktemp("third-party-home")

    @asynccontextmanager
    async def started() -> AsyncIterator[str]:
        async with open_stack(load_distribution("starter"), home=home) as stack, serving(create_app(stack)) as url:
            yield url

    with LoopThread(started) as server:
        yield server.held
