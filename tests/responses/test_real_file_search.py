"""Files in, a cited answer out, with nothing scripted: the models that come with the product read, embed and answer."""

import asyncio
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from tests.responses.manuals import LIMIT_S, search

FILES = {
    "lamp.md": "# Lamp Beacon 300\n\nThe lamp shines for 1,200 hours.\n\n## Warranty\n\nThe warranty lasts 42 months.",
    "boots.md": "# Boots Fjell\n\nThe boots are made of leather.\n\n## Care\n\nDry the boots slowly, never on a stove.",
    "hut.md": "# The hut\n\nThe hut opens on the 15th of June and closes in October.\n\nIt has 24 beds.",
}


async def test_the_models_of_the_product_answer_from_files(tmp_path: Path) -> None:
    async with (
        open_stack(load_distribution("starter"), home=tmp_path) as stack,
        serving(create_app(stack)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
    ):
        models = [model.id async for model in await openai.models.list()]
        chat = next(model for model in models if "micro" in model)
        store = await openai.vector_stores.create(name="Manuals")
        async with asyncio.timeout(4 * LIMIT_S):
            files = {
                name: (await openai.files.create(file=(name, text.encode()), purpose="assistants")).id
                for name, text in FILES.items()
            }
            batch = await openai.vector_stores.file_batches.create_and_poll(
                vector_store_id=store.id, file_ids=list(files.values()), poll_interval_ms=50
            )
        assert batch.file_counts.completed == len(FILES)
        response = await openai.responses.create(
            model=chat,
            input="How many months does the warranty of the lamp last?",
            tools=[search(store.id, max_num_results=2)],
            include=["file_search_call.results"],
            temperature=0,
            max_output_tokens=200,
        )
    found: Any = next(item for item in response.output if item.type == "file_search_call")
    assert (found.status, len(found.queries)) == ("completed", 1)
    assert found.results[0].file_id == files["lamp.md"]
    assert "42 months" in response.output_text
    message: Any = response.output[-1]
    [note] = message.content[0].annotations
    assert (note.file_id, note.filename) == (files["lamp.md"], "lamp.md")
    assert FILES["lamp.md"][note.start : note.end] == note.quote == "The warranty lasts 42 months."
