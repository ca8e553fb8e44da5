"""The interpreter as the rest of the stack meets it: the contract of a Tools provider, and an agent that uses it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from llama_stack.api.agents import AgentConfig, ToolExecutionStep, ToolGroupUse
from llama_stack.api.common import Caller
from llama_stack.api.messages import UserMessage, text_of
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.testing.scripted import calls, says
from llama_stack.testing.scripted_stack import MODEL, open_scripted_stack
from llama_stack.testing.tools_contract import Backend, OpenTools, ToolsContract
from tests.providers.code_interpreter.conftest import (
    ALICE,
    Desk,
    children,
    needs_bubblewrap,
    open_desk,
    printed,
    settings,
    until,
)

GROUP_ID = "builtin::code_interpreter"
PLANNED = """
plan = open('plan').read()
if plan == 'fails': raise RuntimeError('as planned')
while plan == 'hangs': pass
print(plan)
"""


class Planned:
    """The interpreter with the backend's plan as a file of each call."""

    def __init__(self, desk: Desk, backend: Backend) -> None:
        self.desk = desk
        self.backend = backend
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return await self.desk.interpreter.list_tools(tool_group, caller)

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        watching = asyncio.create_task(self._watch())
        files = {"plan": self.backend}
        try:
            return await self.desk.interpreter.invoke_tool(tool_group, name, {"files": files, **arguments}, caller)
        finally:
            watching.cancel()
            if not children("bwrap"):
                self.left.set()

    async def _watch(self) -> None:
        await until(lambda: self.is_at_work())
        self.asked.set()

    def is_at_work(self) -> bool:
        sessions = self.desk.interpreter._sessions
        return sessions is not None and any(session.at_work for session in sessions._fresh)


@needs_bubblewrap
class TestCodeInterpreter(ToolsContract):
    tool = "code_interpreter"
    arguments = {"code": PLANNED}
    wrong_arguments = ({}, {"code": 7}, {"code": "1", "language": "ruby"}, {"code": "1", "session_id": 7})

    @asynccontextmanager
    async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
        async with open_desk(home, settings("bubblewrap", processes=8)) as desk:
            await desk.interpreter.sessions()
            planned = Planned(desk, backend)
            yield OpenTools(planned, planned.asked, planned.left)


@needs_bubblewrap
async def test_an_agents_session_keeps_its_variables(tmp_path: Path) -> None:
    """Two turns of one session share them; another session of the same agent does not."""

    def code(text: str) -> list[Any]:
        return list(calls(("code_interpreter", json.dumps({"code": text}))))

    script = [code("table = open('t.csv').read()"), says("a"), code("table"), says("b"), code("table"), says("c")]
    entry = {
        "provider_id": "code-interpreter",
        "provider_type": "inline::code-interpreter",
        "config": {"driver": "bubblewrap", "memory_mb": 512, "processes": 16, "disk_mb": 16},
        "tool_groups": [{"identifier": GROUP_ID}],
    }
    async with open_scripted_stack(*script, providers={"tools": [entry]}, home=tmp_path) as stack:
        agents = await stack.agents()
        use = ToolGroupUse(identifier=GROUP_ID, args={"files": {"t.csv": "a,b"}})
        agent = await agents.create_agent(AgentConfig(model=MODEL, tool_groups=[use]), ALICE)
        first = await agents.create_session(agent.agent_id, "first", ALICE)
        second = await agents.create_session(agent.agent_id, "second", ALICE)
        for session in (first, first, second):
            turn = agents.create_turn(agent.agent_id, session.session_id, [UserMessage(content="go")], ALICE)
            async for _ in turn:
                pass
        results = []
        for session in (first, second):
            kept = await agents.session(agent.agent_id, session.session_id, ALICE)
            steps = [step for turn in kept.turns for step in turn.steps if isinstance(step, ToolExecutionStep)]
            results += [text_of(step.results[0].content) for step in steps]
        assert results[0] == "completed"
        assert printed(results[1]) == "'a,b'"
        assert "NameError" in results[2]
