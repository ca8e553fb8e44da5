"""Agent, AsyncAgent, ReActAgent, the event loggers and client tools of the unmodified client, as programs use them."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
import pytest
from llama_stack_client import Agent, AgentEventLogger
from llama_stack_client.lib.agents.agent import AsyncAgent
from llama_stack_client.lib.agents.client_tool import client_tool
from llama_stack_client.lib.agents.react.agent import ReActAgent

from llama_stack.api.inference import ChatRequest, JsonSchemaFormat
from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.errors import ProviderFailed
from llama_stack.testing.scripted import calls, says
from tests.classic.conftest import Arithmetic, Guard, Running, Start

T = TypeVar("T")

QUESTION: Any = [{"role": "user", "content": "What is 2 + 3?"}]


@client_tool  # type: ignore[untyped-decorator]  # the package's own
def add(x: int, y: int = 1, names: list = []) -> Any:  # type: ignore[type-arg]  # noqa: B006  # as programs write it
    """Adds two numbers.

    :param x: the first
    :param y: the second
    :param names: whose numbers they are
    """
    return {"content": {"sum": x + y}, "metadata": {"kind": type(x).__name__}}


async def in_thread(work: Callable[[], T]) -> T:
    """The synchronous client blocks; the server runs in this loop."""
    return await asyncio.to_thread(work)


def last_request(server: Running) -> ChatRequest:
    request = server.inference.requests[-1]
    assert isinstance(request, ChatRequest)
    return request


async def test_an_agent_runs_its_clients_tools(start_agents: Start) -> None:
    script = calls(("add", '{"x": 2, "y": 3}'), ("add", '{"x": 1}'))
    async with start_agents(script, says("It is ", "5.")) as server:

        def work() -> tuple[Any, list[str]]:
            agent = Agent(server.sync, model="scripted", instructions="Be brief.", tools=[add])
            session_id = agent.create_session("s")
            chunks: list[Any] = list(agent.create_turn(QUESTION, session_id=session_id))
            return chunks, [f"{line}{line.end}" for line in AgentEventLogger().log(iter(chunks))]

        chunks, printed = await in_thread(work)
    kinds = [
        (chunk.event.payload.event_type, getattr(chunk.event.payload, "step_type", None))
        for chunk in chunks
        if chunk.event.payload.event_type != "step_progress"
    ]
    assert kinds == [
        ("step_start", "inference"),
        ("step_complete", "inference"),
        ("step_start", "tool_execution"),
        ("turn_awaiting_input", None),
        ("step_complete", "tool_execution"),
        ("step_start", "inference"),
        ("step_complete", "inference"),
        ("turn_complete", None),
    ]
    begun = [
        chunk.event.payload for chunk in chunks if getattr(chunk.event.payload, "step_type", "") == "tool_execution"
    ]
    assert [(payload.event_type, payload.step_id == begun[0].step_id) for payload in begun] == [
        ("step_start", True),
        ("step_progress", True),
        ("step_progress", True),
        ("step_complete", True),
    ]
    assert [payload.delta.tool_call.call_id for payload in begun[1:3]] == ["call_0", "call_1"]
    paused, turn = [chunk.event.payload.turn for chunk in chunks if hasattr(chunk.event.payload, "turn")]
    assert paused.output_message.stop_reason == "end_of_message"
    assert [call.call_id for call in paused.output_message.tool_calls] == ["call_0", "call_1"]
    assert turn.turn_id == paused.turn_id
    assert turn.output_message.content == "It is 5."
    assert [step.step_type for step in turn.steps] == ["inference", "tool_execution", "inference"]
    assert [response.content for response in turn.steps[1].tool_responses] == ['{"sum": 5}', '{"sum": 2}']
    # As a terminal shows it: the logger tells of the calls once they have results, each once.
    assert "".join(printed).splitlines() == [
        'inference> {"x": 2, "y": 3}{"x": 1}',
        "tool_execution> Tool:add Args:{'x': 2.0, 'y': 3.0}",
        "tool_execution> Tool:add Args:{'x': 1.0}",
        'tool_execution> Tool:add Response:{"sum": 5}',
        'tool_execution> Tool:add Response:{"sum": 2}',
        "inference> It is 5.",
    ]
    assert [message.content for message in last_request(server).messages if isinstance(message, ToolMessage)] == [
        '{"sum": 5}',
        '{"sum": 2}',
    ]
    (tool,) = last_request(server).tools
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "x": {"type": "integer", "description": "the first"},
            "y": {"type": "integer", "description": "the second", "default": 1},
            "names": {"type": "array", "description": "whose numbers they are", "default": []},
        },
        "required": ["x"],
    }


async def test_the_last_character_of_a_session_id_is_enough(start_agents: Start) -> None:
    """The helper indexes the string it keeps where it means its last session."""
    async with start_agents(says("one"), says("two")) as server:

        def work() -> tuple[Any, Any, str]:
            agent = Agent(server.sync, model="scripted", instructions="")
            agent.create_session("s")
            first = agent.create_turn(QUESTION, stream=False)
            second = agent.create_turn(QUESTION, stream=False)
            return first, second, agent.session_id

        first, second, session_id = await in_thread(work)
    assert (first.output_message.content, second.output_message.content) == ("one", "two")
    assert first.session_id == second.session_id == session_id


async def test_tools_of_the_stack_and_of_the_client_in_one_turn(start_agents: Start) -> None:
    tools = Arithmetic()
    script = calls(("divide", '{"x": 6, "y": 3}'), ("add", '{"x": 2}'))
    async with start_agents(script, says("Done."), tools={"builtin::math": tools}) as server:

        def work() -> tuple[list[Any], dict[str, Any]]:
            agent = Agent(
                server.sync,
                model="scripted",
                instructions="",
                tools=["builtin::math/divide", add],
                max_infer_iters=5,
                enable_session_persistence=True,
                sampling_params={"strategy": {"type": "top_p", "temperature": 0.5, "top_p": 0.9}},
            )
            session_id = agent.create_session("s")
            return list(agent.create_turn(QUESTION, session_id=session_id)), agent.builtin_tools

        chunks, builtin_tools = await in_thread(work)
    assert set(builtin_tools) == {"add", "divide"}
    turn = chunks[-1].event.payload.turn
    steps = [step for step in turn.steps if step.step_type == "tool_execution"]
    assert [response.tool_name for step in steps for response in step.tool_responses] == ["divide", "add"]
    assert tools.seen == [{"x": 6, "y": 3}]
    progress = [
        chunk.event.payload
        for chunk in chunks
        if chunk.event.payload.event_type == "step_progress" and chunk.event.payload.step_type == "tool_execution"
    ]
    assert [(payload.delta.parse_status, payload.delta.tool_call.tool_name) for payload in progress] == [
        ("in_progress", "divide"),
        ("in_progress", "add"),
    ]
    assert last_request(server).sampling.temperature == 0.5


async def test_an_async_agent(start_agents: Start) -> None:
    """It lists the tools of a group with arguments by the whole group, in brackets."""
    tools = Arithmetic()
    group: Any = {"name": "builtin::math", "args": {"y": 40}}
    scripts = [calls(("divide", '{"x": 80}')), calls(("shout", '{"word": "a"}')), says("Done.")]
    async with start_agents(*scripts, tools={"builtin::math": tools}) as server:

        @client_tool  # type: ignore[untyped-decorator]  # the package's own
        async def shout(word: str) -> str:
            """Shouts.

            :param word: what
            """
            return word.upper()

        agent = AsyncAgent(server.client, model="scripted", instructions="", tools=[group, shout])
        session_id = await agent.create_session("s")
        turn: Any = await agent.create_turn(QUESTION, session_id=session_id, stream=False)
        stream: Any = await agent.create_turn(QUESTION, documents=None, toolgroups=None)
        again = [chunk async for chunk in stream]
    assert agent.builtin_tools == {"add": {"y": 40}, "divide": {"y": 40}}
    assert turn.output_message.content == "Done."
    assert tools.seen == [{"x": 80, "y": 40}]
    assert [step.step_type for step in turn.steps] == ["inference", "tool_execution"] * 2 + ["inference"]
    assert turn.steps[3].tool_responses[0].content == '"A"'
    assert again[-1].event.payload.turn.output_message.content == "Done."


def thought(action: Any = None, answer: str | None = None) -> str:
    return orjson.dumps({"thought": "hm", "action": action, "answer": answer}).decode()


async def test_a_react_agent_goes_on_with_a_turn_that_has_ended(start_agents: Start) -> None:
    tools = Arithmetic()
    divide = {"tool_name": "divide", "tool_params": [{"name": "x", "value": 6}, {"name": "y", "value": 2}]}
    adding = {"tool_name": "total", "tool_params": [{"name": "x", "value": 3}, {"name": "y", "value": 4}]}
    scripts = [says(thought(divide)), says(thought(adding)), says(thought(answer="7")), says(thought(answer="again"))]
    async with start_agents(*scripts, tools={"builtin::math": tools}) as server:

        @client_tool  # type: ignore[untyped-decorator]  # the package's own
        def total(x: int, y: int) -> int:
            """Adds two numbers.

            :param x: the first
            :param y: the second
            """
            return x + y

        def work() -> tuple[list[Any], list[str], Any, Any, str]:
            agent = ReActAgent(server.sync, model="scripted", tools=["builtin::math", total], json_response_format=True)
            session_id = agent.create_session("s")
            chunks: list[Any] = list(agent.create_turn(QUESTION, session_id=session_id))
            printed = [str(line) for line in AgentEventLogger().log(iter(chunks))]
            next_turn: Any = agent.create_turn(QUESTION, session_id=session_id, stream=False)
            session = server.sync.agents.session.retrieve(session_id=session_id, agent_id=agent.agent_id)
            return chunks, printed, next_turn, session, agent.agent_config["instructions"]

        chunks, printed, next_turn, session, instructions = await in_thread(work)
    turn = chunks[-1].event.payload.turn
    assert orjson.loads(turn.output_message.content)["answer"] == "7"
    assert turn.output_message.stop_reason == "end_of_turn"
    ids = {chunk.event.payload.turn.turn_id for chunk in chunks if hasattr(chunk.event.payload, "turn")}
    assert ids == {turn.turn_id}
    assert [step.step_type for step in turn.steps] == [
        *("inference", "tool_execution", "inference", "tool_execution", "inference"),
    ]
    assert [step.tool_responses[0].content for step in turn.steps if step.step_type == "tool_execution"] == [
        "3",
        "7",
    ]
    assert "tool_execution> Tool:divide Response:3" in printed
    assert tools.seen == [{"x": 6, "y": 2}]
    assert [stored.turn_id for stored in session.turns] == [turn.turn_id, next_turn.turn_id]
    assert session.turns[0] == turn

    first, second = [request for request in server.inference.requests if isinstance(request, ChatRequest)][:2]
    assert isinstance(first.response_format, JsonSchemaFormat)
    assert first.tools == [], "the instructions say all that the model is to know of tools"
    assert first.messages[0].content == instructions
    assert "divide" in instructions
    assert second.messages[-1] == UserMessage(content="Observation from divide: 3")


async def test_shields_before_and_behind_the_model(start_agents: Start) -> None:
    async with start_agents(
        says("a secret"), says("fine"), shields={"in": Guard("bomb"), "out": Guard("secret")}
    ) as server:

        def work() -> list[tuple[Any, list[str]]]:
            agent = Agent(server.sync, model="scripted", instructions="", input_shields=["in"], output_shields=["out"])
            session_id = agent.create_session("s")
            found = []
            for text in ("a bomb", "tell me", "hello"):
                messages: Any = [{"role": "user", "content": text}]
                chunks: list[Any] = list(agent.create_turn(messages, session_id=session_id))
                found.append((chunks, [str(line) for line in AgentEventLogger().log(iter(chunks))]))
            return found

        blocked, withheld, passed = await in_thread(work)
    kinds = [
        [(chunk.event.payload.event_type, getattr(chunk.event.payload, "step_type", None)) for chunk in chunks]
        for chunks, _ in (blocked, passed)
    ]
    assert kinds[0] == [("step_start", "shield_call"), ("step_complete", "shield_call"), ("turn_complete", None)]
    assert [kind for kind in kinds[1] if kind[0] != "step_progress"] == [
        ("step_start", "shield_call"),
        ("step_complete", "shield_call"),
        ("step_start", "inference"),
        ("step_complete", "inference"),
        ("step_start", "shield_call"),
        ("step_complete", "shield_call"),
        ("turn_complete", None),
    ]
    starts = [chunk.event.payload for chunk in passed[0] if chunk.event.payload.event_type == "step_start"]
    assert [start.metadata for start in starts if start.step_type == "shield_call"] == [
        {"touchpoint": "user-input"},
        {"touchpoint": "assistant-output"},
    ]
    for chunks, printed in (blocked, withheld):
        output = chunks[-1].event.payload.turn.output_message
        assert (output.content, output.stop_reason) == ("I cannot help.", "end_of_turn")
        assert "shield_call> {'violation_type': 'S1'} I cannot help." in printed
    assert "secret" not in str(withheld[0])
    assert passed[1].count("shield_call> No Violation") == 2


async def test_a_turn_that_fails_tells_why(start_agents: Start) -> None:
    async with start_agents([ProviderFailed("the model broke")]) as server:

        def work() -> tuple[list[str], str]:
            agent = Agent(server.sync, model="scripted", instructions="")
            session_id = agent.create_session("s")
            stream: Any = agent.create_turn(QUESTION, session_id=session_id)
            printed = [line.content for line in AgentEventLogger().log(stream)]
            with pytest.raises(RuntimeError) as failed:
                agent.create_turn(QUESTION, session_id=session_id, stream=False)
            return printed, str(failed.value)

        printed, failed = await in_thread(work)
    assert printed[-1] == "the model broke"
    assert failed == "Turn did not complete. Error: the model broke"


async def test_an_answer_cut_off_by_its_limit_is_no_wish_for_tools(start_agents: Start) -> None:
    async with start_agents(says("It is", finish_reason="length")) as server:

        def work() -> Any:
            agent = Agent(server.sync, model="scripted", instructions="", tools=[add])
            return agent.create_turn(QUESTION, session_id=agent.create_session("s"), stream=False)

        turn = await in_thread(work)
    assert turn.output_message.stop_reason == "out_of_tokens"
