"""Runs Python that a model wrote, in a sandbox: sessions with variables, figures, files in and out, no network.

What isolates the code is a driver: bubblewrap on Linux, WebAssembly, or containers. A driver is used only after it has
passed a self-test in this process; without one, the tool says that it is unavailable and what to do.
`_code_interpreter/` holds the parts.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from llama_stack.api.common import Caller, Health, HealthStatus
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.provider import InferenceFloor, ToolsProvider
from llama_stack_providers.inline._code_interpreter.choice import choose_driver
from llama_stack_providers.inline._code_interpreter.containers import SessionContainers
from llama_stack_providers.inline._code_interpreter.driver import DriverUnavailable
from llama_stack_providers.inline._code_interpreter.feedback import tool_result
from llama_stack_providers.inline._code_interpreter.files import given_files
from llama_stack_providers.inline._code_interpreter.sessions import SessionKey, Sessions
from llama_stack_providers.inline._code_interpreter.settings import Config

logger = logging.getLogger("llama_stack.code_interpreter")

TOOL = ToolDefinition(
    name="code_interpreter",
    description="Execute code",
    parameters={
        "type": "object",
        "properties": {"code": {"type": "string", "description": "The code to execute"}},
        "required": ["code"],
    },
)
CODE_LIMIT_BYTES = 1 << 20
RETRY_AFTER_S = 30.0


class CodeInterpreter:
    """Fulfils the Tools protocol with one tool. containers: the sessions and their files, apart from any code.

    The driver is found in the background, so that a server starts without waiting for it. A driver that was not to be
    had is looked for again at a later call, because installing what it lacks needs no restart.
    """

    keeps_sessions = True

    def __init__(self, config: Config, home: Path, stack: AsyncExitStack) -> None:
        self.config = config
        self.containers = SessionContainers(self.sessions, config)
        self._home = home
        self._stack = stack
        self._sessions: Sessions | None = None
        self._failure: DriverUnavailable | None = None
        self._tried_at = 0.0
        self._finding = asyncio.Lock()

    async def sessions(self) -> Sessions:
        """The sessions, once a driver has passed its self-test. Raises DriverUnavailable."""
        async with self._finding:
            if self._sessions is not None:
                return self._sessions
            if self._failure is not None and time.monotonic() - self._tried_at < RETRY_AFTER_S:
                raise DriverUnavailable(self._failure.message)
            try:
                driver = await choose_driver(self.config, self._home)
            except DriverUnavailable as error:
                self._failure, self._tried_at = error, time.monotonic()
                logger.warning("%s", error.message)
                raise
            self._sessions = await self._stack.enter_async_context(Sessions(driver, self.config))
            logger.info("the code interpreter runs code in %s", driver.name)
            return self._sessions

    async def health(self) -> Health:
        if self._sessions is not None:
            return Health(status=HealthStatus.OK)
        if self._failure is not None:
            return Health(status=HealthStatus.FAILED, message=self._failure.message)
        return Health(status=HealthStatus.STARTING, message="trying the sandbox")

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        """Raises DriverUnavailable when there is no sandbox to run code in."""
        await self.sessions()
        return [TOOL.model_copy(deep=True)]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        """Run `code`. `session_id` keeps variables from call to call; `files` are put into the code's folder before."""
        if name != TOOL.name:
            raise NotFound(f"the tool group {tool_group.identifier!r} has no tool {name!r}, only {TOOL.name!r}")
        code = _code(arguments)
        files = given_files(arguments.get("files"), self.config.files_kb * 1024)
        key = _session_key(arguments, caller)
        sessions = await self.sessions()
        started = time.monotonic()
        reason = "cancelled"
        try:
            async with sessions.use(key) as (session, lost_before):
                outcome = await session.run(code, files)
            reason = outcome.limit or outcome.exit_reason
        finally:
            duration_s = time.monotonic() - started
            logger.info(
                "ran code sha256=%s driver=%s timeout_s=%g memory_mb=%d processes=%d duration_s=%.3f exit=%s",
                hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest(),
                sessions.driver.name,
                self.config.timeout_s,
                self.config.memory_mb,
                self.config.processes,
                duration_s,
                reason,
            )
        details = {"driver": sessions.driver.name, "duration_s": round(duration_s, 3)}
        return tool_result(outcome, self.config.shown_kb * 1024, lost_before, details)


def _code(arguments: dict[str, Any]) -> str:
    unknown = sorted(set(arguments) - {"code", "files", "session_id"})
    if unknown:
        raise InvalidRequest(f"{TOOL.name} takes no argument {unknown[0]!r}, only code", param=unknown[0])
    code = arguments.get("code")
    if not isinstance(code, str):
        raise InvalidRequest("code must be a string with Python code", param="code")
    if len(code) > CODE_LIMIT_BYTES:
        raise InvalidRequest(f"code is longer than {CODE_LIMIT_BYTES} characters", param="code")
    return code


def _session_key(arguments: dict[str, Any], caller: Caller) -> SessionKey | None:
    session_id = arguments.get("session_id")
    if session_id is None:
        return None
    if not isinstance(session_id, str) or not session_id:
        raise InvalidRequest("session_id must be a string with something in it", param="session_id")
    return caller.owner, session_id


@asynccontextmanager
async def open_code_interpreter(config: Config, floor: InferenceFloor) -> AsyncIterator[CodeInterpreter]:
    async with AsyncExitStack() as stack:
        interpreter = CodeInterpreter(config, floor.ground.home, stack)
        finding = asyncio.create_task(_look(interpreter), name="try the code interpreter's sandbox")
        try:
            yield interpreter
        finally:
            finding.cancel()
            await asyncio.wait([finding])


async def _look(interpreter: CodeInterpreter) -> None:
    with suppress(DriverUnavailable):  # kept as the provider's health
        await interpreter.sessions()


provider = ToolsProvider(
    summary="Python in a sandbox: variables, figures and files, without network",
    config=Config,
    open=open_code_interpreter,
    # The sandbox runs without them; models write code that imports them.
    requires=("matplotlib>=3.9", "numpy>=2.0", "pandas>=2.2"),
)
