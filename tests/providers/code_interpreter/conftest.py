"""The code interpreter for real: every driver that this machine has, each in its own sandbox."""

import asyncio
import importlib.util
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from llama_stack.api.common import Caller
from llama_stack.api.inference import Inference
from llama_stack.api.tools import ToolGroup, ToolResult
from llama_stack.provider import Ground, InferenceFloor
from llama_stack_providers.inline._code_interpreter.settings import Config
from llama_stack_providers.inline.code_interpreter import CodeInterpreter, open_code_interpreter

ALICE = Caller(owner="alice")
BOB = Caller(owner="bob")
GROUP = ToolGroup(
    identifier="builtin::code_interpreter",
    provider_id="code-interpreter",
    provider_resource_id="builtin::code_interpreter",
)

PYODIDE = Path(os.environ.get("LLAMA_STACK_TEST_PYODIDE", "node_modules/pyodide"))
CONTAINER = os.environ.get("LLAMA_STACK_TEST_CONTAINER", "")

WHY_NOT = {
    "bubblewrap": None if shutil.which("bwrap") else "bubblewrap is not installed",
    "wasm": None
    if importlib.util.find_spec("deno") and (PYODIDE / "pyodide.mjs").is_file()
    else "LLAMA_STACK_TEST_PYODIDE names no folder with Pyodide (npm install pyodide), or deno is not installed",
    "container": None
    if CONTAINER
    else "LLAMA_STACK_TEST_CONTAINER names no engine and image, such as docker:python:3.12-slim",
}
"""What each driver lacks on this machine."""

SANDBOXES = [driver for driver, reason in WHY_NOT.items() if reason is None]

needs_bubblewrap = pytest.mark.skipif(WHY_NOT["bubblewrap"] is not None, reason=str(WHY_NOT["bubblewrap"]))
needs_wasm = pytest.mark.skipif(WHY_NOT["wasm"] is not None, reason=str(WHY_NOT["wasm"]))


def settings(driver: str, **changes: Any) -> Config:
    """Small limits, so that tests that meet them are quick."""
    values: dict[str, Any] = {"driver": driver, "timeout_s": 20, "memory_mb": 512, "processes": 16, "disk_mb": 16}
    if driver == "wasm":
        values["pyodide"] = PYODIDE.resolve()
    if driver == "container":
        engine, _, image = CONTAINER.partition(":")
        values |= {"container_engine": engine, "container_image": image}
    if driver == "unsafe_subprocess":
        values["i_accept_no_isolation"] = True
    return Config(**(values | changes))


class Desk:
    """The interpreter, and short words for what tests do with it."""

    def __init__(self, interpreter: CodeInterpreter) -> None:
        self.interpreter = interpreter

    async def call(self, code: str, session: str | None = "s", caller: Caller = ALICE, **arguments: Any) -> ToolResult:
        if session is not None:
            arguments["session_id"] = session
        return await self.interpreter.invoke_tool(GROUP, "code_interpreter", {"code": code, **arguments}, caller)

    async def says(self, code: str, session: str | None = "s", caller: Caller = ALICE, **arguments: Any) -> str:
        result = await self.call(code, session, caller, **arguments)
        assert isinstance(result.content, str)
        return result.content


@asynccontextmanager
async def open_desk(home: Path, config: Config) -> AsyncIterator[Desk]:
    floor = InferenceFloor(Ground(home=home, state=home / "state"), cast(Inference, None))
    async with open_code_interpreter(config, floor) as interpreter:
        yield Desk(interpreter)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process or task does, and has no event for."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  # of processes there is no event to wait on
            await asyncio.sleep(0.01)


def children(name: str | None = None) -> set[int]:
    """Ids of all living processes below this one, or of those that run the named program."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE and name in (None, child.name()):
                found.add(child.pid)
    return found


def printed(answer: str) -> str:
    """What the code printed on standard output, from the words that the model reads."""
    _, _, rest = answer.partition("[stdout]")
    return rest.partition("[/stdout]")[0]
