"""The tools over the stack's memory: the contract of tools, what they find and keep, and what they refuse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest
from llama_stack.api.memory import Document
from llama_stack.api.messages import text_of
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.api.tools import ToolGroup, ToolResult, Tools
from llama_stack.compose import LocalStack
from llama_stack.errors import InvalidRequest, NotFound, ProviderUnavailable
from llama_stack.provider import Ground, ToolsFloor
from llama_stack.testing.scripted import ScriptedInference
from llama_stack.testing.tools_contract import Backend, OpenTools, ToolsContract
from llama_stack_providers.inline.rag_runtime import provider
from tests.memory_faces.stacks import WORDS, bag_of_words, open_memory_stack

GROUP = ToolGroup(identifier="builtin::rag", provider_id="rag", provider_resource_id="builtin::rag")
ALICE = Caller(owner="alice")
LLAMAS = "Llamas carry wool over the Andes."


class Engine(ScriptedInference):
    """Embeds; once it is told to, it fails or never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.backend: Backend = "answers"
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        self.asked.set()
        try:
            if self.backend == "fails":
                raise ProviderUnavailable("the engine of the vectors is down")
            if self.backend == "hangs":
                await asyncio.Event().wait()
            return bag_of_words(request)
        finally:
            self.left.set()


@asynccontextmanager
async def opened(stack: LocalStack, home: Path, **config: Any) -> AsyncIterator[Tools]:
    ground = Ground(home=home, state=home)
    settings = provider.config.model_validate(config)
    async with provider.open(settings, ToolsFloor(ground, stack.inference, stack.memory)) as tools:
        yield tools


async def make_bank(stack: LocalStack, bank_id: str, *texts: str) -> None:
    memory = await stack.memory()
    kind = VectorBank(embedding_model=WORDS)
    await memory.create_bank(MemoryBank(identifier=bank_id, provider_id="", provider_resource_id="", bank=kind), ALICE)
    documents = [Document(document_id=f"{bank_id}-{number}", content=text) for number, text in enumerate(texts)]
    if documents:
        await memory.insert_documents(bank_id, documents, ALICE)


class TestRagRuntime(ToolsContract):
    tool = "knowledge_search"
    arguments = {"query": "wool", "vector_db_ids": ["notes"]}
    wrong_arguments = (
        {},
        {"vector_db_ids": ["notes"]},
        {"query": 7, "vector_db_ids": ["notes"]},
        {"query": " ", "vector_db_ids": ["notes"]},
        {"query": "wool"},
        {"query": "wool", "bank_ids": ["notes"]},
        {"query": "wool", "vector_db_ids": []},
        {"query": "wool", "vector_db_ids": [7]},
        {"query": "wool", "vector_db_ids": ["notes"], "query_config": "all"},
        {"query": "wool", "vector_db_ids": ["notes"], "query_config": {"max_chunks": 0}},
    )
    caller = ALICE

    @asynccontextmanager
    async def opened(self, backend: Backend, home: Path) -> AsyncIterator[OpenTools]:
        engine = Engine()
        async with open_memory_stack(home=home, inference=engine) as stack, opened(stack, home) as tools:
            await make_bank(stack, "notes", LLAMAS)
            engine.asked.clear()
            engine.left.clear()
            engine.backend = backend
            yield OpenTools(tools, engine.asked, engine.left)


@asynccontextmanager
async def tools_over(home: Path, **config: Any) -> AsyncIterator[tuple[Tools, LocalStack]]:
    inference = ScriptedInference(embed=bag_of_words)
    async with open_memory_stack(home=home, inference=inference) as stack, opened(stack, home, **config) as tools:
        yield tools, stack


async def call(tools: Tools, name: str, **arguments: Any) -> ToolResult:
    return await tools.invoke_tool(GROUP, name, arguments, ALICE)


async def test_passages_are_numbered_and_their_sources_kept(tmp_path: Path) -> None:
    async with tools_over(tmp_path) as (tools, stack):
        await make_bank(stack, "notes", LLAMAS)
        await make_bank(stack, "more", "Ferries cross the channel.")
        result = await call(tools, "knowledge_search", query="who carries wool", vector_db_ids=["notes", "more"])
    text = text_of(result.content)
    assert f"[1] (document notes-0)\n{LLAMAS}" in text
    assert "[2] (document more-0)\nFerries cross the channel." in text
    first, second = result.metadata["sources"]
    assert (first["number"], first["document_id"], second["document_id"]) == (1, "notes-0", "more-0")
    assert first["chunk_id"]
    assert result.metadata["document_ids"] == ["notes-0", "more-0"]
    assert result.metadata["chunks"][0] == LLAMAS
    assert result.metadata["scores"] == sorted(result.metadata["scores"], reverse=True)


