"""Every small example runs, on the shipped models, and does what it says."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
HAVE_TESTS_OF_THEIR_OWN = {"first_agent.py", "calculator.py", "knowledge_search.py"}

# example -> what its output holds
SHOWS = {
    "hello.py": ["Hello"],
    "custom_tools.py": ['convert_temperature({"value": 100', "-> 212 degrees Fahrenheit", "212"],
    "structured_output.py": ["name='Ada' city='Bergen'"],
    "openai_client.py": ["models: llama-micro, all-minilm-l6-v2", "Hello", "embeddings: 2 of 384 numbers"],
}


@asynccontextmanager
async def served_starter() -> AsyncIterator[str]:
    async with open_stack(load_distribution("starter")) as stack, serving(create_app(stack)) as url:
        yield url


@pytest.fixture
def url() -> Iterator[str]:
    with LoopThread(served_starter) as server:
        yield server.held


def test_every_example_is_run() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == SHOWS.keys() | HAVE_TESTS_OF_THEIR_OWN


@pytest.mark.engine
@pytest.mark.parametrize("name", SHOWS)
def test_it_runs_and_shows_what_it_is_for(name: str, request: pytest.FixtureRequest) -> None:
    arguments = [request.getfixturevalue("url")] if "sys.argv" in (EXAMPLES / name).read_text() else []
    ended = subprocess.run(
        [sys.executable, f"examples/{name}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    for text in SHOWS[name]:
        assert text in ended.stdout
