"""The provider and our server in front of somebody else's: llama.cpp's own HTTP listener, in another process."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from llama_stack.api.answers import collect
from llama_stack.api.common import Caller, HealthStatus
from llama_stack.api.inference import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    JsonSchemaFormat,
    Sampling,
    TextDelta,
)
from llama_stack.api.messages import UserMessage
from llama_stack.errors import ProviderFailed, StackError
from tests.providers.remote.conftest import KEY, Open

pytestmark = pytest.mark.engine

SERVER = """
import sys
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.api_keys = [sys.argv[2]]
params.port = 0
params.ui = False
params.warmup = False
params.n_ctx = 2048
params.n_parallel = 2
params.kv_unified = True
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.n_threads_http = 2
params.verbosity = 0
params.embedding = sys.argv[3] == "embedding"
if params.embedding:
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def llama_cpp(model: Path, kind: str = "chat") -> AsyncIterator[str]:
    """Its base URL; it wants the key of the provider's settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVER,
        str(model),
        KEY,
        kind,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(60):
            address = (await process.stdout.readline()).decode().strip()
        assert address.startswith("http://"), "llama.cpp did not start"
        yield f"{address}/v1"
    finally:
        process.stdin.close()
        await process.wait()


def chat(**fields: Any) -> ChatRequest:
    sampling = Sampling(temperature=0, max_tokens=24, seed=1)
    return ChatRequest(model="any", messages=[UserMessage(content="Hello")], sampling=sampling, **fields)


async def test_chats_and_completions(micro_model: Path, open_provider: Open, caller: Caller) -> None:
    async with llama_cpp(micro_model) as url, open_provider(url) as inference:
        assert (await inference.health()).status is HealthStatus.OK
        assert len(await inference.list_models()) == 1
        streamed = await collect(inference.stream_chat(chat(), caller))
        whole = await collect(inference.stream_chat(chat(whole=True), caller))
        with_logprobs = await collect(inference.stream_chat(chat(logprobs=True, top_logprobs=2), caller))
        request = CompletionRequest(model="any", prompt="Hello", sampling=Sampling(temperature=0, max_tokens=4), n=1)
        completion = await collect(inference.complete(request, caller))
        counted = await collect(inference.complete(request.model_copy(update={"whole": True}), caller))
    assert streamed.choices == whole.choices
    assert streamed.message.content
    assert streamed.usage is not None and whole.usage is not None
    assert streamed.usage.input_tokens == whole.usage.input_tokens > 0
    assert streamed.usage.output_tokens == whole.usage.output_tokens > 0
    logprobs = with_logprobs.choices[0].logprobs
    assert logprobs and all(token.logprob <= 0 and len(token.top) == 2 for token in logprobs)
    assert completion.choices == counted.choices
    assert completion.choices[0].finish_reason in ("stop", "length")


async def test_structured_output(micro_model: Path, open_provider: Open, caller: Caller) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    wanted = chat(response_format=JsonSchemaFormat(json_schema=schema))
    async with llama_cpp(micro_model) as url, open_provider(url) as inference:
        answer = await collect(inference.stream_chat(wanted, caller))
    assert str(answer.message.content).lstrip().startswith("{")


async def test_embeddings(micro_model: Path, open_provider: Open, caller: Caller) -> None:
    request = EmbeddingRequest(model="any", inputs=["one", "two"])
    async with llama_cpp(micro_model, "embedding") as url, open_provider(url) as inference:
        answer = await inference.embed(request, caller)
    assert len(answer.vectors) == 2
    assert len(answer.vectors[0]) == len(answer.vectors[1]) > 0
    assert answer.usage.input_tokens > 0


async def test_its_refusals_keep_their_status_and_words(micro_model: Path, open_provider: Open, caller: Caller) -> None:
    async with llama_cpp(micro_model) as url:
        async with open_provider(url, api_key="another-key-0123456789") as inference:
            assert (await inference.health()).status in (HealthStatus.OK, HealthStatus.FAILED)
            with pytest.raises(ProviderFailed) as unauthorised:
                await collect(inference.stream_chat(chat(), caller))
        async with open_provider(url) as inference:
            too_long = chat().model_copy(update={"messages": [UserMessage(content="word " * 4000)]})
            with pytest.raises(StackError) as overflow:
                await collect(inference.stream_chat(too_long, caller))
    assert unauthorised.value.http_status == 401
    assert "another-key" not in unauthorised.value.message
    assert (overflow.value.http_status, overflow.value.code) == (400, "context_length_exceeded")


async def test_closing_a_stream_frees_its_slot(micro_model: Path, open_provider: Open, caller: Caller) -> None:
    endless = chat().model_copy(update={"sampling": Sampling(temperature=1, max_tokens=1800, logit_bias={})})
    async with llama_cpp(micro_model) as url, open_provider(url) as inference:
        for _ in range(4):
            stream = inference.stream_chat(endless, caller)
            assert isinstance(await anext(stream), TextDelta)
            await stream.aclose()
        # Both of its slots would still be at work if closing did not reach it.
        async with asyncio.timeout(60), httpx.AsyncClient(verify=False) as http:
            while True:
                headers = {"authorization": f"Bearer {KEY}"}
                slots = (await http.get(url.removesuffix("/v1") + "/slots", headers=headers)).json()
                if not any(slot["is_processing"] for slot in slots):
                    break
