"""Agents, sessions, turns and steps of the classic API: what goes over the wire, whole and frame by frame."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest
from llama_stack_client import (
    APIStatusError,
    AsyncLlamaStackClient,
    BadRequestError,
    ConflictError,
    InternalServerError,
    NotFoundError,
)

from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest, GrammarFormat, ReasoningDelta, Sampling
from llama_stack.api.messages import AssistantMessage, ImagePart, SystemMessage, TextPart, UserMessage
from llama_stack.api.tools import NamedToolChoice, ToolDefinition, ToolGroup
from llama_stack.errors import ProviderFailed, ProviderUnavailable
from llama_stack.testing.scripted import calls, says
from llama_stack.wire.classic.agents import decode_agent_config
from tests.classic.asking import ADD, HELLO, asked, begin, config, path, turn
from tests.classic.conftest import Arithmetic, Start, frames_of

# --- frames ---------------------------------------------------------------------------------------------------------


async def test_a_turn_with_a_tool_of_the_stack_frame_by_frame(start_agents: Start) -> None:
    tools = {"builtin::math": Arithmetic()}
    scripts = (calls(("add", '{"x": 2, "y": 3}')), [ReasoningDelta(text="so"), *says("It is", " 5.")])
    async with start_agents(*scripts, tools=tools) as server:
        ids = await begin(server, toolgroups=["builtin::math"])
        body = {"messages": HELLO, "stream": True, "documents": None, "toolgroups": None, "tool_config": None}
        response = await server.http.post(path(ids), json=body)
        stored = await server.http.get(f"/v1/agents/{ids[0]}/session/{ids[1]}")
    assert b"[DONE]" not in response.content
    assert b"\nid:" not in response.content
    payloads = [frame["event"]["payload"] for frame in frames_of(response.content)]
    told = [(payload["event_type"], payload.get("step_type")) for payload in payloads]
    assert told == [
        ("step_start", "inference"),
        *[("step_progress", "inference")] * 4,
        ("step_complete", "inference"),
        ("step_start", "tool_execution"),
        ("step_progress", "tool_execution"),
        ("step_complete", "tool_execution"),
        ("step_start", "inference"),
        *[("step_progress", "inference")] * 3,
        ("step_complete", "inference"),
        ("turn_complete", None),
    ]
    call = {
        "call_id": "call_0",
        "tool_name": "add",
        "arguments": {"x": 2, "y": 3},
        "arguments_json": '{"x": 2, "y": 3}',
    }
    assert payloads[4]["delta"] == {"type": "tool_call", "parse_status": "succeeded", "tool_call": call, "text": ""}
    assert payloads[7]["delta"] == {"type": "tool_call", "parse_status": "in_progress", "tool_call": call, "text": ""}
    inferred, executed = payloads[5]["step_details"], payloads[8]["step_details"]
    assert inferred["model_response"] == {
        "role": "assistant",
        "content": "",
        "stop_reason": "end_of_message",
        "tool_calls": [call],
    }
    assert executed["tool_calls"] == [call]
    assert executed["tool_responses"] == [
        {"call_id": "call_0", "tool_name": "add", "content": "5", "metadata": {"source": "head"}}
    ]
    assert [payload["delta"] for payload in payloads[10:13]] == [
        {"type": "reasoning", "reasoning": "so", "text": ""},
        {"type": "text", "text": "It is"},
        {"type": "text", "text": " 5."},
    ]
    whole = payloads[-1]["turn"]
    assert [step["step_id"] for step in whole["steps"]] == [payloads[place]["step_id"] for place in (5, 8, 13)]
    assert {step["turn_id"] for step in whole["steps"]} == {whole["turn_id"]}
    assert whole["input_messages"] == HELLO
    assert (whole["session_id"], whole["output_attachments"]) == (ids[1], [])
    assert (whole["output_message"]["content"], whole["output_message"]["stop_reason"]) == ("It is 5.", "end_of_turn")
    assert stored.json()["turns"] == [whole]


async def test_a_stream_that_fails_ends_with_one_error_frame(start_agents: Start) -> None:
    async with start_agents([ProviderFailed("broken")], says("better")) as server:
        ids = await begin(server)
        response = await server.http.post(path(ids), json={"messages": HELLO, "stream": True})
        after = await turn(server, ids)
    first, last = frames_of(response.content)
    assert first["event"]["payload"]["event_type"] == "step_start"
    assert last["error"]["message"] == "broken"
    assert after.output_message.content == "better"


async def test_a_whole_turn_is_the_end_of_a_streamed_one(start_agents: Start) -> None:
    async with start_agents(says("a", "b")) as server:
        ids = await begin(server)
        whole = await turn(server, ids)
        streamed = [chunk async for chunk in await turn(server, ids, stream=True)]
    last: Any = streamed[-1].event.payload
    assert last.turn.output_message == whole.output_message
    assert [step.step_type for step in last.turn.steps] == [step.step_type for step in whole.steps]
    assert whole.completed_at is not None


# --- agents and sessions --------------------------------------------------------------------------------------------


async def test_an_agents_config_reaches_the_model_and_comes_back(start_agents: Start) -> None:
    wanted = config(
        name="math",
        toolgroups=["builtin::math/add", {"name": "builtin::math/divide", "args": {"y": 2}, "approval": "always"}],
        client_tools=[{**ADD, "name": "other"}],
        tool_config={"tool_choice": "add", "tool_prompt_format": "json"},
        sampling_params={"strategy": {"type": "top_k", "top_k": 5}, "max_tokens": 50},
        response_format={"type": "grammar", "bnf": {"grammar": "root ::= [a-z]+"}},
        max_infer_iters=3,
        input_shields=[],
        output_shields=None,
        enable_session_persistence=False,
    )
    script = calls(("add", '{"x": 1, "y": 2}'))
    async with start_agents(script, says("ok"), tools={"builtin::math": Arithmetic()}) as server:
        agent = await server.client.agents.create(agent_config=wanted)
        session = await server.client.agents.session.create(agent.agent_id, session_name="s")
        await turn(server, (agent.agent_id, session.session_id))
        stored = (await server.http.get(f"/v1/agents/{agent.agent_id}")).json()
        (listed,) = (await server.http.get("/v1/agents")).json()["data"]
    request = server.inference.requests[0]
    assert isinstance(request, ChatRequest)
    assert request.messages == [SystemMessage(content="Be brief."), UserMessage(content="hello")]
    assert request.sampling == Sampling(top_k=5, max_tokens=50)
    assert request.tool_choice == NamedToolChoice(names=["add"])
    assert request.tool_prompt_format == "json"
    assert [tool.name for tool in request.tools] == ["add", "divide", "other"]
    assert request.tools[1].parameters is not None
    assert list(request.tools[1].parameters["properties"]) == ["x"], "the model is not asked for what is given"
    formed = server.inference.requests[-1]
    assert isinstance(formed, ChatRequest)
    assert formed.response_format == GrammarFormat(grammar="root ::= [a-z]+")

    assert stored == listed
    kept = stored["agent_config"]
    assert kept["toolgroups"] == wanted["toolgroups"]
    assert kept["tool_config"] == {
        "tool_choice": "add",
        "tool_prompt_format": "json",
        "system_message_behavior": "append",
    }
    assert kept["sampling_params"] == {
        "strategy": {"type": "top_k", "top_k": 5},
        "max_tokens": 50,
        "repetition_penalty": 1.0,
        "stop": None,
    }
    assert (kept["name"], kept["max_infer_iters"], kept["response_format"]) == ("math", 3, wanted["response_format"])
    first, second = [decode_agent_config({"agent_config": body}) for body in (wanted, kept)]
    assert second == first.model_copy(update={"metadata": {"system_message_behavior": "append"}})


async def test_sessions_are_read_listed_and_deleted(start_agents: Start) -> None:
    async with start_agents(says("one"), says("two"), says("three")) as server:
        agent_id, session_id = ids = await begin(server)
        turns = [await turn(server, ids) for _ in range(3)]
        sessions = server.client.agents.session
        whole = await sessions.retrieve(session_id, agent_id=agent_id)
        some = await sessions.retrieve(session_id, agent_id=agent_id, turn_ids=[turns[0].turn_id, turns[2].turn_id])
        repeated = await server.http.get(
            f"/v1/agents/{agent_id}/session/{session_id}",
            params=[("turn_ids", turns[0].turn_id), ("turn_ids", turns[1].turn_id)],
        )
        other = await sessions.create(agent_id, session_name="other")
        with pytest.raises(BadRequestError, match="session_name: name must be 1 to 512 bytes"):
            await sessions.create(agent_id, session_name="x" * 600)
        listed = (await server.http.get(f"/v1/agents/{agent_id}/sessions")).json()
        second = (await server.http.get(f"/v1/agents/{agent_id}/sessions?start_index=1&limit=1")).json()
        none = (await server.http.get(f"/v1/agents/{agent_id}/sessions?start_index=7")).json()
        first = (await server.http.get(f"/v1/agents/{agent_id}/sessions?limit=1")).json()
        await sessions.delete(session_id, agent_id=agent_id)
        with pytest.raises(NotFoundError):
            await sessions.retrieve(session_id, agent_id=agent_id)
        await server.client.agents.delete(agent_id)
        with pytest.raises(NotFoundError):
            await sessions.retrieve(other.session_id, agent_id=agent_id)
    assert [stored.turn_id for stored in whole.turns] == [one.turn_id for one in turns]
    assert [stored.turn_id for stored in some.turns] == [turns[0].turn_id, turns[2].turn_id]
    assert [stored["turn_id"] for stored in repeated.json()["turns"]] == [turns[0].turn_id, turns[1].turn_id]
    assert whole.session_name == "s"
    assert [session["session_id"] for session in listed["data"]] == [session_id, other.session_id]
    assert [session["session_id"] for session in second["data"]] == [other.session_id]
    assert (first["has_more"], second["has_more"], none) == (True, False, {"data": [], "has_more": False, "url": None})


async def test_the_history_of_a_session_is_said_again(start_agents: Start) -> None:
    async with start_agents(says("one"), says("two")) as server:
        ids = await begin(server)
        await turn(server, ids)
        await turn(server, ids, [{"role": "user", "content": "and?", "context": "facts"}])
    assert asked(server).messages == [
        SystemMessage(content="Be brief."),
        UserMessage(content="hello"),
        AssistantMessage(content="one"),
        UserMessage(content="and?\nfacts"),
    ]


# --- one turn -------------------------------------------------------------------------------------------------------


async def test_steps_and_turns_are_read_one_by_one(start_agents: Start) -> None:
    script = calls(("divide", '{"x": 1, "y": 0}'))
    async with start_agents(script, says("No."), tools={"builtin::math": Arithmetic()}) as server:
        ids = await begin(server, toolgroups=["builtin::math"])
        whole = await turn(server, ids)
        again = await server.client.agents.turn.retrieve(whole.turn_id, agent_id=ids[0], session_id=ids[1])
        where = {"agent_id": ids[0], "session_id": ids[1], "turn_id": whole.turn_id}
        found = [(await server.client.agents.steps.retrieve(step.step_id, **where)).step for step in whole.steps]
        with pytest.raises(NotFoundError, match="has no step 'nope'"):
            await server.client.agents.steps.retrieve("nope", **where)
        with pytest.raises(NotFoundError, match="has no turn 'nope'"):
            await server.client.agents.turn.retrieve("nope", agent_id=ids[0], session_id=ids[1])
    assert again == whole
    assert found == whole.steps
    (response,) = whole.steps[1].tool_responses
    assert (response.content, response.is_error) == ("division by zero", True)


async def test_documents_stand_behind_the_users_words(start_agents: Start) -> None:
    text = b64encode("später".encode()).decode()
    documents: Any = [
        {"content": "plain", "mime_type": "text/plain"},
        {"content": {"uri": f"data:text/markdown;base64,{text}"}, "mime_type": "text/markdown"},
        {"content": "data:text/csv,a%2Cb", "mime_type": "text/csv"},
        {"content": {"type": "text", "text": "item"}, "mime_type": "text/plain"},
    ]
    picture: Any = {"content": {"uri": "https://example.com/a.png"}, "mime_type": "image/png"}
    async with start_agents() as server:
        ids = await begin(server)
        await turn(server, ids, documents=documents)
        texts = asked(server).messages[-1]
        await turn(server, ids, documents=[picture])
        pictured = asked(server).messages[-1]
        for document, message in (
            ({"content": {"uri": "https://example.com/a.txt"}, "mime_type": "text/plain"}, "has no memory provider"),
            ({"content": "data:application/pdf;base64,JVBERg==", "mime_type": "application/pdf"}, "send its text"),
            ({"content": "file:///etc/passwd", "mime_type": "text/plain"}, "http, https and data: URLs only"),
            ({"content": "x", "mime_type": "application/zip"}, "of type application/zip is not sent as text"),
            ({"content": "data:text/plain;base64,!", "mime_type": "text/plain"}, "holds no UTF-8 text"),
        ):
            with pytest.raises(BadRequestError, match=message):
                await turn(server, ids, documents=[document])
    assert texts == UserMessage(
        content="hello"
        "\n\nDocument (text/plain):\nplain"
        "\n\nDocument (text/markdown):\nspäter"
        "\n\nDocument (text/csv):\na,b"
        "\n\nDocument (text/plain):\nitem"
    )
    assert pictured.content == [TextPart(text="hello"), ImagePart(url="https://example.com/a.png")]


async def test_a_turns_tool_groups_replace_the_agents_and_keep_its_arguments(start_agents: Start) -> None:
    tools = Arithmetic()
    one, two = calls(("add", '{"x": 1}')), says("Done.")
    async with start_agents(one, two, tools={"builtin::math": tools, "builtin::more": Arithmetic()}) as server:
        ids = await begin(
            server, toolgroups=[{"name": "builtin::math/add", "args": {"y": 10, "x": 5}}, "builtin::more/divide"]
        )
        await turn(
            server,
            ids,
            toolgroups=[{"name": "builtin::math/add", "args": {"x": 7}}],
            tool_config={"tool_choice": "required"},
        )
        first = server.inference.requests[0]
        await turn(server, ids, toolgroups=[])
    assert tools.seen == [{"x": 7, "y": 10}], "the groups' arguments win over the model's"
    assert isinstance(first, ChatRequest)
    assert [tool.name for tool in first.tools] == ["add"]
    assert first.tool_choice == "required"
    assert asked(server).tools == []


async def test_a_prompt_that_replaces_is_told_the_tools_where_it_wants(start_agents: Start) -> None:
    replace = {"system_message_behavior": "replace"}
    async with start_agents(tools={"builtin::math": Arithmetic()}) as server:
        groups = ["builtin::math/add"]
        ids = await begin(server, instructions="{{function_definitions}}", toolgroups=groups, tool_config=replace)
        await turn(server, ids)
        filled = asked(server)
        ids = await begin(server, toolgroups=groups, tool_config=replace)
        await turn(server, ids)
        bare = asked(server)
        ids = await begin(server, toolgroups=groups)
        await turn(server, ids, tool_config=replace)
        bare_turn = asked(server)
    assert str(filled.messages[0].content).startswith('{"name":"add","description":"Adds two numbers"')
    assert [tool.name for tool in filled.tools] == ["add"]
    assert (bare.tools, bare_turn.tools) == ([], [])


# --- errors ---------------------------------------------------------------------------------------------------------


async def test_a_turn_is_not_run_again_by_a_client_that_repeats_what_failed(start_agents: Start) -> None:
    broken = ProviderFailed("broken")
    async with start_agents([broken]) as server:
        ids = await begin(server)
        async with AsyncLlamaStackClient(base_url=server.url, max_retries=2) as patient:
            with pytest.raises(InternalServerError, match="broken") as failed:
                await patient.agents.turn.create(ids[1], agent_id=ids[0], messages=HELLO)
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert len(server.inference.requests) == 1


async def test_a_second_turn_of_a_session_has_to_wait(start_agents: Start) -> None:
    go_on = asyncio.Event()
    async with start_agents([*says("a")[:1], go_on, *says("b")]) as server:
        ids = await begin(server)
        running = asyncio.create_task(turn(server, ids))
        async with asyncio.timeout(60):
            await server.inference.opened.wait()
        with pytest.raises(ConflictError, match="is being worked on"):
            await turn(server, ids)
        with pytest.raises(ConflictError, match="is being worked on"):
            await turn(server, ids, stream=True)
        go_on.set()
        assert (await running).output_message.content == "ab"


@pytest.mark.parametrize(
    ("agent_config", "status", "message"),
    [
        ({"model": "nope", "instructions": ""}, 404, "here is no model 'nope'"),
        (config(toolgroups=["builtin::nope"]), 404, "here is no tool group 'builtin::nope'"),
        (config(memory_banks=["nope"]), 404, "agent_config.memory_banks: there is no memory bank 'nope'"),
        (config(input_shields=["nope"]), 404, "here is no shield 'nope'"),
        (config(toolgroups=["builtin::math/"]), 400, "names no tool group or no tool of one"),
        (config(toolgroups=[""]), 400, "names no tool group or no tool of one"),
        (config(max_infer_iters=0), 400, "agent_config.max_infer_iters"),
        (config(tool_choice="auto", tool_config={"tool_choice": "none"}), 400, "differs from tool_config.tool_choice"),
        ({"instructions": ""}, 400, "agent_config.model: is required"),
        (config(client_tools=[{"name": 1}]), 400, "agent_config.client_tools.0.name"),
        (None, 400, "agent_config"),
    ],
)
async def test_an_agent_that_cannot_be(start_agents: Start, agent_config: Any, status: int, message: str) -> None:
    async with start_agents(tools={"builtin::math": Arithmetic()}) as server:
        with pytest.raises(APIStatusError, match=message) as refused:
            await server.client.agents.create(agent_config=agent_config)
    assert refused.value.status_code == status
    body: Any = refused.value.body
    assert body["detail"] == body["error"]["message"]


async def test_what_there_is_not(start_agents: Start) -> None:
    async with start_agents() as server:
        ids = await begin(server)
        with pytest.raises(NotFoundError, match="here is no agent"):
            await turn(server, ("agent_nope", ids[1]))
        with pytest.raises(NotFoundError, match="here is no session"):
            await turn(server, (ids[0], "session_nope"), stream=True)
        with pytest.raises(NotFoundError, match="no session whose id ends in 'x'"):
            await turn(server, (ids[0], "x"))
        with pytest.raises(BadRequestError, match="messages"):
            await turn(server, ids, [])
        with pytest.raises(BadRequestError, match=r"messages\.0\.role"):
            await turn(server, ids, [{"role": "system", "content": "x"}])
        for query in ("start_index=-1", "limit=0", "limit=x"):
            assert (await server.http.get(f"/v1/agents?{query}")).status_code == 400


@pytest.mark.parametrize(
    ("tool", "param", "words"),
    [
        ({"name": ""}, "name", "1 to 64 letters, digits, _ and -"),
        ({"name": "a b!"}, "name", "not 'a b!'"),
        ({"name": "a", "parameters": [{"name": "x", "parameter_type": "frobnicate"}]}, "parameters.0.parameter_type",
         "there is no type 'frobnicate'"),
        ({"name": "a", "parameters": [{"name": "x", "parameter_type": "list[integr]"}]}, "parameters.0.parameter_type",
         "there is no type 'integr'"),
        ({"name": "a", "parameters": [{"name": "x", "parameter_type": "array", "items": {"type": "frob"}}]},
         "parameters", "/properties/x/items has an unknown type 'frob'"),
    ],
)  # fmt: skip
async def test_a_client_tool_that_no_model_can_be_offered_is_refused(
    start_agents: Start, tool: Any, param: str, words: str
) -> None:
    async with start_agents() as server:
        with pytest.raises(BadRequestError) as refused:
            await server.client.agents.create(agent_config=config(client_tools=[tool]))
        agents = (await server.http.get("/v1/agents")).json()["data"]
    error: Any = refused.value.body
    assert error["error"]["param"] == f"agent_config.client_tools.0.{param}"
    assert words in error["error"]["message"]
    assert agents == []


async def test_parameters_of_a_class_take_any_value(start_agents: Start) -> None:
    names = ("Colour", "Optional", "any", "datetime")
    parameters = [{"name": name, "parameter_type": name, "description": ""} for name in names]
    async with start_agents(says("Done.")) as server:
        ids = await begin(server, client_tools=[{"name": "paint", "parameters": parameters}])
        await turn(server, ids)
    offered = asked(server).tools[0].parameters
    assert offered is not None
    assert offered["properties"] == {name: {"description": ""} for name in names}


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"toolgroups": ["builtin::nope"]}, "toolgroups"),
        ({"toolgroups": ["builtin::math/nope"]}, "toolgroups"),
        ({"toolgroups": ["builtin::math"], "tool_config": {"tool_choice": "nope"}}, "tool_config.tool_choice"),
        ({"tool_config": {"tool_choice": "required"}}, "tool_config.tool_choice"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_turn_refuses_is_named_as_its_body_names_it(
    start_agents: Start, wanted: dict[str, Any], param: str, stream: bool
) -> None:
    async with start_agents(tools={"builtin::math": Arithmetic()}) as server:
        agent_id, session_id = await begin(server)
        answer = await server.http.post(
            f"/v1/agents/{agent_id}/session/{session_id}/turn",
            json={"messages": HELLO, "stream": stream, **wanted},
        )
    assert answer.json()["error"]["param"] == param
    assert answer.status_code == (404 if wanted.get("toolgroups") == ["builtin::nope"] else 400)


class Away(Arithmetic):
    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        raise ProviderUnavailable("cannot reach it")


@pytest.mark.parametrize(
    ("wanted", "param", "words"),
    [
        ({"client_tools": [ADD, ADD]}, "agent_config.client_tools", "two tools are named 'add'"),
        ({"client_tools": [ADD], "toolgroups": ["builtin::math"]}, "agent_config.client_tools",
         "'add' is a tool of the group 'builtin::math', too"),
        ({"toolgroups": ["builtin::math/nope"]}, "agent_config.toolgroups",
         "'builtin::math' has no tool 'nope'; it has: add, divide"),
        ({"toolgroups": ["builtin::math", "builtin::more"]}, "agent_config.toolgroups",
         "'builtin::math' and 'builtin::more' both offer a tool 'add'"),
        ({"toolgroups": ["builtin::nope"]}, "agent_config.toolgroups", "there is no tool group 'builtin::nope'"),
        ({"toolgroups": ["builtin::math"], "tool_config": {"tool_choice": "nope"}},
         "agent_config.tool_config.tool_choice", "there is no tool 'nope'; the agent has: add, divide"),
        ({"model": "embedder"}, "model", "'embedder' is of type embedding"),
    ],
)  # fmt: skip
async def test_what_every_turn_would_refuse_is_refused_when_the_agent_is_created(
    start_agents: Start, wanted: Any, param: str, words: str
) -> None:
    tools = {"builtin::math": Arithmetic(), "builtin::more": Arithmetic()}
    async with start_agents(tools=tools, embedding_models={"embedder": 2}) as server:
        answer = await server.http.post("/v1/agents", json={"agent_config": config(**wanted)})
        agents = (await server.http.get("/v1/agents")).json()["data"]
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (404 if "there is no tool group" in words else 400, param)
    assert words.lower() in error["message"].lower()
    assert agents == []


async def test_a_group_that_cannot_be_listed_now_does_not_keep_an_agent_from_being_created(
    start_agents: Start,
) -> None:
    wanted = config(toolgroups=["builtin::away/nope"], tool_config={"tool_choice": "nope"}, client_tools=[ADD])
    async with start_agents(tools={"builtin::away": Away()}) as server:
        answer = await server.http.post("/v1/agents", json={"agent_config": wanted})
    assert answer.status_code == 200
