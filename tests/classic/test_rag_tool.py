"""The RAG tool of the unmodified client: documents in, context out, and an Agent that searches by itself."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from llama_stack_client import Agent, BadRequestError, Document, InternalServerError, NotFoundError, RAGDocument

from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import ToolMessage, UserMessage
from llama_stack.errors import ProviderUnavailable
from llama_stack.server.memory_schema import RagContext
from llama_stack.testing.scripted import ScriptedInference, calls, says
from tests.classic.conftest import Running
from tests.memory_faces.stacks import WORDS, bag_of_words, serve_memory
from tests.server.test_openapi import strictly

LLAMAS = "Llamas carry wool over the Andes. A herd follows one leader."
FERRIES = "Ferries cross the channel at night. Cabins must be booked."


def document(document_id: str, content: Any, **more: Any) -> Any:
    return RAGDocument(document_id=document_id, content=content, metadata=more.pop("metadata", {}), **more)


@asynccontextmanager
async def serve_notes(home: Path, *scripts: Any, **settings: Any) -> AsyncIterator[Running]:
    async with serve_memory(*scripts, home=home, **settings) as server:
        await server.client.vector_dbs.register(vector_db_id="notes", embedding_model=WORDS)
        yield server


async def insert(server: Running, *documents: Any, size: int = 64) -> None:
    await server.client.tool_runtime.rag_tool.insert(
        documents=documents, vector_db_id="notes", chunk_size_in_tokens=size
    )


async def asked(server: Running, content: Any, **config: Any) -> Any:
    more: Any = {"query_config": config} if config else {}
    return await server.client.tool_runtime.rag_tool.query(content=content, vector_db_ids=["notes"], **more)


def texts(answer: Any) -> list[str]:
    return [item.text for item in answer.content]


async def test_documents_become_context(tmp_path: Path) -> None:
    html = base64.b64encode(b"<html><body><h1>Bread</h1><p>Bread needs yeast and patience.</p></body></html>").decode()
    async with serve_notes(tmp_path) as server:
        await insert(
            server,
            document("animals", LLAMAS, mime_type="text/plain", metadata={"year": 2021}),
            document("travel", [{"type": "text", "text": FERRIES}]),
            document("kitchen", {"uri": f"data:text/html;base64,{html}"}, mime_type="text/html"),
            document("owls", "data:text/plain,Owls%20hunt%20by%20ear", mime_type="text/plain"),
        )
        answer = await asked(server, "What do llamas carry?")
        owls = await asked(server, [{"type": "text", "text": "who hunts"}, {"type": "text", "text": "by ear"}])
        bread = await asked(server, "patience for bread")
        raw = {"content": "wool", "vector_db_ids": ["notes"], "query_config": {"mode": None, "ranker": None}}
        strictly(RagContext, (await server.http.post("/v1/tool-runtime/rag-tool/query", json=raw)).json())
    header, first, *_, end, restated = texts(answer)
    chunks = answer.metadata["chunks"]
    assert header == f"The search of the documents found {len(chunks)} chunks.\nResults begin here:\n"
    assert first.startswith(f"Result 1\nContent: {LLAMAS}\nMetadata: {{")
    assert orjson.loads(first.partition("Metadata: ")[2]) == {"year": 2021, "document_id": "animals", "token_count": 11}
    assert end == "Results end here.\n"
    assert '"What do llamas carry?"' in restated
    assert len(answer.content) == len(chunks) + 4 - 1
    assert answer.metadata["document_ids"][0] == "animals"
    assert chunks[0] == LLAMAS
    assert len(answer.metadata["scores"]) == len(chunks)
    assert owls.metadata["document_ids"][0] == "owls"
    assert owls.metadata["chunks"][0] == "Owls hunt by ear"
    assert '"who hunts by ear"' in texts(owls)[-1]
    assert bread.metadata["document_ids"][0] == "kitchen"
    assert "yeast" in bread.metadata["chunks"][0]
    assert "<p>" not in bread.metadata["chunks"][0]


async def test_nothing_found_is_no_content(tmp_path: Path) -> None:
    async with serve_notes(tmp_path) as server:
        empty = await asked(server, "llamas")
        await insert(server, document("animals", LLAMAS))
        no_word = await asked(server, "submarines", mode="keyword")
    for answer in (empty, no_word):
        assert answer.content is None
        assert answer.metadata == {"document_ids": [], "chunks": [], "scores": []}


async def test_a_document_again_replaces_itself_and_is_cut_as_asked(tmp_path: Path) -> None:
    long = " ".join(f"Sentence {number} speaks of nothing else." for number in range(60))
    async with serve_notes(tmp_path) as server:
        await insert(server, document("d", long), size=32)
        before = (await server.http.get("/v1/memory/documents", params={"bank_id": "notes"})).json()["data"]
        await insert(server, document("d", LLAMAS), size=32)
        after = (await server.http.get("/v1/memory/documents", params={"bank_id": "notes"})).json()["data"]
        gone = await asked(server, "sentence nothing", mode="keyword")
    [before], [after] = before, after
    assert before["chunks"] > 10
    assert before["sizes"] == {"chunk_size_tokens": 32, "overlap_size_tokens": 8}
    assert after["chunks"] == 1
    assert gone.content is None


async def test_the_query_config_is_followed(tmp_path: Path) -> None:
    rewritten = says("cabins of ferries")
    inference = ScriptedInference(rewritten, embed=bag_of_words)
    template = "Rewrite: {{ messages[-1].content }} / {{ messages | join }} / {{ messages[0] }}"
    generator = {"type": "llm", "model": "scripted", "template": template}
    async with serve_notes(tmp_path, inference=inference) as server:
        await insert(server, document("animals", LLAMAS), document("travel", FERRIES))
        by_model = await asked(server, "Where do I sleep?", query_generator_config=generator, max_chunks=1)
        prompt = next(request for request in inference.requests if isinstance(request, ChatRequest))
        template = "<{index}> {chunk.content} {not_ours} {metadata}"
        written = await asked(server, "wool", chunk_template=template, max_chunks=1)
        items: Any = [{"type": "text", "text": "a"}, {"type": "text", "text": "wool"}]
        separated = await asked(
            server, items, query_generator_config={"type": "default", "separator": " | "}, max_chunks=1
        )
        weighted = await asked(server, "wool", mode="hybrid", ranker={"type": "weighted", "alpha": 0.0})
        tight = await asked(server, "wool of llamas", max_tokens_in_context=60)
        with pytest.raises(BadRequestError, match=r"max_tokens_in_context: 3 tokens do not hold any of the 2 chunks"):
            await asked(server, "wool", max_tokens_in_context=3)
    assert by_model.metadata["document_ids"] == ["travel"]
    asked_for = " / ".join(["Where do I sleep?"] * 3)
    assert prompt.messages[-1].content == f"Rewrite: {asked_for}", "a message is its text, too"
    assert '"Where do I sleep?"' in texts(by_model)[-1]
    assert texts(written)[1].startswith(f"<1> {LLAMAS} {{not_ours}} {{")
    assert '"a | wool"' in texts(separated)[-1]
    assert weighted.metadata["scores"][0] == pytest.approx(1.0)
    assert tight.metadata["document_ids"] == ["animals"]


async def test_a_config_that_means_nothing_is_refused(tmp_path: Path) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"chunk_template": "{index}"}, r"query_config\.chunk_template: must contain \{chunk\.content\}"),
        ({"mode": "fuzzy"}, r"query_config\.mode: should be 'vector'"),
        ({"ranker": {"type": "best"}}, r"query_config\.ranker\.type: must be one of"),
        ({"max_chunks": -1}, r"query_config\.max_chunks: should be greater"),
        ({"query_generator_config": {"type": "llm"}}, r"query_config\.query_generator_config\.model: is required"),
        ({"query_generator_config": {"type": "custom"}}, r"query_generator_config\.type: must be one of"),
        ({"query_generator_config": {"type": "llm", "model": "scripted", "template": "{{"}}, r"the template fails"),
    ]
    async with serve_notes(tmp_path) as server:
        await insert(server, document("animals", LLAMAS))
        for config, message in bad:
            with pytest.raises(BadRequestError, match=message):
                await asked(server, "wool", **config)
        with pytest.raises(BadRequestError, match="vector_db_ids"):
            await server.client.tool_runtime.rag_tool.query(content="x", vector_db_ids=[])
        with pytest.raises(NotFoundError, match="there is no memory bank 'nope'"):
            await server.client.tool_runtime.rag_tool.query(content="x", vector_db_ids=["notes", "nope"])
        with pytest.raises(BadRequestError, match="query: has no text"):
            await asked(server, "")
        unknown: Any = {"query_generator_config": {"type": "llm", "model": "nope", "template": "x"}}
        with pytest.raises(NotFoundError, match="here is no model 'nope'"):
            await asked(server, "x", **unknown)


async def test_a_document_that_cannot_be_read_is_named_and_the_others_stay(tmp_path: Path) -> None:
    broken = f"data:application/pdf;base64,{base64.b64encode(b'%PDF-1.7 broken off').decode()}"
    async with serve_notes(tmp_path) as server:
        with pytest.raises(BadRequestError) as refused:
            await insert(server, document("broken", broken, mime_type="application/pdf"), document("animals", LLAMAS))
        found = await asked(server, "wool", max_chunks=1)
        with pytest.raises(BadRequestError, match="'animals' stands twice"):
            await insert(server, document("animals", LLAMAS), document("animals", FERRIES))
        with pytest.raises(BadRequestError, match=r"documents\.0\.document_id"):
            await insert(server, document("", LLAMAS))
        with pytest.raises(BadRequestError, match="chunk_size_in_tokens: should be greater than or equal to 16"):
            await insert(server, document("d", LLAMAS), size=1)
        with pytest.raises(NotFoundError, match="there is no memory bank 'nope'"):
            await server.client.tool_runtime.rag_tool.insert(
                documents=[document("d", LLAMAS)], vector_db_id="nope", chunk_size_in_tokens=64
            )
    error: Any = refused.value.body
    assert error["detail"].startswith("documents: 'broken' was not read: ")
    assert error["detail"].endswith("The other 1 of this request are inserted.")
    assert error["error"]["code"] == "damaged"
    assert error["error"]["param"] == "documents"
    assert found.metadata["document_ids"] == ["animals"]


async def test_an_address_inside_our_own_network_is_not_followed(tmp_path: Path) -> None:
    async with serve_notes(tmp_path) as server:
        for address in ("http://127.0.0.1:1/secret?key=s3cret", {"uri": "http://169.254.169.254/latest"}):
            with pytest.raises(BadRequestError, match="'d' was not read: ") as refused:
                await insert(server, document("d", address))
            assert "s3cret" not in str(refused.value)
        with pytest.raises(BadRequestError, match="no file of the server is ever read"):
            await insert(server, document("d", {"uri": "file:///etc/passwd"}))


async def test_a_model_that_is_down_is_not_the_callers_fault(tmp_path: Path) -> None:
    inference = ScriptedInference(embed=ProviderUnavailable("the engine of the vectors is down"))
    async with serve_notes(tmp_path, inference=inference) as server:
        with pytest.raises(InternalServerError, match=r"'animals' was not read: .*is down") as down:
            await insert(server, document("animals", LLAMAS))
    assert down.value.status_code == 503


async def test_the_agent_of_the_client_searches_its_vector_dbs(tmp_path: Path) -> None:
    # A model that tries another bank than it was given gets nowhere.
    call = ("knowledge_search", '{"query": "wool of llamas", "vector_db_ids": ["others"]}')
    scripts = (calls(call), says("They carry wool [1]."))
    inference = ScriptedInference(*scripts, embed=bag_of_words)
    async with serve_notes(tmp_path, inference=inference) as server:
        await server.client.vector_dbs.register(vector_db_id="others", embedding_model=WORDS)
        await insert(server, document("animals", LLAMAS))

        def work() -> Any:
            group: Any = {"name": "builtin::rag/knowledge_search", "args": {"vector_db_ids": ["notes"]}}
            agent = Agent(server.sync, model="scripted", instructions="Search first.", tools=[group])
            session_id = agent.create_session("s")
            return agent.create_turn(
                [{"role": "user", "content": "What do llamas carry?"}],
                session_id=session_id,
                documents=[Document(content="Wool keeps warm.", mime_type="text/plain")],
                stream=False,
            )

        turn = await asyncio.to_thread(work)
    requests = [request for request in inference.requests if isinstance(request, ChatRequest)]
    assert [tool.name for tool in requests[0].tools] == ["knowledge_search"], "the other tool was not asked for"
    assert list((requests[0].tools[0].parameters or {})["properties"]) == ["query"]
    [said] = [message for message in requests[0].messages if isinstance(message, UserMessage)]
    assert "Wool keeps warm." in str(said.content)
    [result] = [message for message in requests[1].messages if isinstance(message, ToolMessage)]
    assert f"[1] (document animals)\n{LLAMAS}" in str(result.content)
    assert turn.output_message.content == "They carry wool [1]."
    [response] = turn.steps[1].tool_responses
    assert response.metadata["document_ids"] == ["animals"]
    assert response.metadata["sources"][0]["number"] == 1


async def test_the_tool_runtime_searches_too(tmp_path: Path) -> None:
    async with serve_notes(tmp_path) as server:
        await insert(server, document("animals", LLAMAS))
        tools = await server.client.tools.list(toolgroup_id="builtin::rag/knowledge_search")
        kwargs: Any = {"query": "wool", "vector_db_ids": ["notes"], "session_id": "s"}
        result = await server.client.tool_runtime.invoke_tool(tool_name="knowledge_search", kwargs=kwargs)
        with pytest.raises(NotFoundError, match="there is no memory bank 'nope'"):
            await server.client.tool_runtime.invoke_tool(
                tool_name="knowledge_search", kwargs={**kwargs, "vector_db_ids": ["nope"]}
            )
        with pytest.raises(BadRequestError, match="vector_db_ids: is required"):
            await server.client.tool_runtime.invoke_tool(tool_name="knowledge_search", kwargs={"query": "x"})
    assert [tool.identifier for tool in tools] == ["knowledge_search", "insert_into_memory"]
    assert result.error_message is None
    assert LLAMAS in str(result.content)
    assert result.metadata["document_ids"] == ["animals"]
