"""Banks whose vectors a server makes that speaks OpenAI's format and no more."""

from pathlib import Path

from benchmarks import mock_upstream
from llama_stack.api.memory import Document, DocumentState, MemoryQuery, SearchMode
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.memory.hashed import ALICE


async def test_a_server_that_knows_neither_truncation_nor_tasks_embeds_documents_and_questions(tmp_path: Path) -> None:
    async with await mock_upstream.serve("127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        model = {"identifier": mock_upstream.EMBEDDING_MODEL, "model_type": "embedding"}
        remote = {
            "provider_id": "remote",
            "provider_type": "remote::openai-compatible",
            "config": {"base_url": url},
            "models": [model | {"embedding_dimension": mock_upstream.DIMENSIONS}],
        }
        memory_provider = {"provider_id": "sqlite-vec", "provider_type": "inline::sqlite-vec"}
        async with open_scripted_stack(
            providers={"inference": [remote], "memory": [memory_provider]}, home=tmp_path
        ) as stack:
            memory = await stack.memory()
            kind = VectorBank(embedding_model=mock_upstream.EMBEDDING_MODEL)
            bank = MemoryBank(identifier="notes", provider_id="", provider_resource_id="", bank=kind)
            await memory.create_bank(bank, ALICE)
            # The server makes the same vector of the same text, and others of other texts.
            documents = [Document(document_id=name, content=f"about {name}") for name in ("tents", "stoves", "maps")]
            statuses = await memory.insert_documents("notes", documents, ALICE)
            assert [one.state for one in statuses] == [DocumentState.COMPLETED] * 3
            query = MemoryQuery(query="about stoves", mode=SearchMode.VECTOR)
            found = await memory.query(["notes"], query, ALICE)
    assert (found[0].document_id, round(found[0].score, 3)) == ("stoves", 1.0)
