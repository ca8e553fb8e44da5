"""Tools that the server runs for its clients, asked for in each client's own words: web search, MCP with approval."""

from typing import Any

import pytest
from agents import Agent, HostedMCPTool, MCPToolApprovalFunctionResult, MCPToolApprovalRequest, Runner, WebSearchTool
from langchain_core.messages import HumanMessage
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.capabilities import NativeTool
from pydantic_ai.native_tools import WebSearchTool as PydanticWebSearch

from llama_stack.api.tools import ToolResult
from llama_stack.testing.scripted import calls, says
from tests.responses.conftest import FixedTools
from tests.third_party import test_langchain_openai, test_openai_agents, test_pydantic_ai
from tests.third_party.conftest import Serve

SEARCH = calls(("web_search", '{"query": "owls"}'))


def a_web_search() -> FixedTools:
    sources = [{"title": "Owls", "url": "https://owls.example/"}]
    found = ToolResult(content="[1] Owls fly by night.", metadata={"sources": sources})
    return FixedTools(web_search=lambda query, **scope: found)


async def test_agents_search_the_web(serve: Serve) -> None:
    search = a_web_search()
    place: Any = {"type": "approximate", "city": "Oslo", "country": "no", "timezone": "Europe/Oslo"}
    domains: Any = {"allowed_domains": ["owls.example"]}
    search_tool = WebSearchTool(user_location=place, filters=domains, search_context_size="low")
    async with (
        serve(SEARCH, says("By night.[1]"), tools={"builtin::websearch": search}) as served,
        test_openai_agents.responses_model(served.url) as at,
    ):
        answer = await Runner.run(
            Agent(name="reader", model=at, instructions="Be brief.", tools=[search_tool]),
            "When do owls fly?",
            run_config=test_openai_agents.QUIET,
        )
    assert answer.final_output.startswith("By night.")
    assert [item.type for item in answer.raw_responses[0].output] == ["web_search_call", "message"]
    scope = {"allowed_domains": ["owls.example"], "context_size": "low"}
    assert search.calls == [("web_search", {"query": "owls", **scope})]
    told = served.chats[0].messages[0].content
    assert told == "Be brief.\n\nThe user is in or near Oslo, NO (time zone Europe/Oslo)."


async def test_pydantic_ai_searches_the_web(serve: Serve) -> None:
    search = a_web_search()
    async with (
        serve(SEARCH, says("By night."), tools={"builtin::websearch": search}) as served,
        test_pydantic_ai.responses_model(served.url) as at,
    ):
        agent = PydanticAgent(at, capabilities=[NativeTool(PydanticWebSearch())])
        answer = await agent.run("When do owls fly?")
    assert answer.output == "By night."
    assert search.calls == [("web_search", {"query": "owls"})]


async def test_langchain_searches_the_web(serve: Serve) -> None:
    search = a_web_search()
    async with (
        serve(SEARCH, says("By night."), tools={"builtin::websearch": search}) as served,
        test_langchain_openai.responses_model(served.url) as at,
    ):
        answer = await at.bind_tools([{"type": "web_search"}]).ainvoke([HumanMessage("When do owls fly?")])
    assert answer.text == "By night."
    assert search.calls == [("web_search", {"query": "owls"})]


@pytest.mark.parametrize("approve", [True, False])
async def test_agents_ask_a_person_before_a_call_of_an_mcp_server(serve: Serve, approve: bool) -> None:
    crm = FixedTools(drop=lambda name: ToolResult(content=f"dropped {name}"))
    asked: list[str] = []

    def decide(request: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        asked.append(request.data.name)
        return {"approve": True} if approve else {"approve": False, "reason": "too old"}

    config: Any = {"type": "mcp", "server_label": "crm", "require_approval": "always"}
    script = [calls(("drop", '{"name": "Ada"}')), says("Done.")]
    async with serve(*script, tools={"crm": crm}) as served, test_openai_agents.responses_model(served.url) as at:
        agent = Agent(name="clerk", model=at, tools=[HostedMCPTool(tool_config=config, on_approval_request=decide)])
        answer = await Runner.run(agent, "Drop Ada", run_config=test_openai_agents.QUIET)
    assert (answer.final_output, asked) == ("Done.", ["drop"])
    assert crm.calls == ([("drop", {"name": "Ada"})] if approve else [])
    told = served.chats[1].messages[-1].model_dump_json()
    assert ("dropped Ada" if approve else "too old") in told
