"""Stacks with memory for the tests of its faces: real provider, real reading, and vectors that can be foreseen."""

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest, Usage
from llama_stack.compose import LocalStack
from llama_stack.server.app import create_app
from llama_stack.testing.scripted import Script, ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.classic.conftest import Running, clients_of

DIMENSION = 64
WORDS = "acme/words"
"""The embedding model: texts that share words are alike."""


def bag_of_words(request: EmbeddingRequest) -> EmbeddingAnswer:
    """Each word counts in one of the vector's numbers, which its letters choose; long words count more."""
    vectors = []
    for text in request.inputs:
        vector = [0.01] * DIMENSION
        for word in re.findall(r"\w+", str(text).lower()):
            vector[crc32(word.encode()) % DIMENSION] += len(word) - 1
        length = math.hypot(*vector)
        vectors.append([number / length for number in vector])
    return EmbeddingAnswer(vectors=vectors, usage=Usage(input_tokens=len(vectors)))


def settings(inference_providers: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """Entries of a distribution: a model that embeds, one memory provider, the tools over it, and what is added."""
    embedding = {"identifier": WORDS, "model_type": "embedding", "embedding_dimension": DIMENSION}
    words = {"provider_id": "words", "provider_type": "inline::scripted", "models": [embedding]}
    return {
        "inference": inference_providers or [words],
        "memory": [{"provider_id": "sqlite", "provider_type": "inline::sqlite-vec"}],
        "tools": [
            {
                "provider_id": "rag",
                "provider_type": "inline::rag-runtime",
                "tool_groups": [{"identifier": "builtin::rag"}],
            }
        ],
        **more,
    }


@asynccontextmanager
async def open_memory_stack(
    *scripts: Script, home: Path, inference: ScriptedInference | None = None, **more: Any
) -> AsyncIterator[LocalStack]:
    inference = inference or ScriptedInference(*scripts, embed=bag_of_words)
    async with open_scripted_stack(inference=inference, home=home, providers=settings(**more)) as stack:
        yield stack


@asynccontextmanager
async def serve_memory(
    *scripts: Script, home: Path, inference: ScriptedInference | None = None, **more: Any
) -> AsyncIterator[Running]:
    """A server on loopback over such a stack, with clients of it."""
    inference = inference or ScriptedInference(*scripts, embed=bag_of_words)
    async with (
        open_memory_stack(home=home, inference=inference, **more) as stack,
        clients_of(create_app(stack), inference) as running,
    ):
        yield running
