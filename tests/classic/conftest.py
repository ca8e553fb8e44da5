"""A real server on loopback and unmodified clients of the package `llama-stack-client` 0.2.12."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest
from llama_stack_client import AsyncLlamaStackClient, LlamaStackClient

from llama_stack.server.app import create_app
from llama_stack.server.options import ServerOptions
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference, ScriptedStack


@dataclass(frozen=True)
class Running:
    """A server, its script, and clients of it. `sync` blocks: use it in a thread."""

    url: str
    inference: ScriptedInference
    client: AsyncLlamaStackClient
    sync: LlamaStackClient
    http: httpx.AsyncClient


Start = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def clients_of(app: Any, inference: ScriptedInference) -> AsyncIterator[Running]:
    async with (
        serving(app) as url,
        AsyncLlamaStackClient(base_url=url, max_retries=0) as client,
        httpx.AsyncClient(base_url=url, verify=False) as http,
    ):
        with LlamaStackClient(base_url=url, max_retries=0) as sync:
            yield Running(url, inference, client, sync, http)


@asynccontextmanager
async def start_inference(
    *scripts: Script, inference: ScriptedInference | None = None, options: ServerOptions | None = None
) -> AsyncIterator[Running]:
    inference = inference or ScriptedInference(*scripts)
    async with clients_of(create_app(ScriptedStack(inference), options), inference) as running:
        yield running


@pytest.fixture
def start() -> Start:
    """A server that has a scripted model and no agents."""
    return start_inference


def frames_of(body: bytes) -> list[Any]:
    """The frames of a classic stream, each parsed; checks the framing byte by byte on the way."""
    assert body.endswith(b"\n\n"), "a frame without its blank line is dropped by the client"
    frames = body.removesuffix(b"\n\n").split(b"\n\n")
    assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames), body
    return [orjson.loads(frame.removeprefix(b"data: ")) for frame in frames]
