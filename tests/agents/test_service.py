"""The agents' service over a real stack and a real database: what is kept, and what a restart finds."""

import asyncio
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.agents import (
    AgentConfig,
    AgentEvent,
    ApprovalDecision,
    StepCompleted,
    ToolExecutionStep,
    Turn,
    TurnAwaitingInput,
    TurnCompleted,
    TurnSettings,
)
from llama_stack.api.common import Caller
from llama_stack.api.inference import Capabilities
from llama_stack.api.messages import Message, ToolMessage, UserMessage, text_of
from llama_stack.api.resources import Shield
from llama_stack.api.safety import ShieldVerdict, Violation, ViolationLevel
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderFailed
from llama_stack.testing.scripted import ScriptedInference, calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack

ALICE = Caller(owner="alice")
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}


class Counter:
    """Tools that count how often each number was asked for."""

    keeps_sessions = True

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.sessions: list[str] = []

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name="count", description="Count a number", parameters=NUMBER)]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        self.asked.append(arguments["number"])
        self.sessions.append(arguments["session_id"])
        return ToolResult(content=f"counted {arguments['number']}", metadata={"number": arguments["number"]})


class Forbids:
    """A shield that objects to a word."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.judged: list[str] = []

    async def run_shield(
        self, shield: Shield, messages: list[Message], caller: Caller, params: dict[str, Any] | None = None
    ) -> ShieldVerdict:
        text = text_of(messages[-1].content)
        self.judged.append(text)
        if self.word not in text:
            return ShieldVerdict()
        return ShieldVerdict(violation=Violation(level=ViolationLevel.ERROR, user_message="That is not for me."))


def asks(text: str) -> list[UserMessage | ToolMessage]:
    return [UserMessage(content=text)]


async def finished(events: AsyncGenerator[AgentEvent, None]) -> Turn:
    last = [event async for event in events][-1]
    assert isinstance(last, TurnCompleted | TurnAwaitingInput)
    return last.turn


def out(turn: Turn) -> str:
    assert turn.output is not None
    return text_of(turn.output.content)


async def test_a_conversation_is_kept_over_a_restart(tmp_path: Path) -> None:
    async with open_scripted_stack(says("Hello, Ann."), home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted", instructions="Be kind."), ALICE)
        session = await agents.create_session(agent.agent_id, "talk", ALICE)
        first = await finished(agents.create_turn(agent.agent_id, session.session_id, asks("I am Ann."), ALICE))

    script = ScriptedInference(says("You are Ann."))
    async with open_scripted_stack(inference=script, home=tmp_path) as stack:
        agents = await stack.agents()
        second = await finished(agents.create_turn(agent.agent_id, session.session_id, asks("Who am I?"), ALICE))
        kept = await agents.session(agent.agent_id, session.session_id, ALICE)

    assert kept.turns == [first, second]
    request = script.requests[0]
    assert not isinstance(request, str)
    assert [text_of(message.content) for message in request.messages] == [  # type: ignore[union-attr]
        "Be kind.",
        "I am Ann.",
        "Hello, Ann.",
        "Who am I?",
    ]


async def test_tools_of_a_group_run_with_the_session_and_the_groups_arguments(tmp_path: Path) -> None:
    counter = Counter()
    script = ScriptedInference(calls(("count", "{}")), says("done"))
    async with open_scripted_stack(inference=script, tools={"counting": counter}, home=tmp_path) as stack:
        agents = await stack.agents()
        use = {"identifier": "counting", "args": {"number": 7}}
        agent = await agents.create_agent(
            AgentConfig.model_validate({"model": "scripted", "tool_groups": [use]}), ALICE
        )
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        turn = await finished(agents.create_turn(agent.agent_id, session.session_id, asks("count"), ALICE))

    assert (counter.asked, counter.sessions) == ([7], [session.session_id])
    step = turn.steps[1]
    assert isinstance(step, ToolExecutionStep)
    assert step.metadata == {"call_0": {"number": 7}}
    assert script.requests[0].tools[0].parameters == {"type": "object", "properties": {}, "required": []}  # type: ignore[union-attr]


async def test_three_calls_two_approved_one_denied_across_restarts(tmp_path: Path) -> None:
    counter = Counter()
    wanted = [("count", f'{{"number": {number}}}') for number in (1, 2, 3)]
    config = AgentConfig.model_validate(
        {"model": "scripted", "tool_groups": [{"identifier": "counting", "approval": "always"}]}
    )
    async with open_scripted_stack(calls(*wanted), tools={"counting": counter}, home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(config, ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        place = agent.agent_id, session.session_id
        events = [event async for event in agents.create_turn(*place, asks("count"), ALICE)]
        paused = events[-1]
        assert isinstance(paused, TurnAwaitingInput)
        assert [call.id for call in paused.approvals] == ["call_0", "call_1", "call_2"]
        assert counter.asked == []

    turn_id = paused.turn.turn_id
    for decision, ran in (
        (ApprovalDecision(tool_call_id="call_2", approve=True), [3]),
        (ApprovalDecision(tool_call_id="call_1", approve=False, reason="not two"), [3]),
        (ApprovalDecision(tool_call_id="call_0", approve=True), [3, 1]),
    ):
        script = ScriptedInference(says("counted two"))
        async with open_scripted_stack(inference=script, tools={"counting": counter}, home=tmp_path) as stack:
            agents = await stack.agents()
            turn = await finished(agents.resume_turn(*place, turn_id, ALICE, decisions=[decision]))
            assert counter.asked == ran

    assert out(turn) == "counted two"
    request = script.requests[0]
    results = [message for message in request.messages if isinstance(message, ToolMessage)]  # type: ignore[union-attr]
    assert [text_of(result.content) for result in results] == [
        "counted 1",
        "Error: the call was denied by a person and was not made. Reason: not two",
        "counted 3",
    ]


async def test_a_result_is_brought_back_after_a_restart_by_its_call_id(tmp_path: Path) -> None:
    client_tool = ToolDefinition(name="ask_user", parameters=NUMBER)
    config = AgentConfig(model="scripted", client_tools=[client_tool])
    async with open_scripted_stack(calls(("ask_user", '{"number": 1}')), home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(config, ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        place = agent.agent_id, session.session_id
        turn = await finished(agents.create_turn(*place, asks("?"), ALICE))
        assert turn.end_reason is None
        with pytest.raises(InvalidRequest, match="no call 'call_9' awaits a result"):
            wrong = ToolMessage(tool_call_id="call_9", content="x")
            await finished(agents.resume_turn(*place, turn.turn_id, ALICE, results=[wrong]))

    async with open_scripted_stack(says("It is one."), home=tmp_path) as stack:
        agents = await stack.agents()
        result = ToolMessage(tool_call_id="call_0", content="one")
        resumed = await finished(agents.resume_turn(*place, turn.turn_id, ALICE, results=[result]))
        assert out(resumed) == "It is one."
        with pytest.raises(Conflict, match="has ended"):
            await finished(agents.resume_turn(*place, turn.turn_id, ALICE, results=[result]))
        assert (await agents.session(*place, ALICE)).turns == [resumed]


async def test_what_a_shield_refuses_reaches_neither_the_model_nor_later_turns(tmp_path: Path) -> None:
    guard = Forbids("bomb")
    script = ScriptedInference(says("Fine."))
    async with open_scripted_stack(inference=script, shields={"guard": guard}, home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted", input_shields=["guard"]), ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        place = agent.agent_id, session.session_id
        blocked = await finished(agents.create_turn(*place, asks("a bomb"), ALICE))
        assert (blocked.end_reason, out(blocked), script.requests) == ("blocked", "That is not for me.", [])
        await finished(agents.create_turn(*place, asks("a cake"), ALICE))

    assert [text_of(message.content) for message in script.requests[0].messages] == ["a cake"]  # type: ignore[union-attr]


@pytest.mark.parametrize("place", [0, 7, 41, 100, 235, 239, 241, 500, 731])
async def test_a_forbidden_word_anywhere_in_the_stream_does_not_get_out(tmp_path: Path, place: int) -> None:
    text = ("lorem ipsum dolor sit amet " * 40)[:place] + " bomb " + "consectetur adipiscing elit " * 30
    pieces = [text[start : start + 3] for start in range(0, len(text), 3)]
    async with open_scripted_stack(says(*pieces), shields={"guard": Forbids("bomb")}, home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted", output_shields=["guard"]), ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        turn_events = agents.create_turn(agent.agent_id, session.session_id, asks("?"), ALICE)
        events = [event async for event in turn_events]

    told = "".join(getattr(getattr(event, "event", None), "text", "") for event in events)
    assert "bomb" not in told
    assert text.startswith(told)
    last = events[-1]
    assert isinstance(last, TurnCompleted)
    assert (last.turn.end_reason, out(last.turn)) == ("blocked", "That is not for me.")
    assert "bomb" not in last.turn.model_dump_json()


async def test_output_that_passes_is_whole_and_a_tool_is_not_run_before_its_call_has_passed(tmp_path: Path) -> None:
    counter, guard = Counter(), Forbids("bomb")
    long = [f"word{number} " for number in range(200)]
    script = ScriptedInference(calls(("count", '{"number": 1}')), says(*long))
    async with open_scripted_stack(
        inference=script, shields={"guard": guard}, tools={"counting": counter}, home=tmp_path
    ) as stack:
        agents = await stack.agents()
        config = {"model": "scripted", "output_shields": ["guard"], "tool_groups": ["counting"]}
        agent = await agents.create_agent(AgentConfig.model_validate(config), ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        turn_events = agents.create_turn(agent.agent_id, session.session_id, asks("?"), ALICE)
        events = [event async for event in turn_events]

    assert "".join(getattr(getattr(event, "event", None), "text", "") for event in events) == "".join(long)
    assert counter.asked == [1]
    kinds = [event.step.type for event in events if isinstance(event, StepCompleted)]
    assert kinds == ["inference", "tool_execution", "inference", "shield_call"]


async def test_tool_groups_of_one_turn_replace_the_agents_own(tmp_path: Path) -> None:
    script = ScriptedInference(says("one"), says("two"))
    async with open_scripted_stack(inference=script, tools={"counting": Counter()}, home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted"), ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        settings = TurnSettings.model_validate({"tool_groups": ["counting/count"]})
        place = agent.agent_id, session.session_id
        turn = await finished(agents.create_turn(*place, asks("a"), ALICE, settings=settings))
        await finished(agents.create_turn(*place, asks("b"), ALICE))
        assert (await agents.turn(*place, turn.turn_id, ALICE)).settings == settings

    offered = [[tool.name for tool in request.tools] for request in script.requests]  # type: ignore[union-attr]
    assert offered == [["count"], []]


@pytest.mark.parametrize(("able", "asked"), [(True, "json"), (False, None)])
async def test_a_form_of_prompts_is_asked_for_only_where_the_provider_writes_them_in_it(
    tmp_path: Path, able: bool, asked: str | None
) -> None:
    script = ScriptedInference(says("one"), capabilities=Capabilities(tool_prompt_format=able))
    async with open_scripted_stack(inference=script, home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted", tool_prompt_format="json"), ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        await finished(agents.create_turn(agent.agent_id, session.session_id, asks("a"), ALICE))
    assert script.requests[0].tool_prompt_format == asked  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": "none"}, "no model 'none'"),
        ({"model": "scripted", "tool_groups": ["nothing"]}, "no tool group 'nothing'"),
        ({"model": "scripted", "input_shields": ["nobody"]}, "no shield 'nobody'"),
    ],
)
async def test_an_agent_that_names_what_there_is_not_is_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    async with open_scripted_stack(home=tmp_path) as stack:
        with pytest.raises(NotFound, match=message):
            await (await stack.agents()).create_agent(AgentConfig.model_validate(config), ALICE)


@pytest.mark.parametrize("status", [400, 413, 500])
async def test_what_the_model_cannot_read_does_not_stay_in_the_session(tmp_path: Path, status: int) -> None:
    inference = ScriptedInference(
        [ProviderFailed("too large a picture", upstream_status=status)], says("Hello."), says("unused")
    )
    async with open_scripted_stack(inference=inference, home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted"), ALICE)
        session = await agents.create_session(agent.agent_id, "one", ALICE)
        with pytest.raises(ProviderFailed):
            await finished(agents.create_turn(agent.agent_id, session.session_id, asks("a picture"), ALICE))
        turns = (await agents.session(agent.agent_id, session.session_id, ALICE)).turns
        # What failed for another reason can be taken up again.
        assert len(turns) == (1 if status == 500 else 0)
        turn = await finished(agents.create_turn(agent.agent_id, session.session_id, asks("hello"), ALICE))
        assert out(turn) == "Hello."
        said = [text_of(message.content) for message in inference.requests[-1].messages]  # type: ignore[union-attr]
    assert ("a picture" in said) == (status == 500)


async def test_a_second_turn_waits_for_the_first(tmp_path: Path) -> None:
    async with open_scripted_stack(says("a", "b"), home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted"), ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        place = agent.agent_id, session.session_id
        running = agents.create_turn(*place, asks("a"), ALICE)
        await anext(running)
        with pytest.raises(Conflict, match="is being worked on"):
            await finished(agents.create_turn(*place, asks("b"), ALICE))
        await running.aclose()
        await finished(agents.create_turn(*place, asks("c"), ALICE))
        reasons = [turn.end_reason for turn in (await agents.session(*place, ALICE)).turns]
        assert reasons == ["interrupted", "completed"]


class SlowToTell(Counter):
    """Tools that are listed once somebody lets them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_for, self.told = asyncio.Event(), asyncio.Event()

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        self.asked_for.set()
        await self.told.wait()
        return await super().list_tools(tool_group, caller)


