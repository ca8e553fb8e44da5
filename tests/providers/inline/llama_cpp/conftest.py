"""The embedded engine for real: one provider for each test module, on the micro model and the embedding model."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from llama_stack.api.common import Caller
from llama_stack.api.inference import ChatRequest, Sampling
from llama_stack.api.messages import UserMessage
from llama_stack.api.resources import Model, ModelType
from llama_stack.provider import Ground
from llama_stack.weights import find_weights
from llama_stack_providers.inline._llama_cpp.settings import Config
from llama_stack_providers.inline.llama_cpp import LlamaCppInference, open_llama_cpp

CALLER = Caller(owner="alice")
MINILM = "weights:all-minilm-l6-v2/all-minilm-l6-v2-q8_0.gguf"


def resource(name: str, model_type: ModelType = ModelType.LLM, **fields: Any) -> Model:
    return Model(
        identifier=Path(name).stem,
        provider_id="llama-cpp",
        provider_resource_id=name,
        model_type=model_type,
        **fields,
    )


def ask(model: str, text: str, **fields: Any) -> ChatRequest:
    """A one-message chat; keywords that Sampling knows go there."""
    sampling = Sampling(**{name: fields.pop(name) for name in list(fields) if name in Sampling.model_fields})
    return ChatRequest(model=model, messages=[UserMessage(content=text)], sampling=sampling, **fields)


@asynccontextmanager
async def opened(home: Path, *models: Model, **settings: Any) -> AsyncIterator[LlamaCppInference]:
    async with open_llama_cpp(Config(**settings), Ground(home=home, state=home / "state")) as inference:
        for model in models:
            await inference.add_model(model)
        yield inference


@pytest.fixture(scope="session")
def model(micro_model: Path) -> str:
    """The micro model, as the distribution names it."""
    return str(micro_model)


@pytest.fixture(scope="session")
def minilm() -> str:
    find_weights(MINILM)
    return MINILM


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def inference(
    model: str, minilm: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LlamaCppInference]:
    """Both models, served with greedy sampling; shared by a module's tests."""
    micro = resource(model, metadata={"temperature": 0})
    async with opened(tmp_path_factory.mktemp("home"), micro, resource(minilm, ModelType.EMBEDDING)) as engine:
        yield engine
