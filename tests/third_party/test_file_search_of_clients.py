"""Files that the server searches for its clients, asked for in each client's own words, and cited in its own types."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agents import Agent, FileSearchTool, Runner
from langchain_core.messages import AIMessage, HumanMessage
from pydantic_ai import Agent as PydanticAgent
from pydantic_ai.capabilities import NativeTool
from pydantic_ai.native_tools import FileSearchTool as PydanticFileSearch

from llama_stack.api.common import Caller
from llama_stack.api.memory import Document
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.server.app import create_app
from llama_stack.server.callers import LOCAL_OWNER
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import calls, says
from tests.memory.hashed import EmbeddingInference, open_memory_stack
from tests.third_party import test_langchain_openai, test_openai_agents, test_pydantic_ai

OWLS = "Owls hunt at night. Their eyes hold many rods."
STORE = "vs_birds"


@asynccontextmanager
async def birds(home: Path) -> AsyncIterator[str]:
    """The address of a server with one document, whose model searches for owls and answers."""
    script = (calls(("file_search", '{"query": "When do owls hunt?"}')), says("Owls hunt at night 【1†source】."))
    async with open_memory_stack(home, inference=EmbeddingInference(*script)) as stack:
        memory = await stack.memory()
        bank = MemoryBank(identifier=STORE, provider_id="", provider_resource_id="", bank=VectorBank())
        caller = Caller(owner=LOCAL_OWNER)
        await memory.create_bank(bank, caller)
        await memory.insert_documents(STORE, [Document(document_id="d", content=OWLS, name="owls.md")], caller)
        async with serving(create_app(stack)) as url:
            yield url


async def test_agents_search_files(tmp_path: Path) -> None:
    async with birds(tmp_path) as url, test_openai_agents.responses_model(url) as at:
        tool = FileSearchTool(vector_store_ids=[STORE], max_num_results=3, include_search_results=True)
        agent = Agent(name="reader", model=at, tools=[tool])
        answer = await Runner.run(agent, "When do owls hunt?", run_config=test_openai_agents.QUIET)
    found, message = answer.raw_responses[0].output
    assert answer.final_output == "Owls hunt at night."
    assert found.type == "file_search_call"
    assert [result.text for result in found.results or ()] == [OWLS]
    assert message.type == "message"
    part: Any = message.content[0]
    assert [(note.type, note.filename) for note in part.annotations] == [("file_citation", "owls.md")]


async def test_langchain_searches_files(tmp_path: Path) -> None:
    async with birds(tmp_path) as url, test_langchain_openai.responses_model(url) as at:
        tool = {"type": "file_search", "vector_store_ids": [STORE]}
        answer = await at.bind_tools([tool]).ainvoke([HumanMessage("When do owls hunt?")])
    assert isinstance(answer, AIMessage)
    assert answer.text == "Owls hunt at night."
    blocks: Any = answer.content_blocks
    [cited] = [block for block in blocks if block.get("annotations")]
    assert cited["annotations"][0]["type"] == "citation"
    assert cited["annotations"][0]["title"] == "owls.md"


async def test_pydantic_ai_searches_files(tmp_path: Path) -> None:
    async with birds(tmp_path) as url, test_pydantic_ai.responses_model(url) as at:
        agent = PydanticAgent(at, capabilities=[NativeTool(PydanticFileSearch(file_store_ids=[STORE]))])
        answer = await agent.run("When do owls hunt?")
    assert answer.output == "Owls hunt at night."