async def test_a_turn_knows_what_was_said_while_its_tools_were_listed(tmp_path: Path) -> None:
    script, slow = ScriptedInference(says("early"), says("late")), SlowToTell()
    async with open_scripted_stack(inference=script, tools={"counting": slow}, home=tmp_path) as stack:
        agents = await stack.agents()
        agent = await agents.create_agent(AgentConfig(model="scripted"), ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        place = agent.agent_id, session.session_id
        first = agents.create_turn(*place, asks("first"), ALICE)
        await anext(first)
        settings = TurnSettings.model_validate({"tool_groups": ["counting"]})
        second = asyncio.create_task(finished(agents.create_turn(*place, asks("second"), ALICE, settings=settings)))
        await slow.asked_for.wait()
        await finished(first)
        slow.told.set()
        assert out(await second) == "late"
    said = [text_of(message.content) for message in script.requests[-1].messages]  # type: ignore[union-attr]
    assert said == ["first", "early", "second"]


class Dotted:
    """Tools with names that no chat format takes."""

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name=name) for name in ("files/read.v2", "x" * 80, "x" * 81, "搜索", "读取")]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        return ToolResult(content=f"ran {name}")


async def test_a_tool_is_offered_under_a_name_that_chat_formats_take_and_run_under_its_own(tmp_path: Path) -> None:
    script = ScriptedInference(calls(("files_read_v2", "{}")), says("done"))
    async with open_scripted_stack(inference=script, tools={"files": Dotted()}, home=tmp_path) as stack:
        agents = await stack.agents()
        config = AgentConfig.model_validate({"model": "scripted", "tool_groups": ["files"]})
        agent = await agents.create_agent(config, ALICE)
        session = await agents.create_session(agent.agent_id, "s", ALICE)
        turn = await finished(agents.create_turn(agent.agent_id, session.session_id, asks("?"), ALICE))

    first, *others = [tool.name for tool in script.requests[0].tools]  # type: ignore[union-attr]
    assert first == "files_read_v2"
    assert len(set(others)) == 4
    assert all(re.fullmatch(r"(x{55}|__)_[0-9a-f]{8}", name) for name in others)
    step = turn.steps[1]
    assert isinstance(step, ToolExecutionStep)
    assert text_of(step.results[0].content) == "ran files/read.v2"
