"""Search by meaning with the model that comes with the product: the question shares no word with its answer."""

from pathlib import Path
from typing import Any

from llama_stack_client import RAGDocument

from tests.memory_faces.stacks import serve_memory

MODEL = "all-minilm-l6-v2"
EMBEDDED: list[dict[str, Any]] = [
    {
        "provider_id": "llama-cpp",
        "provider_type": "inline::llama-cpp",
        "models": [
            {
                "identifier": MODEL,
                "provider_resource_id": "weights:all-minilm-l6-v2/all-minilm-l6-v2-q8_0.gguf",
                "model_type": "embedding",
                "embedding_dimension": 384,
            }
        ],
    }
]
TEXTS = {
    "animals": "Llamas carry loads over high mountain passes.",
    "kitchen": "Dough rises when yeast turns sugar into gas.",
    "money": "A savings account pays interest every month.",
}


async def test_a_question_finds_its_answer_by_meaning(tmp_path: Path) -> None:
    async with serve_memory(home=tmp_path, inference_providers=EMBEDDED) as server:
        made = await server.client.vector_dbs.register(vector_db_id="notes", embedding_model=MODEL)
        await server.client.tool_runtime.rag_tool.insert(
            documents=[
                RAGDocument(document_id=name, content=text, metadata={}, mime_type="text/plain")
                for name, text in TEXTS.items()
            ],
            vector_db_id="notes",
            chunk_size_in_tokens=128,
        )
        bread = await server.client.vector_io.query(vector_db_id="notes", query="How do I bake bread?")
        bank: Any = await server.client.tool_runtime.rag_tool.query(
            content="Where does my cash grow?", vector_db_ids=["notes"]
        )
    assert made.embedding_dimension == 384
    assert bread.chunks[0].metadata["document_id"] == "kitchen"
    assert bread.scores[0] > bread.scores[1] + 0.1
    assert bank.metadata["document_ids"][0] == "money"
