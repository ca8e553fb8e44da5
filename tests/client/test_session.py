"""What a session keeps, whatever becomes of a turn."""

import asyncio
import pickle
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import BaseModel

from llama_stack import Agent, LlamaStack, SyncAgent, errors
from llama_stack.api.agents import ToolCallFinished
from llama_stack.api.inference import ChatRequest, JsonSchemaFormat
from llama_stack.api.messages import AssistantMessage, ToolMessage, UserMessage
from llama_stack.api.tools import ToolDefinition
from llama_stack.testing.scripted import Script, ScriptedInference, calls, says
from tests.client.ways import in_process, play


def look() -> str:
    """Look."""
    return "a cat"


def last_chat(inference: ScriptedInference) -> ChatRequest:
    request = inference.requests[-1]
    assert isinstance(request, ChatRequest)
    return request


async def test_a_turn_left_in_the_middle_keeps_its_finished_steps() -> None:
    inference = ScriptedInference(calls(("look", "{}")), says("It was a cat."))
    async with in_process(inference) as stack:
        session = Agent(stack, tools=[look]).session()
        async with aclosing(session.stream("What is it?")) as events:
            async for event in events:
                if isinstance(event, ToolCallFinished):
                    break
        (turn,) = session.turns
        assert turn.end_reason == "interrupted"
        assert [step.type for step in turn.steps] == ["inference"]

        result = await session.run("And?")

    assert result.text == "It was a cat."
    assert [message.role for message in last_chat(inference).messages] == ["user", "assistant", "tool", "user"]


async def test_a_turn_that_failed_at_once_leaves_no_trace() -> None:
    inference = ScriptedInference([errors.ProviderUnavailable("it is away")], says("Hello."))
    async with in_process(inference) as stack:
        session = Agent(stack).session()
        with pytest.raises(errors.ProviderUnavailable):
            await session.run("Hi")
        await session.run("Hi again")

    assert last_chat(inference).messages == [UserMessage(content="Hi again")]


async def paused(stack: LlamaStack, inference: ScriptedInference, *scripts: Script):  # type: ignore[no-untyped-def]
    play(inference, calls(("pick", "{}")), *scripts)
    session = Agent(stack, tools=[ToolDefinition(name="pick")]).session()
    result = await session.run("Pick one.")
    return session, result.awaiting[0]


async def test_a_wrong_result_leaves_the_turn_waiting() -> None:
    inference = ScriptedInference()
    async with in_process(inference) as stack:
        session, call = await paused(stack, inference, says("Red."))
        with pytest.raises(errors.InvalidRequest, match="no call 'other' awaits a result"):
            await session.run([ToolMessage(tool_call_id="other", content="red")])
        with pytest.raises(errors.InvalidRequest, match="come without other messages"):
            await session.run([UserMessage(content="so?"), ToolMessage(tool_call_id=call.id, content="red")])

        result = await session.run([ToolMessage(tool_call_id=call.id, content="red")])

    assert result.text == "Red."
    assert len(session.turns) == 1


async def test_a_new_question_gives_up_a_waiting_turn() -> None:
    inference = ScriptedInference()
    async with in_process(inference) as stack:
        session, call = await paused(stack, inference, says("Never mind."))
        await session.run("Never mind.")
        with pytest.raises(errors.InvalidRequest, match="answer a turn that awaits them"):
            await session.run([ToolMessage(tool_call_id=call.id, content="red")])

    assert [turn.end_reason for turn in session.turns] == ["interrupted", "completed"]
    assert [message.role for message in last_chat(inference).messages] == ["user", "assistant", "tool", "user"]


async def test_one_turn_at_a_time() -> None:
    inference = ScriptedInference([asyncio.Event()])
    async with in_process(inference) as stack:
        session = Agent(stack).session()
        first = asyncio.create_task(session.run("Hi"))
        await inference.opened.wait()
        with pytest.raises(errors.Conflict, match="a turn is running in this session"):
            await session.run("Hi")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        play(inference, says("Hello."))
        assert (await session.run("Hi")).text == "Hello."


async def test_a_turn_begins_with_what_the_user_says() -> None:
    async with in_process(ScriptedInference()) as stack:
        agent = Agent(stack)
        with pytest.raises(errors.InvalidRequest, match="not with a message of role 'assistant'"):
            await agent.run([AssistantMessage(content="I said")])  # type: ignore[list-item]
        with pytest.raises(errors.InvalidRequest, match="at least one message"):
            await agent.run([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modle": "m"}, "modle: is no option of an agent; there are model, instructions"),
        ({"budget": {"max_infer_iters": 0}}, "budget.max_infer_iters: Input should be greater than or equal to 1"),
        ({"sampling": {"temprature": 1}}, "sampling.temprature: is no option"),
    ],
)
async def test_a_wrong_option_is_refused_when_the_agent_is_made(options: Any, message: str) -> None:
    async with in_process(ScriptedInference()) as stack:
        with pytest.raises(errors.InvalidRequest, match=message):
            Agent(stack, **options)


async def test_the_model_is_the_first_one_unless_it_is_named() -> None:
    inference = ScriptedInference()
    async with in_process(inference) as stack:
        await Agent(stack).run("Hi")
        await Agent(stack, model="another").run("Hi")

    assert [request.model for request in inference.requests] == ["scripted", "another"]


class Sum(BaseModel):
    result: int


async def test_an_agents_final_answer_has_the_form_that_was_asked_for() -> None:
    inference = ScriptedInference(calls(("look", "{}")), says("A cat."), says('{"result": 1}'))
    async with in_process(inference) as stack:
        result = await Agent(stack, tools=[look], response_format=Sum).run("How many?")

    assert Sum.model_validate_json(result.text) == Sum(result=1)
    wanted = JsonSchemaFormat(name="Sum", json_schema=Sum.model_json_schema(), strict=True)
    assert last_chat(inference).response_format == wanted


async def test_the_wrong_face_of_a_stack_is_named() -> None:
    async with in_process(ScriptedInference()) as stack:
        wrong: Any = stack
        with pytest.raises(errors.InvalidRequest, match="on one of `async with` use Agent"):
            SyncAgent(wrong)
    with in_process(ScriptedInference()) as started:
        wrong = started
        with pytest.raises(errors.InvalidRequest, match="use SyncAgent"):
            Agent(wrong)
    wrong = LlamaStack.open("starter")
    with pytest.raises(AttributeError, match="the stack is not open yet, so it has no 'chat'"):
        wrong.chat("Hi")


async def test_what_is_typed_almost_right_is_told_what_was_meant() -> None:
    async with in_process(ScriptedInference()) as stack:
        nothing: Any = None
        with pytest.raises(errors.InvalidRequest, match="not NoneType"):
            await stack.chat(nothing)
        with pytest.raises(errors.InvalidRequest, match="temprature: is no option; did you mean 'temperature'"):
            await stack.chat("Hi", temprature=1)
        group: Any = "builtin::websearch"
        with pytest.raises(errors.InvalidRequest, match="go into tool_groups"):
            Agent(stack, tools=[group])


def test_every_error_passes_between_processes() -> None:
    error = errors.MissingVariable("KEY", "needs KEY", where="a.yaml", remedy="Set it.")
    again = pickle.loads(pickle.dumps(error))
    assert (again.name, str(again), again.where, again.remedy) == ("KEY", str(error), "a.yaml", "Set it.")
