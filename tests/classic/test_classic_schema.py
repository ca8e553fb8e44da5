"""Classic answers are as the OpenAPI document describes them."""

from typing import Any

from llama_stack.api.inference import ReasoningDelta, TextDelta, TokenLogprob
from llama_stack.server import classic_agent_schema as agents
from llama_stack.server import classic_schema as classic
from llama_stack.server import schema
from llama_stack.testing.scripted import calls, says
from tests.classic.conftest import Arithmetic, Guard, Start, frames_of
from tests.server.test_openapi import strictly

HELLO: Any = [{"role": "user", "content": "hello"}]
CHAT: Any = {"model_id": "scripted", "messages": HELLO}


async def test_inference(start: Start) -> None:
    script = [
        ReasoningDelta(text="hm"),
        TextDelta(text="a", logprobs=[TokenLogprob(token="a", logprob=-1)]),
        *calls(("f", "{}"), ("g", "no")),
    ]
    posts: list[tuple[str, Any, type[schema.Answer]]] = [
        ("chat-completion", CHAT, classic.ClassicChatAnswer),
        ("batch-chat-completion", {"model_id": "m", "messages_batch": [HELLO]}, classic.ClassicChatBatch),
        ("completion", {"model_id": "m", "content": "x"}, classic.ClassicCompletion),
        ("batch-completion", {"model_id": "m", "content_batch": ["x"]}, classic.ClassicCompletionBatch),
        ("embeddings", {"model_id": "m", "contents": ["x"]}, classic.ClassicEmbeddings),
    ]
    streams: list[tuple[str, Any, type[schema.Answer]]] = [
        ("chat-completion", CHAT, classic.ClassicChatFrame),
        ("completion", {"model_id": "m", "content": "x"}, classic.ClassicCompletionFrame),
    ]
    async with start(script) as server:
        for path, body, model in posts:
            strictly(model, (await server.http.post(f"/v1/inference/{path}", json=body)).json())
        for path, body, model in streams:
            response = await server.http.post(f"/v1/inference/{path}", json={**body, "stream": True})
            for frame in frames_of(response.content):
                strictly(model, frame)


async def test_agents_and_tools(start_agents: Start) -> None:
    scripts = [
        calls(("add", '{"x": 1, "y": 2}'), ("divide", '{"x": 1, "y": 0}')),
        [ReasoningDelta(text="hm"), *says("so")],
    ]
    config = {
        "model": "scripted",
        "instructions": "",
        "toolgroups": [{"name": "builtin::math", "approval": ["divide"]}],
        "input_shields": ["guard"],
        "output_shields": ["guard"],
    }
    async with start_agents(*scripts, tools={"builtin::math": Arithmetic()}, shields={"guard": Guard("so")}) as server:

        async def post(path: str, model: type[schema.Answer], body: Any) -> Any:
            answer = (await server.http.post(path, json=body)).json()
            strictly(model, answer)
            return answer

        agent = await post("/v1/agents", agents.ClassicAgentCreated, {"agent_config": config})
        agent_path = f"/v1/agents/{agent['agent_id']}"
        made = await post(f"{agent_path}/session", agents.ClassicSessionCreated, {"session_name": "s"})
        session_path = f"{agent_path}/session/{made['session_id']}"
        turn = await post(f"{session_path}/turn", agents.ClassicTurn, {"messages": HELLO})
        turn_path = f"{session_path}/turn/{turn['turn_id']}"
        decided = {"approvals": [{"call_id": "call_1", "approve": True}], "stream": True}
        for frame in frames_of((await server.http.post(f"{turn_path}/resume", json=decided)).content):
            strictly(agents.ClassicTurnFrame, frame)
        call = {"tool_name": "add", "kwargs": {"x": 1, "y": 2}}
        await post("/v1/tool-runtime/invoke", classic.ClassicInvocation, call)
        gets: list[tuple[str, type[schema.Answer]]] = [
            (turn_path, agents.ClassicTurn),
            (f"{turn_path}/step/{turn['steps'][0]['step_id']}", agents.ClassicStepAnswer),
            (session_path, agents.ClassicSession),
            (f"{agent_path}/sessions", agents.ClassicSessionList),
            (agent_path, agents.ClassicAgent),
            ("/v1/agents", agents.ClassicAgentList),
            ("/v1/toolgroups", classic.ClassicToolGroupList),
            ("/v1/toolgroups/builtin::math", classic.ClassicToolGroup),
            ("/v1/tools", classic.ClassicToolList),
            ("/v1/tools/add", classic.ClassicTool),
            ("/v1/tool-runtime/list-tools", classic.ClassicToolDefList),
        ]
        for path, model in gets:
            strictly(model, (await server.http.get(path)).json())
        for path in (session_path, agent_path):
            strictly(classic.Removed, (await server.http.delete(path)).json())
    assert [step["step_type"] for step in turn["steps"]] == ["shield_call", "inference", "tool_execution"]
