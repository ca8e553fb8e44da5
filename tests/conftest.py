"""Fixtures every area shares."""

import functools
import inspect
import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from llama_stack.api.common import Caller

SHIPPED_MICRO_MODEL = Path(__file__).parent.parent / "weights" / "llama-micro" / "llama-micro.gguf"

# A shell that runs the tests in its background has them ignore Ctrl-C, and every process they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def certificates_are_read_once() -> Iterator[None]:
    """Clients of HTTP read the authorities' certificates at their making, which takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", functools.cache(ssl.create_default_context))
        yield


@pytest.fixture(autouse=True, scope="session")
def a_client_of_a_test_is_patient() -> None:
    """httpx gives up after five seconds where nothing else is said, which a busy machine needs for a test's request."""
    for client in (httpx.AsyncClient, httpx.Client):
        limits = inspect.signature(client).parameters["timeout"].default
        limits.connect = limits.read = limits.write = limits.pool = 60.0


@pytest.fixture(autouse=True)
def stack_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, so that no test reads or writes a person's state."""
    home = tmp_path / "llama-home"
    monkeypatch.setenv("LLAMA_STACK_HOME", str(home))
    return home


@pytest.fixture
def caller() -> Caller:
    return Caller(owner="alice")


@pytest.fixture(scope="session")
def micro_model() -> Path:
    """The shipped micro model; LLAMA_STACK_TEST_GGUF names another file to test against."""
    return Path(os.environ.get("LLAMA_STACK_TEST_GGUF") or SHIPPED_MICRO_MODEL)
