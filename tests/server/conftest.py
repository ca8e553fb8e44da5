"""A real server on loopback over scripted inference, and an unmodified `openai` client."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
from openai import AsyncOpenAI

from llama_stack.server.app import create_app
from llama_stack.server.options import ServerOptions
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference, ScriptedStack


@dataclass(frozen=True)
class Running:
    """A server, its script, and two clients of it."""

    url: str
    inference: ScriptedInference
    openai: AsyncOpenAI
    http: httpx.AsyncClient


Start = Callable[..., AbstractAsyncContextManager[Running]]


@asynccontextmanager
async def start_server(
    *scripts: Script, inference: ScriptedInference | None = None, options: ServerOptions | None = None
) -> AsyncIterator[Running]:
    inference = inference or ScriptedInference(*scripts)
    app = create_app(ScriptedStack(inference), options)
    async with (
        serving(app) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
        httpx.AsyncClient(base_url=url, verify=False) as http,
    ):
        yield Running(url, inference, openai, http)


@pytest.fixture
def start() -> Start:
    return start_server
