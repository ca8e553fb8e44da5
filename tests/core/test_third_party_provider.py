"""A stranger's package, built and installed, registers through the same door as the shipped providers."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-stack"
version = "1.0"

[project.entry-points."llama_stack.providers"]
"remote::acme" = "acme_stack"

[tool.hatch.build.targets.wheel]
only-include = ["acme_stack.py"]
"""

PROVIDER = '''
"""Acme's parrot, the whole provider in one file."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from llama_stack.api.common import Caller
from llama_stack.api.inference import (
    ChatEnd, ChatEvent, ChatRequest, ChoiceEnd, Inference, PartialInference, TextDelta
)
from llama_stack.api.messages import text_of
from llama_stack.provider import Ground, InferenceProvider, ProviderConfig


class Config(ProviderConfig):
    greeting: str = Field("hello", description="what it says first")


class Parrot(PartialInference):
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    async def stream_chat(self, request: ChatRequest, caller: Caller) -> AsyncGenerator[ChatEvent, None]:
        yield TextDelta(text=f"{self.greeting}, {text_of(request.messages[-1].content)}")
        yield ChoiceEnd(finish_reason="stop")
        yield ChatEnd()


@asynccontextmanager
async def open_acme(config: Config, ground: Ground) -> AsyncIterator[Inference]:
    yield Parrot(config.greeting)


provider = InferenceProvider(summary="Acme's parrot", config=Config, open=open_acme, requires=("acme-client>=2",))
'''

DISTRIBUTION = """
version: 1
name: acme
providers:
  inference:
    - provider_id: acme
      provider_type: remote::acme
      config: {greeting: ahoy}
      models: [{identifier: parrot}]
"""

PROGRAM = """
import asyncio
from llama_stack.api.answers import collect
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import UserMessage
from llama_stack.catalog import Catalog
from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution

async def main():
    assert Catalog().get("remote::acme").requires == ("acme-client>=2",)
    async with open_stack(load_distribution("acme.yaml")) as stack:
        request = ChatRequest(model="parrot", messages=[UserMessage(content="sailor")])
        print((await collect(stack.inference.stream_chat(request, Caller(owner="me")))).message.content)

asyncio.run(main())
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder into which the stranger's wheel was installed."""
    source, wheels, site = tmp_path / "source", tmp_path / "wheels", tmp_path / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "acme_stack.py").write_text(textwrap.dedent(PROVIDER))
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "--wheel-dir", str(wheels), str(source)], check=True)
    [wheel] = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    return site


def test_an_installed_package_serves_through_its_entry_point(site: Path, tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").write_text(DISTRIBUTION)
    program = f"import site; site.addsitedir({str(site)!r})\n{PROGRAM}"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert run.stdout == "ahoy, sailor\n", run.stderr
