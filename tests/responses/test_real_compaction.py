"""`context_management` over the real engine, which counts tokens exactly; what its tiny model writes is no matter."""

from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

from llama_stack.compose import open_stack
from llama_stack.distribution import Distribution
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving

MODEL = {
    "identifier": "llama-micro",
    "provider_resource_id": "weights:llama-micro/llama-micro.gguf",
    "metadata": {"temperature": 0},
}
DISTRIBUTION = Distribution.model_validate(
    {
        "version": 1,
        "name": "compaction",
        "providers": {
            "inference": [
                {"provider_id": "llama-cpp", "provider_type": "inline::llama-cpp", "models": [MODEL]},
            ]
        },
    }
)


async def test_a_chain_stays_under_its_threshold(tmp_path: Path) -> None:
    asked: Any = {"model": "llama-micro", "max_output_tokens": 8}
    managed: Any = {**asked, "context_management": [{"type": "compaction", "compact_threshold": 1000}]}
    async with (
        open_stack(DISTRIBUTION, home=tmp_path) as stack,
        serving(create_app(stack)) as url,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as openai,
    ):
        first = await openai.responses.create(input="apple pear plum " * 150, **asked)
        counted = await openai.responses.input_tokens.count(
            model="llama-micro", input="What is 17 plus 4?", previous_response_id=first.id
        )
        second = await openai.responses.create(input="What is 17 plus 4?", previous_response_id=first.id, **managed)
        after = await openai.responses.input_tokens.count(
            model="llama-micro", input="Sure?", previous_response_id=second.id
        )
        third = await openai.responses.create(input="Sure?", previous_response_id=second.id, **managed)
        by_itself = await openai.responses.compact(model="llama-micro", input=[{"role": "user", "content": "Hello"}])
    assert counted.input_tokens > 1000
    assert [item.type for item in second.output] == ["compaction", "message"]
    assert after.input_tokens < 500
    assert [item.type for item in third.output] == ["message"]
    # A summary leaves room in the model's window for what it is made of.
    assert [item.type for item in by_itself.output] == ["message", "compaction"]
    assert third.usage is not None
    assert third.usage.input_tokens == after.input_tokens
