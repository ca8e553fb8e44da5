"""A process that runs a turn of four tools over a real stack and is killed where it is told: `python dying.py ...`.

Arguments: the stack's home, a file of tool runs, and after how many events to die (-1: never), pieces of the model's
text not counted. What it prints: agent, session and turn.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from llama_stack.api.agents import AgentConfig, AgentEvent, StepProgress, TurnStarted
from llama_stack.api.common import Caller
from llama_stack.api.messages import UserMessage
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.testing.scripted import Script, calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack

ALICE = Caller(owner="alice")
ANSWERS: list[Script] = [
    calls(("mark", '{"name": "a"}')),
    calls(("mark", '{"name": "b"}'), ("mark", '{"name": "c"}')),
    calls(("mark", '{"name": "d"}')),
    says("All ", "four ", "are marked."),
]


class Marks:
    """A tool whose runs can be counted from outside, whatever happens to the process."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        return [ToolDefinition(name="mark", parameters=schema)]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        with self._file.open("a") as marks:
            marks.write(f"{arguments['name']}\n")
            marks.flush()
            os.fsync(marks.fileno())
        return ToolResult(content=f"marked {arguments['name']}")


async def run(home: Path, marks: Path, events_to_live: int) -> None:
    async with open_scripted_stack(*ANSWERS, tools={"marks": Marks(marks)}, home=home) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(
            AgentConfig.model_validate({"model": "scripted", "tool_groups": ["marks"]}), ALICE
        )
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        seen: list[AgentEvent] = []
        async for event in agents.create_turn(
            agent.agent_id, session.session_id, [UserMessage(content="mark four")], ALICE
        ):
            if isinstance(event, TurnStarted):
                place = {"agent": agent.agent_id, "session": session.session_id, "turn": event.turn_id}
                print(json.dumps(place), flush=True)
            if not isinstance(event, StepProgress):
                seen.append(event)
            if len(seen) == events_to_live:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
