"""The unmodified llama-index, in an environment of its own: it wants an older openai package than the other clients.

The environment is made once, in the user's cache, from the package registry; where that cannot be reached these tests
are skipped.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.third_party.suite import ClientSuite, Contact, Exchange

REQUIREMENT = "llama-index-llms-openai-like>=0.5,<1"
CLIENT = Path(__file__).parent / "llama_index_client.py"
UNREACHABLE = ("Retrying (", "ConnectionError", "NewConnectionError", "Could not fetch URL")

# The environment may have to be made first.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="session")
def python_with_llama_index() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llama-stack-tests"
    caches.mkdir(parents=True, exist_ok=True)
    made_from = hashlib.sha256(f"{REQUIREMENT} {sys.version} {sys.prefix}".encode()).hexdigest()[:12]
    folder = caches / f"llama-index-{made_from}"
    # Several processes may run the tests.
    with (caches / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            make_environment(folder)
            (folder / "complete").touch()
    return folder / "bin" / "python"


def make_environment(folder: Path) -> None:
    if find_spec("pip") is None:
        pytest.skip(f"{REQUIREMENT} cannot be installed: this environment has no pip")
    venv.create(folder, with_pip=False, clear=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--no-compile", "--retries", "1", "--timeout", "20", REQUIREMENT],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip(f"{REQUIREMENT} cannot be installed: the package registry cannot be reached")
    assert done.returncode == 0, done.stderr


class LlamaIndex:
    """The process of the client; one request at a time."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CLIENT.parent
        )

    async def do(self, what: str, url: str, question: str, **more: Any) -> Any:
        request = {"do": what, "url": url, "question": question, **more}
        told = json.loads(await asyncio.to_thread(self._exchanged, json.dumps(request)))
        if "error" in told:
            raise next((known for kind in told["kinds"] if (known := RAISED.get(kind))), Failed)(told)
        return told["answer"]

    def _exchanged(self, line: str) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate()


class Failed(Exception):
    """Something that the client raised."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told["error"])
        self.status_code = told["status"]


class NotFound(Failed):
    """It raised openai.NotFoundError."""


class BadRequest(Failed):
    """It raised openai.BadRequestError."""


RAISED = {"NotFoundError": NotFound, "BadRequestError": BadRequest}


@pytest.fixture(scope="module")
def llama_index(python_with_llama_index: Path) -> Iterator[LlamaIndex]:
    client = LlamaIndex(python_with_llama_index)
    yield client
    client.close()


class TestChatModel(ClientSuite):
    not_found = NotFound
    refused = BadRequest
    broken = Failed

    @pytest.fixture(autouse=True)
    def _client(self, llama_index: LlamaIndex) -> None:
        self.client = llama_index

    async def ask(
        self,
        url: str,
        question: str,
        *,
        model: str = "scripted",
        history: Sequence[Exchange] = (),
        with_tool: bool = False,
        image: str | None = None,
    ) -> str:
        more = {"model": model, "history": history, "with_tool": with_tool, "image": image}
        return str(await self.client.do("ask", url, question, **more))

    async def stream(self, url: str, question: str, *, with_tool: bool = False) -> list[str]:
        return list(await self.client.do("stream", url, question, with_tool=with_tool))

    async def contact(self, url: str, question: str) -> Contact:
        return Contact.model_validate(await self.client.do("contact", url, question))


@pytest.mark.engine
async def test_the_embedded_model_calls_a_tool_and_answers_from_it(llama_index: LlamaIndex, starter_url: str) -> None:
    asked = "What is the weather in Oslo?"
    assert "snow" in await llama_index.do("ask", starter_url, asked, model="llama-micro", with_tool=True)
