"""A web search inside an agent's turn: what the model reads, what the caller gets, and a caller's own key."""

from pathlib import Path

from llama_stack.api.agents import AgentConfig, ToolExecutionStep, Turn, TurnCompleted
from llama_stack.api.common import Caller
from llama_stack.api.messages import ToolMessage, UserMessage, text_of
from llama_stack.testing.scripted import ScriptedInference, calls, says
from llama_stack.testing.scripted_stack import MODEL, open_scripted_stack
from tests.providers.remote.upstream import Reply, json_reply, running
from tests.providers.tools.opening import OWN_KEY

PAGE = {"title": "Llamas", "url": "https://llamas.example/", "description": "They hum."}
FOUND = json_reply({"type": "search", "web": {"results": [PAGE]}})


async def turn_of(home: Path, reply: Reply, caller: Caller, inference: ScriptedInference) -> tuple[Turn, list[str]]:
    """The turn of an agent that may search, and the keys its engine saw."""
    async with running(reply) as upstream:
        brave = {
            "provider_id": "brave-search",
            "provider_type": "remote::brave-search",
            "config": {"base_url": upstream.url},
            "tool_groups": [{"identifier": "builtin::websearch"}],
        }
        async with open_scripted_stack(inference=inference, providers={"tools": [brave]}, home=home) as stack:
            agents = await stack.agents()
            config = AgentConfig(model=MODEL, tool_groups=["builtin::websearch"])
            agent = await agents.create_agent(config, caller)
            session = await agents.create_session(agent.agent_id, "s", caller)
            question: list[UserMessage | ToolMessage] = [UserMessage(content="what do llamas do?")]
            events = agents.create_turn(agent.agent_id, session.session_id, question, caller)
            *_, last = [event async for event in events]
        assert isinstance(last, TurnCompleted)
        return last.turn, [received.headers["x-subscription-token"] for received in upstream.received]


def searching() -> ScriptedInference:
    return ScriptedInference(calls(("web_search", '{"query": "llama sounds"}')), says("They hum."))


async def test_the_model_reads_the_text_and_the_caller_gets_the_sources(tmp_path: Path) -> None:
    caller = Caller(owner="alice", provider_credentials={"brave_search_api_key": OWN_KEY})
    inference = searching()
    turn, keys = await turn_of(tmp_path, FOUND, caller, inference)
    [step] = [step for step in turn.steps if isinstance(step, ToolExecutionStep)]
    assert keys == [OWN_KEY]
    assert step.failed == []
    assert step.metadata == {
        step.tool_calls[0].id: {"sources": [{"title": "Llamas", "url": "https://llamas.example/"}]}
    }
    told = inference.requests[-1].messages[-1]  # type: ignore[union-attr]  # a chat is what was asked
    assert isinstance(told, ToolMessage)
    assert text_of(told.content).endswith("[1] Llamas\nhttps://llamas.example/\nThey hum.")
    assert turn.output is not None
    assert turn.output.content == "They hum."


async def test_a_search_that_fails_is_told_to_the_model_and_ends_no_turn(tmp_path: Path, caller: Caller) -> None:
    inference = searching()
    turn, keys = await turn_of(tmp_path, FOUND, caller, inference)
    [step] = [step for step in turn.steps if isinstance(step, ToolExecutionStep)]
    call_id = step.tool_calls[0].id
    assert keys == []
    assert (step.failed, step.metadata) == ([call_id], {call_id: {"code": "missing_api_key", "status": 401}})
    assert "BRAVE_SEARCH_API_KEY" in text_of(step.results[0].content)
    assert turn.end_reason == "completed"
