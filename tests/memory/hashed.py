"""An embedder without a model, and stacks with memory over it."""

import math
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from llama_stack.api.common import Caller
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest, Usage
from llama_stack.compose import LocalStack
from llama_stack.testing.scripted import Script, ScriptedInference
from llama_stack.testing.scripted_stack import open_scripted_stack

DIMENSION = 64
EMBEDDING_MODEL = "scripted-embedding"


def hashed(text: str) -> list[float]:
    """A bag of words in 64 numbers: texts that share words are alike."""
    numbers = [0.0] * DIMENSION
    for word in re.findall(r"\w+", text.casefold()) or ["nothing"]:
        digest = blake2b(word.encode(), digest_size=4).digest()
        numbers[int.from_bytes(digest[:2], "big") % DIMENSION] += 1.0 if digest[2] % 2 else -1.0
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    numbers = [number / length for number in numbers]
    return numbers if any(numbers) else [1.0, *numbers[1:]]


def embed(request: EmbeddingRequest) -> EmbeddingAnswer:
    vectors = [hashed(item if isinstance(item, str) else str(item)) for item in request.inputs]
    return EmbeddingAnswer(vectors=vectors, usage=Usage(input_tokens=len(vectors)))


class EmbeddingInference(ScriptedInference):
    """A script that chats, and the embedder above."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(*scripts, embed=embed)


@asynccontextmanager
async def open_memory_stack(
    home: Path,
    *scripts: Script,
    memory: Sequence[dict[str, Any]] = ({"provider_id": "sqlite-vec", "provider_type": "inline::sqlite-vec"},),
    inference: ScriptedInference | None = None,
    **settings: Any,
) -> AsyncIterator[LocalStack]:
    """A stack whose model `scripted` follows a script and whose memory is real."""
    async with open_scripted_stack(
        inference=inference or EmbeddingInference(*scripts),
        embedding_models={EMBEDDING_MODEL: DIMENSION},
        providers={"memory": list(memory)},
        home=home,
        **settings,
    ) as stack:
        yield stack


ALICE = Caller(owner="alice")
BOB = Caller(owner="bob")
