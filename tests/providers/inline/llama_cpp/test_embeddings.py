"""Embeddings of the shipped model: equal to the original's, and never cut in silence."""

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.inference import EmbeddingRequest, RerankRequest
from llama_stack.api.resources import ModelType
from llama_stack.errors import ContextOverflow, InvalidRequest, UnsupportedParameter
from llama_stack_providers.inline.llama_cpp import LlamaCppInference
from tests.providers.inline.llama_cpp.conftest import CALLER, opened, resource

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

REFERENCE: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "minilm_reference.json").read_text(encoding="utf-8")
)
CLOSE_ENOUGH = 0.998


def cosine(one: list[float], other: list[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.hypot(*one) / math.hypot(*other)


async def vectors(inference: LlamaCppInference, model: str, inputs: Any, **fields: Any) -> list[list[float]]:
    return (await inference.embed(EmbeddingRequest(model=model, inputs=inputs, **fields), CALLER)).vectors


async def test_vectors_equal_the_originals(inference: LlamaCppInference, minilm: str) -> None:
    """Accents, Chinese, Japanese, Korean, Russian, Arabic, emoji, code. Trap: llama.cpp's tokenizer knows no Korean."""
    made = await vectors(inference, minilm, [row["text"] for row in REFERENCE])
    far = {
        row["text"]: similarity
        for row, vector in zip(REFERENCE, made, strict=True)
        if (similarity := cosine(vector, row["vector"])) < CLOSE_ENOUGH
    }
    assert far == {}


async def test_token_ids_give_the_vectors_of_their_text(inference: LlamaCppInference, minilm: str) -> None:
    made = await vectors(inference, minilm, [row["tokens"] for row in REFERENCE])
    assert min(cosine(vector, row["vector"]) for row, vector in zip(REFERENCE, made, strict=True)) > CLOSE_ENOUGH


async def test_vectors_have_length_one_and_keep_the_order(inference: LlamaCppInference, minilm: str) -> None:
    texts = [f"text number {number}" for number in range(40)]
    together = await vectors(inference, minilm, texts)
    assert all(math.isclose(math.hypot(*vector), 1, rel_tol=1e-3) for vector in together)
    for position in (0, 17, 39):
        (alone,) = await vectors(inference, minilm, [texts[position]])
        assert cosine(alone, together[position]) > 0.9999


async def test_tokens_are_counted(inference: LlamaCppInference, minilm: str) -> None:
    answer = await inference.embed(EmbeddingRequest(model=minilm, inputs=["hello", "hello world"]), CALLER)
    assert answer.usage.input_tokens == 3 + 4


async def test_an_input_over_the_window_is_refused_with_the_numbers(inference: LlamaCppInference, minilm: str) -> None:
    request = EmbeddingRequest(model=minilm, inputs=["short", "word " * 600])
    with pytest.raises(ContextOverflow, match=r"input 1 has 602 tokens; model .* takes 512") as refused:
        await inference.embed(request, CALLER)
    assert refused.value.param == "input"


async def test_an_input_is_cut_at_the_end_or_at_the_start(inference: LlamaCppInference, minilm: str) -> None:
    words = [f"alpha{number % 10}" for number in range(400)] + ["omega"] * 400
    for truncate, kept in (("end", words[:200]), ("start", words[-200:])):
        request = EmbeddingRequest.model_validate(
            {"model": minilm, "inputs": ["x", " ".join(words)], "truncate": truncate}
        )
        answer = await inference.embed(request, CALLER)
        assert answer.truncated == [1]
        assert answer.usage.input_tokens == 3 + 512
        (near,) = await vectors(inference, minilm, [" ".join(kept)])
        (far,) = await vectors(inference, minilm, ["omega " * 100 if truncate == "end" else "alpha1 " * 100])
        assert cosine(answer.vectors[1], near) > cosine(answer.vectors[1], far)


async def test_an_input_that_just_fits_is_whole(inference: LlamaCppInference, minilm: str) -> None:
    answer = await inference.embed(EmbeddingRequest(model=minilm, inputs=["word " * 510], truncate="end"), CALLER)
    assert (answer.truncated, answer.usage.input_tokens) == ([], 512)


async def test_token_ids_are_cut_too(inference: LlamaCppInference, minilm: str) -> None:
    request = EmbeddingRequest(model=minilm, inputs=[[101, *[2773] * 600, 102]], truncate="end")
    answer = await inference.embed(request, CALLER)
    assert (answer.truncated, answer.usage.input_tokens) == ([0], 512)


async def test_many_requests_at_once_are_answered_rightly(inference: LlamaCppInference, minilm: str) -> None:
    rows = REFERENCE[:16]
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(vectors(inference, minilm, [row["text"]])) for row in rows]
    assert min(cosine(task.result()[0], row["vector"]) for task, row in zip(tasks, rows, strict=True)) > CLOSE_ENOUGH


async def test_no_inputs_give_no_vectors(inference: LlamaCppInference, minilm: str) -> None:
    assert await vectors(inference, minilm, []) == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"inputs": ["x"], "dimensions": 100}, "dimensions"),
        ({"inputs": ["x"], "extra": {"late_chunking": True}}, "late_chunking"),
        ({"inputs": [[]]}, "input"),
        ({"inputs": [[10**7]]}, "input"),
    ],
    ids=str,
)
async def test_what_cannot_be_done_is_refused_by_name(
    inference: LlamaCppInference, minilm: str, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await inference.embed(EmbeddingRequest(model=minilm, **fields), CALLER)
    assert refused.value.param == param


async def test_queries_and_documents_get_their_prefix(minilm: str, tmp_path: Path) -> None:
    metadata = {"query_prefix": "query: ", "document_prefix": "passage: "}
    async with opened(tmp_path, resource(minilm, ModelType.EMBEDDING, metadata=metadata)) as inference:
        (plain,) = await vectors(inference, minilm, ["llamas"])
        (query,) = await vectors(inference, minilm, ["llamas"], task="query")
        (written,) = await vectors(inference, minilm, ["query: llamas"])
        assert cosine(query, written) > 0.9999 > cosine(query, plain)


async def test_a_chat_model_makes_no_embeddings(inference: LlamaCppInference, model: str, minilm: str) -> None:
    with pytest.raises(UnsupportedParameter, match="does not make embeddings"):
        await vectors(inference, model, ["x"])
    with pytest.raises(UnsupportedParameter, match="does not rerank"):
        await inference.rerank(RerankRequest(model=minilm, query="x", documents=["y"]), CALLER)
