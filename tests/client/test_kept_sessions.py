"""Sessions that the stack keeps: the same in process and over HTTP, async and sync, and after a restart."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llama_stack import ApprovalDecision, ToolContext, ToolDefinition, ToolMessage, UserMessage, errors, tool
from llama_stack.api.agents import StepProgress, ToolCallFinished, ToolExecutionStep, TurnAwaitingInput, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest, TextDelta
from llama_stack.api.messages import text_of
from llama_stack.api.tools import ToolGroup, ToolResult
from llama_stack.testing.scripted import Script, ScriptedInference, calls, says
from tests.client.kept import Way
from tests.client.test_four_ways import facts

WAYS = [(face, place) for face in ("async", "sync") for place in ("in-process", "http")]


@pytest.fixture(params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    face, place = request.param
    return Way(face, place, tmp_path)


def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@tool(needs_approval=True)
def delete(name: str) -> str:
    """Delete a file."""
    return f"deleted {name}"


def said_to(inference: ScriptedInference) -> list[tuple[str, str]]:
    """Role and text of what the model was last told."""
    request = inference.requests[-1]
    assert isinstance(request, ChatRequest)
    return [(message.role, text_of(message.content)) for message in request.messages]


async def test_a_session_is_gone_on_with_by_name_after_a_restart(way: Way) -> None:
    async with way.open(says("Hello Ann."), name="guide", instructions="Be kind.") as bench:
        session = await bench.open_session("ann")
        assert (await session.run("I am Ann.")).text == "Hello Ann."

    inference = ScriptedInference(says("You are Ann."))
    async with way.open(inference=inference, name="guide", instructions="Be brief.") as bench:
        again = await bench.open_session("ann")
        other = await bench.open_session("bob")
        assert again.session_id == session.session_id
        assert other.session_id != session.session_id
        assert [turn.end_reason for turn in again.turns] == ["completed"]
        assert (await again.run("Who am I?")).text == "You are Ann."
        assert [session.name for session in await bench.sessions()] == ["ann", "bob"]

    # What the agent is now follows the program; what was said is as it was.
    assert said_to(inference) == [
        ("system", "Be brief."),
        ("user", "I am Ann."),
        ("assistant", "Hello Ann."),
        ("user", "Who am I?"),
    ]


async def test_a_session_is_found_by_its_id_and_by_nobody_elses(way: Way) -> None:
    async with way.open(says("Hello.")) as bench:
        session = await bench.open_session()
        await session.run("Hi.")
        assert len((await bench.open_session(None, session.session_id)).turns) == 1

    async with way.open(instructions="Somebody else.") as bench:
        with pytest.raises(errors.NotFound, match="this agent has no session 'session_"):
            await bench.open_session(None, session.session_id)


async def test_functions_of_this_process_run_in_the_turn(way: Way) -> None:
    inference = ScriptedInference(calls(("double", '{"number": 21}'), ("double", '{"number": 1}')), says("42 and 2."))
    async with way.open(inference=inference, tools=[double]) as bench:
        session = await bench.open_session()
        events = await session.stream("Double 21 and 1.")

        assert isinstance(events[-1], TurnCompleted)
        assert sum(isinstance(event, ToolCallFinished) for event in events) == 2
        assert session.turns == [events[-1].turn]
    assert [text for role, text in said_to(inference) if role == "tool"] == ["42", "2"]


async def test_some_calls_are_approved_and_some_denied_over_restarts(way: Way) -> None:
    wanted = [("delete", f'{{"name": "{name}"}}') for name in "abc"]
    async with way.open(calls(*wanted), tools=[delete], name="cleaner") as bench:
        session = await bench.open_session("s")
        paused = await session.run("Clean up.")
        assert [call.id for call in paused.approvals] == ["call_0", "call_1", "call_2"]
        assert not paused.awaiting
        assert paused.text == ""

    deny = ApprovalDecision(tool_call_id="call_1", approve=False, reason="still needed")
    async with way.open(tools=[delete], name="cleaner") as bench:
        session = await bench.open_session("s")
        assert [call.id for call in (await session.run()).approvals] == ["call_0", "call_1", "call_2"]
        paused = await session.run([deny, ApprovalDecision(tool_call_id="call_2", approve=True)])
        assert [call.id for call in paused.approvals] == ["call_0"]

    inference = ScriptedInference(says("Done."))
    async with way.open(inference=inference, tools=[delete], name="cleaner") as bench:
        session = await bench.open_session("s")
        result = await session.run([ApprovalDecision(tool_call_id="call_0", approve=True)])
        assert result.text == "Done."
    assert [text for role, text in said_to(inference) if role == "tool"] == [
        "deleted a",
        "Error: the call was denied by a person and was not made. Reason: still needed",
        "deleted c",
    ]


async def test_a_function_of_the_application_is_asked_instead_of_pausing(way: Way) -> None:
    def decide(call: Any) -> bool | str:
        return True if '"a"' in call.arguments else "not that one"

    inference = ScriptedInference(calls(("delete", '{"name": "a"}'), ("delete", '{"name": "b"}')), says("Done."))
    async with way.open(inference=inference, tools=[delete], on_approval=decide) as bench:
        result = await (await bench.open_session()).run("Clean up.")

    assert result.text == "Done."
    assert [text for role, text in said_to(inference) if role == "tool"] == [
        "deleted a",
        "Error: the call was denied by a person and was not made. Reason: not that one",
    ]


async def test_tools_of_the_application_itself_pause_the_turn_beside_functions(way: Way) -> None:
    pick = ToolDefinition(name="pick", parameters={"type": "object", "required": ["color"]})
    script = calls(("pick", '{"color": "red"}'), ("double", '{"number": 1}'))
    async with way.open(script, says("Red and 2."), tools=[pick, double]) as bench:
        session = await bench.open_session()
        paused = await session.run("Pick and double.")
        assert [call.name for call in paused.awaiting] == ["pick"]
        with pytest.raises(errors.InvalidRequest, match="no call 'other' awaits a result"):
            await session.run([ToolMessage(tool_call_id="other", content="red")])
        result = await session.run([ToolMessage(tool_call_id="call_0", content="red")])
        assert result.text == "Red and 2."
        with pytest.raises(errors.InvalidRequest, match="none does; ask a question"):
            await session.run()


async def test_a_turn_that_was_left_is_taken_up_after_its_last_step(way: Way) -> None:
    async with way.open(calls(("double", '{"number": 21}')), [asyncio.Event()], tools=[double], name="a") as bench:
        session = await bench.open_session("s")
        events = await session.stream("Double 21.", until=ToolCallFinished)
        assert not isinstance(events[-1], TurnCompleted)

    inference = ScriptedInference(says("42."))
    async with way.open(inference=inference, tools=[double], name="a") as bench:
        session = await bench.open_session("s")
        assert session.turns[0].end_reason is None
        assert (await session.run()).text == "42."
        assert [turn.end_reason for turn in session.turns] == ["completed"]
    assert [text for role, text in said_to(inference) if role == "tool"] == ["42"]


async def test_the_next_question_may_follow_at_once_after_a_turn_was_left(way: Way) -> None:
    thinking: Script = [TextDelta(text="I "), asyncio.Event()]
    async with way.open(thinking, thinking, thinking, says("Yes.")) as bench:
        session = await bench.open_session()
        for _ in range(3):
            await session.stream("Think.", until=StepProgress)
        assert (await session.run("Are you there?")).text == "Yes."
        assert [turn.end_reason for turn in session.turns] == ["interrupted"] * 3 + ["completed"]


async def test_a_new_question_ends_a_turn_that_was_left(way: Way) -> None:
    async with way.open(calls(("pick", "{}")), says("Never mind."), tools=[ToolDefinition(name="pick")]) as bench:
        session = await bench.open_session()
        assert isinstance((await session.stream("Pick."))[-1], TurnAwaitingInput)
        await session.run("Leave it.")
        assert [turn.end_reason for turn in session.turns] == ["interrupted", "completed"]
        again = await bench.open_session(None, session.session_id)
        assert [turn.end_reason for turn in again.turns] == ["interrupted", "completed"]


async def test_everything_an_agent_is_reaches_the_store(way: Way) -> None:
    options: dict[str, Any] = {
        "tool_groups": [{"identifier": "counting", "args": {"number": 3}}],
        "approval": ["count"],
        "output_shields": ["guard"],
        "tool_shields": ["guard"],
        "parallel_tool_calls": False,
        "truncation": "disabled",
        "budget": {"max_tool_calls": 7, "max_seconds": 60.0},
    }
    stack: dict[str, Any] = {"groups": {"counting": Counting()}, "shields": {"guard": Agrees()}}
    async with way.open(calls(("count", "{}")), says("Counted."), **options, **stack) as bench:
        session = await bench.open_session()
        paused = await session.run("Count.")
        assert [call.name for call in paused.approvals] == ["count"]
        result = await session.run([ApprovalDecision(tool_call_id="call_0", approve=True)])

    assert result.text == "Counted."
    assert [step.type for step in result.steps] == [
        "inference",
        "approval",
        "tool_execution",
        "inference",
        "shield_call",
    ]


class Counting:
    """A tool group of the stack."""

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name="count", parameters={"type": "object", "properties": {"number": {}}})]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        return ToolResult(content=f"counted {arguments['number']}", metadata={"source": "s"})


class Agrees:
    async def run_shield(self, *_: Any) -> Any:
        from llama_stack.api.safety import ShieldVerdict

        return ShieldVerdict()


def count_up(context: ToolContext) -> int:
    """Count the calls of this session."""
    context.state["calls"] = context.state.get("calls", 0) + 1
    return int(context.state["calls"])


async def test_functions_share_the_sessions_state_over_a_restart(way: Way) -> None:
    async with way.open(calls(("count_up", "{}")), says("1."), tools=[count_up], name="counter") as bench:
        await (await bench.open_session("s")).run("Count.")

    inference = ScriptedInference(calls(("count_up", "{}")), calls(("count_up", "{}")), says("3."))
    async with way.open(inference=inference, tools=[count_up], name="counter") as bench:
        session = await bench.open_session("s")
        await session.run("Again.")
        step = session.turns[-1].steps[3]
    assert [text for role, text in said_to(inference) if role == "tool"][-1].startswith("3")
    assert isinstance(step, ToolExecutionStep)
    assert step.metadata["call_0"] == {"session_state": {"calls": 3}}


def fail() -> str:
    raise ValueError("no such thing")


async def test_a_function_that_fails_is_marked_as_failed(way: Way) -> None:
    async with way.open(calls(("fail", "{}")), says("Sorry."), tools=[fail]) as bench:
        result = await (await bench.open_session()).run("Try.")
    step = result.steps[1]
    assert isinstance(step, ToolExecutionStep)
    assert step.failed == ["call_0"]
    assert text_of(step.results[0].content) == "Error: ValueError: no such thing"


async def test_a_second_turn_is_refused_while_one_runs_elsewhere(way: Way) -> None:
    async with way.open([asyncio.Event()], name="a") as bench:
        session = await bench.open_session("s")
        other = await bench.open_session("s")
        if way.face == "async":
            waiting = session.session.stream("Wait.")  # type: ignore[attr-defined]
            await anext(waiting)
            with pytest.raises(errors.Conflict, match="is being worked on"):
                await other.run("Me too.")
            await waiting.aclose()


async def test_a_question_needs_words(way: Way) -> None:
    async with way.open(says("?")) as bench:
        session = await bench.open_session()
        with pytest.raises(errors.InvalidRequest):
            await session.run([])
        assert session.turns == []
        result = await session.run([UserMessage(content="Hi")])  # type: ignore[list-item]
        assert [event.type for event in (await session.stream("?"))[-2:]] == ["step_completed", "turn_completed"]
        assert result.text == "?"


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimited("slow down", retry_after_s=0.5, code="insufficient_quota"),
        errors.ProviderFailed("no such parameter", upstream_status=400, param="seed", code="theirs"),
        errors.ContextOverflow("9 tokens do not fit 8"),
    ],
    ids=repr,
)
async def test_an_error_within_a_turn_is_the_same_error_and_the_turn_can_be_taken_up(
    way: Way, error: errors.StackError
) -> None:
    async with way.open(calls(("double", '{"number": 1}')), [error], says("2."), tools=[double]) as bench:
        session = await bench.open_session()
        with pytest.raises(type(error)) as raised:
            await session.run("Double 1.")
        assert facts(raised.value) == facts(error)
        assert (await session.run()).text == "2."
