"""The stack of this folder's tests; its doors are in `doors`."""

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.testing.scripted import Script, ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.agents_faces.doors import Running, Start, running_on
from tests.storage.conftest import create_postgres_database

__all__ = ["create_postgres_database", "start"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A stack that follows a script: `start(*scripts, tools=..., shields=..., providers=..., storage_url=...)`."""

    @asynccontextmanager
    async def started(*scripts: Script, **settings: Any) -> AsyncIterator[Running]:
        inference = ScriptedInference(*scripts)
        async with (
            open_scripted_stack(inference=inference, home=tmp_path, **settings) as stack,
            running_on(stack, inference) as running,
        ):
            yield running

    return started


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports without lone surrogates, which these tests put into the log and pytest-xdist cannot send."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report
