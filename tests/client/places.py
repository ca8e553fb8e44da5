"""A stack that keeps its state in a folder, in this process or behind a real server: opened again, it is a restart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llama_stack import LlamaStack
from llama_stack.api.common import Caller
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script
from llama_stack.testing.scripted_stack import open_scripted_stack

PLACES = ("in-process", "http")


@asynccontextmanager
async def opened(place: str, home: Path, *scripts: Script, **more: Any) -> AsyncIterator[LlamaStack]:
    """The stack with a model that follows the scripts; see `open_scripted_stack` for more."""
    async with open_scripted_stack(*scripts, home=home, **more) as stack:
        if place == "in-process":
            yield LlamaStack(stack, Caller(owner="local"))
            return
        async with serving(create_app(stack)) as url, LlamaStack.connect(url) as connected:
            yield connected
