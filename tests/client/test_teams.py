"""Agents together: one as the tool of another, and a conversation that is handed over."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_stack import Agent, Budget, LlamaStack, SyncAgent, ToolDefinition, ToolMessage, errors, tool
from llama_stack.agents.handoff import MAX_HANDOFFS
from llama_stack.api.agents import ToolExecutionStep
from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import text_of
from llama_stack.testing.scripted import ScriptedInference, calls, says
from tests.client.places import PLACES, opened
from tests.client.ways import in_process


def asked(inference: ScriptedInference) -> list[ChatRequest]:
    return [request for request in inference.requests if isinstance(request, ChatRequest)]


def system_of(request: ChatRequest) -> str:
    return text_of(request.messages[0].content)


def last_result(request: ChatRequest) -> str:
    return [text_of(message.content) for message in request.messages if message.role == "tool"][-1]


def look() -> str:
    """Look."""
    return "a cat"


# --- delegation ----------------------------------------------------------------------------------------------------


async def test_an_agent_works_for_another_in_a_session_of_its_own() -> None:
    inference = ScriptedInference(
        calls(("expert", '{"message": "What is it?"}')), calls(("look", "{}")), says("A cat."), says("It is a cat.")
    )
    async with in_process(inference) as stack:
        expert = Agent(stack, name="expert", description="Knows animals.", instructions="You look.", tools=[look])
        chief = Agent(stack, instructions="You ask.", tools=[expert.as_tool()])
        result = await chief.run("Please find out.")

    assert result.text == "It is a cat."
    outer, inner, _, last = asked(inference)
    assert [(one.name, one.description) for one in outer.tools] == [("expert", "Knows animals.")]
    assert [text_of(message.content) for message in inner.messages] == ["You look.", "What is it?"]
    assert last_result(last) == "A cat."
    step = result.steps[1]
    assert isinstance(step, ToolExecutionStep)
    inner_steps = step.metadata["call_0"]["turn"]["steps"]
    assert [one["type"] for one in inner_steps] == ["inference", "tool_execution", "inference"]


async def test_the_inner_agent_has_its_own_budget() -> None:
    inference = ScriptedInference(
        calls(("expert", '{"message": "?"}')), calls(("look", "{}")), says("Cut short."), says("Done.")
    )
    async with in_process(inference) as stack:
        expert = Agent(stack, name="expert", tools=[look], budget=Budget(max_infer_iters=2))
        result = await Agent(stack, tools=[expert.as_tool()]).run("?")

    assert asked(inference)[2].tool_choice == "none"
    assert result.turn.end_reason == "completed"


async def test_stopping_the_outer_turn_stops_the_inner_one() -> None:
    inference = ScriptedInference(calls(("expert", '{"message": "?"}')), [asyncio.Event()])
    async with in_process(inference) as stack:
        chief = Agent(stack, tools=[Agent(stack, name="expert").as_tool()])
        running = asyncio.create_task(chief.run("?"))
        async with asyncio.timeout(60):
            while len(inference.requests) < 2:
                inference.opened.clear()
                await inference.opened.wait()
            running.cancel()
            await inference.closed_early.wait()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_failing_inner_agent_is_told_to_the_outer_one() -> None:
    inference = ScriptedInference(
        calls(("expert", '{"message": "?"}')), [errors.ProviderUnavailable("it is away")], says("Sorry.")
    )
    async with in_process(inference) as stack:
        result = await Agent(stack, tools=[Agent(stack, name="expert").as_tool()]).run("?")

    assert result.text == "Sorry."
    assert "it is away" in last_result(asked(inference)[-1])


async def test_an_agent_that_is_a_tool_needs_a_name() -> None:
    async with in_process(ScriptedInference()) as stack:
        with pytest.raises(errors.InvalidRequest, match=r"as_tool\(name="):
            Agent(stack).as_tool()
        assert Agent(stack).as_tool(name="expert").definition.name == "expert"


# --- hand-off ------------------------------------------------------------------------------------------------------


def team(stack: LlamaStack) -> Agent:
    billing = Agent(stack, name="billing", description="For invoices.", instructions="You bill.", tools=[look])
    triage = Agent(stack, name="triage", instructions="You sort.", handoffs=[billing])
    billing.handoffs.append(triage)
    return triage


async def test_the_rest_of_the_turn_is_the_other_agents() -> None:
    inference = ScriptedInference(calls(("transfer_to_billing", "{}")), calls(("look", "{}")), says("Paid."))
    async with in_process(inference) as stack:
        result = await team(stack).run("My invoice?")

    assert (result.text, result.handoffs) == ("Paid.", ["billing"])
    first, second, third = asked(inference)
    assert [system_of(one) for one in (first, second, third)] == ["You sort.", "You bill.", "You bill."]
    assert [one.name for one in first.tools] == ["transfer_to_billing"]
    assert first.tools[0].description == "Hand the conversation over to billing, who then answers. For invoices."
    assert [one.name for one in second.tools] == ["look", "transfer_to_triage"]
    assert [text_of(one.content) for one in second.messages[1:] if one.role == "user"] == ["My invoice?"]
    assert last_result(second) == "billing has the conversation now."


async def test_the_conversation_stays_with_the_other_agent_until_it_is_handed_back() -> None:
    inference = ScriptedInference(
        calls(("transfer_to_billing", "{}")), says("a"), says("b"), calls(("transfer_to_triage", "{}")), says("c")
    )
    async with in_process(inference) as stack:
        session = team(stack).session()
        for question in ("1", "2", "3"):
            await session.run(question)

    assert [system_of(one) for one in asked(inference)] == [
        "You sort.",
        "You bill.",
        "You bill.",
        "You bill.",
        "You sort.",
    ]


async def test_handing_over_to_and_fro_has_an_end() -> None:
    there, back = calls(("transfer_to_billing", "{}")), calls(("transfer_to_triage", "{}"))
    inference = ScriptedInference(there, back, there, back, there, says("Enough."))
    async with in_process(inference) as stack:
        result = await team(stack).run("?")

    assert (result.text, len(result.handoffs)) == ("Enough.", MAX_HANDOFFS)
    assert [one.name for one in asked(inference)[-1].tools] == ["look"]


async def test_the_turn_keeps_its_budget_over_a_hand_off() -> None:
    inference = ScriptedInference(calls(("transfer_to_billing", "{}")), says("Cut short."))
    async with in_process(inference) as stack:
        triage = team(stack)
        short = Agent(stack, name="short", handoffs=triage.handoffs, budget=Budget(max_infer_iters=2))
        triage_of_billing = triage.handoffs[0]
        assert isinstance(triage_of_billing, Agent)
        result = await short.run("?")

    assert result.turn.end_reason == "max_infer_iters"
    assert asked(inference)[1].tool_choice == "none"


@pytest.mark.parametrize(
    ("names", "message"), [(["a", ""], "one has none"), (["a", "a"], "two are named 'a'")], ids=["none", "twice"]
)
async def test_agents_that_hand_over_need_names_of_their_own(names: list[str], message: str) -> None:
    async with in_process(ScriptedInference()) as stack:
        options: list[Any] = [{"name": name} if name else {} for name in names]
        first, second = (Agent(stack, **one) for one in options)
        first.handoffs.append(second)
        with pytest.raises(errors.InvalidRequest, match=message):
            await first.run("?")


async def test_tools_of_the_stack_are_refused_where_only_its_model_is_at_hand() -> None:
    async with LlamaStack.connect("http://localhost:1") as stack:
        agent = Agent(stack, model="m", tool_groups=["builtin::websearch"])
        with pytest.raises(errors.UnsupportedParameter, match=r"tool_groups: .*agent.open_session\(\)"):
            await agent.run("?")


def test_sync_agents_hand_over_and_work_for_each_other() -> None:
    inference = ScriptedInference(
        calls(("transfer_to_billing", "{}")), calls(("expert", '{"message": "?"}')), says("A cat."), says("Paid.")
    )
    with in_process(inference) as stack:
        expert = SyncAgent(stack, name="expert")
        billing = SyncAgent(stack, name="billing", tools=[expert.as_tool()])
        result = SyncAgent(stack, name="triage", handoffs=[billing]).run("?")

    assert (result.text, result.handoffs) == ("Paid.", ["billing"])


# --- kept by the stack ---------------------------------------------------------------------------------------------


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@tool(needs_approval=True)
def refund() -> str:
    """Pay back."""
    return "refunded"


def shop(stack: LlamaStack) -> Agent:
    billing = Agent(stack, name="billing", description="For money.", instructions="You bill.", tools=[refund])
    return Agent(stack, name="triage", instructions="You sort.", handoffs=[billing])


async def test_who_has_the_conversation_is_known_after_a_restart(place: str, tmp_path: Path) -> None:
    hand_over, pay = calls(("transfer_to_billing", "{}")), calls(("refund", "{}"))
    async with opened(place, tmp_path, hand_over, pay) as stack:
        paused = await (await shop(stack).open_session("ann")).run("My money back!")
        assert [call.name for call in paused.approvals] == ["refund"]

    inference = ScriptedInference(says("Refunded."))
    async with opened(place, tmp_path, inference=inference) as stack:
        session = await shop(stack).open_session("ann")
        result = await session.approve("call_0")
        assert (result.text, result.handoffs) == ("Refunded.", ["billing"])
        await session.run("Thanks.")

    assert [system_of(request) for request in asked(inference)] == ["You bill.", "You bill."]
    assert last_result(asked(inference)[-1]) == "refunded"


async def test_calls_beside_a_hand_off_are_settled_by_the_agent_that_made_them(place: str, tmp_path: Path) -> None:
    pick = ToolDefinition(name="pick")
    inference = ScriptedInference(calls(("transfer_to_billing", "{}"), ("pick", "{}")), says("Refunded."))
    async with opened(place, tmp_path, inference=inference) as stack:
        triage = shop(stack)
        first = Agent(stack, name="first", tools=[pick], handoffs=triage.handoffs)
        session = await first.open_session()
        paused = await session.run("?")
        assert [call.name for call in paused.awaiting] == ["pick"]
        assert paused.handoffs == []
        result = await session.run([ToolMessage(tool_call_id=paused.awaiting[0].id, content="red")])

    assert (result.text, result.handoffs) == ("Refunded.", ["billing"])
    assert (
        asked(inference)[0].tools[-1].description
        == "Hand the conversation over to billing, who then answers. For money."
    )


async def test_each_agent_of_a_kept_session_has_functions_of_its_own_and_hands_back(place: str, tmp_path: Path) -> None:
    def named(text: str) -> Callable[[], str]:
        def about() -> str:
            """Tell about it."""
            return text

        return about

    def pair(stack: LlamaStack) -> Agent:
        one = Agent(stack, name="one", instructions="You are one.", tools=[named("from one")])
        two = Agent(stack, name="two", instructions="You are two.", tools=[named("from two")], handoffs=[one])
        one.handoffs.append(two)
        return one

    script = [
        *(calls(("about", "{}"), ("transfer_to_two", "{}")), calls(("about", "{}")), says("Two.")),
        *(calls(("transfer_to_one", "{}")), calls(("about", "{}")), says("One.")),
    ]
    inference = ScriptedInference(*script)
    async with opened(place, tmp_path, inference=inference) as stack:
        session = await pair(stack).open_session("s")
        first = await session.run("?")
        second = await (await pair(stack).open_session("s")).run("And back?")
        kept = await (await stack.agents()).list_agents(stack.caller)

    assert (first.text, first.handoffs, second.text, second.handoffs) == ("Two.", ["two"], "One.", ["one"])
    systems = [system_of(request) for request in asked(inference)]
    assert systems == [f"You are {name}." for name in ("one", "two", "two", "two", "one", "one")]
    results = [message for message in asked(inference)[-1].messages if message.role == "tool"]
    told = [text_of(message.content).splitlines()[0] for message in results]
    assert [text for text in told if text.startswith("from")] == ["from one", "from two", "from one"]
    names = [record.config.name for record in kept.entries]
    assert names == (["one"] if place == "in-process" else ["one", "two"]), "opened twice, kept once"


async def test_an_inner_agents_question_waits_after_a_hand_off(place: str, tmp_path: Path) -> None:
    def office(stack: LlamaStack) -> Agent:
        clerk = Agent(stack, name="clerk", tools=[refund])
        billing = Agent(stack, name="billing", tools=[clerk.as_tool()])
        return Agent(stack, name="triage", handoffs=[billing])

    ask = calls(("clerk", '{"message": "?"}'))
    async with opened(place, tmp_path, calls(("transfer_to_billing", "{}")), ask, calls(("refund", "{}"))) as stack:
        paused = await (await office(stack).open_session("s")).run("?")
        assert [call.id for call in paused.approvals] == ["call_0/call_0"]
    async with opened(place, tmp_path, says("Paid."), says("Done.")) as stack:
        result = await (await office(stack).open_session("s")).approve("call_0/call_0")
    assert (result.text, result.handoffs) == ("Done.", ["billing"])


async def test_agents_that_hand_over_are_told_apart_before_anything_is_kept(place: str, tmp_path: Path) -> None:
    async with opened(place, tmp_path) as stack:
        with pytest.raises(errors.InvalidRequest, match="two are named 'a'"):
            await Agent(stack, name="a", handoffs=[Agent(stack, name="a")]).open_session()
        assert (await (await stack.agents()).list_agents(stack.caller)).entries == []