async def test_nothing_found_is_said_in_words(tmp_path: Path) -> None:
    async with tools_over(tmp_path) as (tools, stack):
        await make_bank(stack, "notes")
        result = await call(tools, "knowledge_search", query="wool", vector_db_ids="notes")
    assert "Nothing was found for 'wool'" in text_of(result.content)
    assert (result.is_error, result.metadata["document_ids"]) == (False, [])


async def test_passages_keep_to_the_budget_of_tokens(tmp_path: Path) -> None:
    long = "Llamas and wool. " * 40
    async with tools_over(tmp_path, max_tokens=150) as (tools, stack):
        await make_bank(stack, "notes", long, LLAMAS)
        small = await call(tools, "knowledge_search", query="llamas wool", vector_db_ids=["notes"])
        config = {"max_tokens_in_context": 2000, "max_chunks": 1, "mode": None}
        wide = await call(tools, "knowledge_search", query="llamas wool", vector_db_ids=["notes"], query_config=config)
        tight = await call(
            tools,
            "knowledge_search",
            query="llamas wool",
            vector_db_ids=["notes"],
            query_config={"max_tokens_in_context": 2},
        )
        template = {"chunk_template": "({index}) {chunk.content}", "max_chunks": 1, "max_tokens_in_context": 2000}
        own = await call(tools, "knowledge_search", query="llamas wool", vector_db_ids=["notes"], query_config=template)
    assert small.metadata["document_ids"] == ["notes-1"]
    assert len(wide.metadata["document_ids"]) == 1
    assert "none of them fits 2 tokens" in text_of(tight.content)
    assert "\n(1) " in text_of(own.content)


async def test_a_text_is_kept_and_found(tmp_path: Path) -> None:
    async with tools_over(tmp_path) as (tools, stack):
        await make_bank(stack, "notes")
        kept = await call(tools, "insert_into_memory", content=LLAMAS, document_id="llamas", vector_db_ids=["notes"])
        await call(tools, "insert_into_memory", content="Ferries cross at night.", vector_db_ids=["notes"])
        again = await call(tools, "insert_into_memory", content="Ferries cross at night.", vector_db_ids=["notes"])
        found = await call(tools, "knowledge_search", query="wool", vector_db_ids=["notes"])
        stats = await (await stack.memory()).stats("notes", ALICE)
        with pytest.raises(InvalidRequest, match="content: should be a text"):
            await call(tools, "insert_into_memory", content="", vector_db_ids=["notes"])
        with pytest.raises(InvalidRequest, match="at most 100000"):
            await call(tools, "insert_into_memory", content="x" * 100_001, vector_db_ids=["notes"])
        with pytest.raises(NotFound, match="there is no memory bank 'nope'"):
            await call(tools, "insert_into_memory", content="x", vector_db_ids=["nope"])
    assert text_of(kept.content) == "Kept as 'llamas'."
    assert again.metadata["document_id"].startswith("doc_")
    assert found.metadata["document_ids"][0] == "llamas"
    assert stats.chunks == 2


async def test_a_text_that_cannot_be_kept_is_an_error_for_the_model(tmp_path: Path) -> None:
    engine = Engine()
    async with open_memory_stack(home=tmp_path, inference=engine) as stack, opened(stack, tmp_path) as tools:
        await make_bank(stack, "notes")
        engine.backend = "fails"
        result = await call(tools, "insert_into_memory", content=LLAMAS, vector_db_ids=["notes"])
    assert result.is_error
    assert "the engine of the vectors is down" in text_of(result.content)


async def test_who_names_no_bank_means_the_default_one(tmp_path: Path) -> None:
    async with tools_over(tmp_path, default_bank="default") as (tools, _):
        before = await call(tools, "knowledge_search", query="wool")
        kept = await call(tools, "insert_into_memory", content=LLAMAS)
        found = await call(tools, "knowledge_search", query="wool")
        with pytest.raises(NotFound, match="there is no memory bank 'nope'"):
            await call(tools, "knowledge_search", query="wool", vector_db_ids=["nope"])
    assert "Nothing was found for 'wool'" in text_of(before.content)
    assert kept.metadata["bank_id"] == "default"
    assert LLAMAS in text_of(found.content)
