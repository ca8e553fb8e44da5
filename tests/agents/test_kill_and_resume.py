"""Killed at every event of a turn with four tools, then started again: nothing is lost and nothing runs twice."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from llama_stack.api.agents import (
    AgentConfig,
    AgentEvent,
    InferenceStep,
    StepCompleted,
    StepProgress,
    ToolExecutionStep,
    Turn,
    TurnCompleted,
)
from llama_stack.api.messages import text_of
from llama_stack.testing.scripted import ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.agents.dying import ALICE, ANSWERS, Marks

DYING = Path(__file__).parent / "dying.py"
EVENTS = 26
"""How many events the whole turn has beside pieces of text, and so the places to be killed at; a test holds it."""


async def die_at(event: int, home: Path, marks: Path) -> tuple[str, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DYING), str(home), str(marks), str(event), stdout=-1, stderr=-1, cwd=DYING.parents[2]
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode == (-9 if event >= 0 else 0), errors.decode()
    place = json.loads(out)
    return place["agent"], place["session"], place["turn"]


def what_happened(turn: Turn) -> list[object]:
    """A turn without what differs between two runs: ids and times."""
    told: list[object] = []
    for step in turn.steps:
        if isinstance(step, InferenceStep):
            told.append((text_of(step.message.content), [call.arguments for call in step.message.tool_calls]))
        elif isinstance(step, ToolExecutionStep):
            told.append(sorted(text_of(result.content) for result in step.results))
    assert turn.output is not None
    return [*told, text_of(turn.output.content), turn.end_reason, turn.usage]


async def resumed(home: Path, marks: Path, place: tuple[str, str, str]) -> Turn:
    """The turn after a restart; the model goes on with what the turn has not got from it yet."""
    async with open_scripted_stack(home=home) as stack:
        stored = await (await stack.agents()).turn(*place, ALICE)
    answered = sum(isinstance(step, InferenceStep) for step in stored.steps)
    if stored.end_reason is not None:
        return stored
    script = ScriptedInference(*ANSWERS[answered:]) if answered < len(ANSWERS) else ScriptedInference()
    async with open_scripted_stack(inference=script, tools={"marks": Marks(marks)}, home=home) as stack:
        events = [event async for event in (await stack.agents()).resume_turn(*place, ALICE)]
        last = events[-1]
        assert isinstance(last, TurnCompleted)
        assert (await (await stack.agents()).turn(*place, ALICE)) == last.turn
        return last.turn


async def test_the_whole_turn(tmp_path: Path) -> None:
    place = await die_at(-1, tmp_path, tmp_path / "marks")
    async with open_scripted_stack(home=tmp_path) as stack:
        turn = await (await stack.agents()).turn(*place, ALICE)
    assert what_happened(turn)[-3] == "All four are marked."
    assert (tmp_path / "marks").read_text() == "a\nb\nc\nd\n"

    events = await uncut(tmp_path, turn)
    assert len(events) == EVENTS
    last = events[-1]
    assert isinstance(last, TurnCompleted)
    assert what_happened(last.turn) == what_happened(turn)
    assert sum(isinstance(event, StepCompleted) for event in events) == 8


async def uncut(home: Path, turn: Turn) -> list[AgentEvent]:
    """The events of the same turn when nobody is killed."""
    async with open_scripted_stack(*ANSWERS, tools={"marks": Marks(home / "uncut")}, home=home / "uncut home") as stack:
        agents = await stack.agents()
        config = AgentConfig.model_validate({"model": "scripted", "tool_groups": ["marks"]})
        agent = await agents.create_agent(config, ALICE)
        session = await agents.create_session(agent.agent_id, "uncut", ALICE)
        events = agents.create_turn(agent.agent_id, session.session_id, list(turn.input), ALICE)
        return [event async for event in events if not isinstance(event, StepProgress)]


@pytest.mark.parametrize("event", range(1, EVENTS + 1))
async def test_killed_and_resumed(tmp_path: Path, event: int) -> None:
    marks = tmp_path / "marks"
    place = await die_at(event, tmp_path, marks)
    turn = await resumed(tmp_path, marks, place)

    events = await uncut(tmp_path, turn)
    last = events[-1]
    assert isinstance(last, TurnCompleted)
    assert what_happened(turn) == what_happened(last.turn)
    made = marks.read_text().split()
    assert sorted(set(made)) == ["a", "b", "c", "d"]
    finished_before = {"a", "b", "c", "d"} - _may_run_twice(event, events)
    assert all(made.count(name) == 1 for name in finished_before), made


def _may_run_twice(event: int, events: list[AgentEvent]) -> set[str]:
    """Tools that may have begun, but whose result was not stored yet, when the process was killed at this event.

    They run while the reader is told of their beginning. At the end of a step nothing has begun that is not stored.
    """
    begun: set[str] = set()
    for position, one in enumerate(events[:event], start=1):
        if not isinstance(one, StepCompleted):
            continue
        if isinstance(one.step, InferenceStep) and position < event:
            begun = {json.loads(call.arguments)["name"] for call in one.step.message.tool_calls}
        if isinstance(one.step, ToolExecutionStep):
            begun -= {json.loads(call.arguments)["name"] for call in one.step.tool_calls}
    return begun
