"""Other people's hosts, as their users write them: openai-agents and pydantic-ai call a stack's tools and agents."""

import json
from pathlib import Path
from typing import Any

import pytest
from agents import Agent as OpenAIAgent
from agents import ModelResponse, Runner
from agents import Usage as OpenAIUsage
from agents.mcp import MCPServerStreamableHttp
from agents.models.interface import Model
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.messages import ModelMessage, ToolCallPart, ToolReturnPart
from pydantic_ai.messages import ModelResponse as PydanticResponse
from pydantic_ai.messages import TextPart as PydanticText
from pydantic_ai.models.function import AgentInfo, FunctionModel

from llama_stack.api.agents import AgentConfig
from llama_stack.testing.scripted import says
from llama_stack.testing.scripted_stack import MODEL
from tests.mcp_host.hosting import LOCAL, Scales, served

THINGS = {"things": [{"name": "clay"}]}


async def has_agent(stack: Any) -> None:
    await (await stack.agents()).create_agent(AgentConfig(model=MODEL, name="potter"), LOCAL)


class Caller(Model):
    """Calls one tool of its host's, and then says what came of it."""

    def __init__(self, name: str, arguments: dict[str, Any]) -> None:
        self.name = name
        self.arguments = arguments
        self.offered: list[str] = []

    async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **settings: Any) -> ModelResponse:
        tools = settings.get("tools") or next(one for one in rest if isinstance(one, list))
        self.offered = [tool.name for tool in tools]
        outputs = [one["output"] for one in input if one.get("type") == "function_call_output"]
        if not outputs:
            call = ResponseFunctionToolCall(
                call_id="c1", name=self.name, arguments=json.dumps(self.arguments), type="function_call"
            )
            return ModelResponse(output=[call], usage=OpenAIUsage(), response_id=None)
        said = ResponseOutputText(text=json.dumps(outputs[0]), type="output_text", annotations=[])
        message = ResponseOutputMessage(id="m", content=[said], role="assistant", status="completed", type="message")
        return ModelResponse(output=[message], usage=OpenAIUsage(), response_id=None)

    def stream_response(self, *rest: Any, **settings: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("weigh", THINGS, "1 kg"),
        ("potter", {"message": "Hello."}, "Good day."),
        ("break_down", {}, "the scales are broken; oil them"),
    ],
)
async def test_openai_agents(name: str, arguments: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    model = Caller(name, arguments)
    async with served(tmp_path, says("Good day."), tools={"scales": Scales()}) as (stack, url):
        await has_agent(stack)
        async with MCPServerStreamableHttp({"url": url}, client_session_timeout_seconds=30) as server:
            agent = OpenAIAgent(name="host", model=model, mcp_servers=[server])
            result = await Runner.run(agent, "Go.")
    assert model.offered == ["weigh", "break_down", "explode", "wait", "potter"]
    assert wanted in result.final_output


@pytest.mark.parametrize(
    ("name", "arguments", "wanted"),
    [
        ("weigh", THINGS, "['1 kg', BinaryImage("),
        ("potter", {"message": "Hello."}, "{'answer': 'Good day.', 'session_id': 'session_"),
    ],
)
async def test_pydantic_ai(name: str, arguments: dict[str, Any], wanted: str, tmp_path: Path) -> None:
    pytest.importorskip("fastmcp", reason="needs 'pydantic-ai-slim[mcp]'")
    from pydantic_ai.mcp import MCPToolset

    offered: list[str] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> PydanticResponse:
        offered[:] = [tool.name for tool in info.function_tools]
        returned = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if not returned:
            return PydanticResponse(parts=[ToolCallPart(name, arguments)])
        return PydanticResponse(parts=[PydanticText(str(returned[0].content))])

    async with served(tmp_path, says("Good day."), tools={"scales": Scales()}) as (stack, url):
        await has_agent(stack)
        agent = PydanticAgent(FunctionModel(model), toolsets=[MCPToolset(url)])
        async with agent:
            result = await agent.run("Go.")
    assert offered == ["weigh", "break_down", "explode", "wait", "potter"]
    assert result.output.startswith(wanted)
