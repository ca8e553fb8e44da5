"""Chunks in and out through the unmodified client's `vector_io`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from llama_stack_client import BadRequestError, InternalServerError, NotFoundError

from llama_stack.errors import ProviderUnavailable
from llama_stack.server.memory_schema import ClassicChunks
from llama_stack.testing.scripted import ScriptedInference
from tests.classic.conftest import Running
from tests.memory_faces.stacks import DIMENSION, WORDS, serve_memory
from tests.server.test_openapi import strictly

LLAMAS: Any = {"content": "Llamas carry wool over the Andes", "metadata": {"document_id": "animals", "year": 2021}}
FERRIES: Any = {"content": "Ferries cross the channel at night", "metadata": {"document_id": "travel"}}


@asynccontextmanager
async def serve_notes(home: Path, **settings: Any) -> AsyncIterator[Running]:
    async with serve_memory(home=home, **settings) as server:
        await server.client.vector_dbs.register(vector_db_id="team/notes", embedding_model=WORDS)
        yield server


async def found(server: Running, query: Any, **params: Any) -> list[tuple[str, Any]]:
    answer = await server.client.vector_io.query(vector_db_id="team/notes", query=query, params=params)
    assert len(answer.chunks) == len(answer.scores)
    assert answer.scores == sorted(answer.scores, reverse=True)
    return [(str(chunk.content), score) for chunk, score in zip(answer.chunks, answer.scores, strict=True)]


async def test_chunks_are_inserted_and_found(tmp_path: Path) -> None:
    parts: Any = {
        "content": [{"type": "text", "text": "Bread needs "}, {"type": "text", "text": "yeast"}],
        "metadata": {"document_id": "kitchen", "tags": ["food"], "token_count": 4.0},
    }
    async with serve_notes(tmp_path) as server:
        await server.client.vector_io.insert(vector_db_id="team/notes", chunks=[LLAMAS, FERRIES, parts])
        answer = await server.client.vector_io.query(vector_db_id="team/notes", query="wool of llamas")
        item: Any = {"type": "text", "text": "yeast for bread"}
        of_item = await server.client.vector_io.query(
            vector_db_id="team/notes", query=item, params={"max_chunks": 1, "ranker": None}
        )
        raw = await server.http.post("/v1/vector-io/query", json={"vector_db_id": "team/notes", "query": "wool"})
        strictly(ClassicChunks, raw.json())
    assert len(answer.chunks) == len(answer.scores) == 3
    assert answer.chunks[0].content == LLAMAS["content"]
    assert answer.chunks[0].metadata["document_id"] == "animals"
    assert answer.chunks[0].metadata["year"] == 2021
    assert answer.chunks[0].metadata["token_count"] == 11
    assert answer.chunks[0].embedding is None
    assert 0.5 < answer.scores[0] <= 1, "a similarity"
    [chunk] = of_item.chunks
    assert chunk.content == "Bread needs yeast"
    assert chunk.metadata == {"document_id": "kitchen", "tags": ["food"], "token_count": 4.0}


async def test_the_same_chunks_again_change_nothing(tmp_path: Path) -> None:
    nameless: Any = [{"content": "Owls hunt by ear", "metadata": {}}, {"content": "Owls hunt by ear", "metadata": {}}]
    async with serve_notes(tmp_path) as server:
        for _ in range(2):
            await server.client.vector_io.insert(vector_db_id="team/notes", chunks=nameless[:1])
        once = await found(server, "owls hunt")
        await server.client.vector_io.insert(vector_db_id="team/notes", chunks=[{**nameless[0], "chunk_id": "mine"}])
        stats = (await server.http.get("/v1/memory/stats", params={"bank_id": "team/notes"})).json()
        listed = (await server.http.get("/v1/memory/documents", params={"bank_id": "team/notes"})).json()["data"]
    assert [content for content, _ in once] == ["Owls hunt by ear"]
    assert stats["chunks"] == 2
    assert [document["chunks"] for document in listed] == [2]
    assert [document["document_id"][:4] for document in listed] == ["doc_"]


async def test_vectors_that_are_brought_are_used(tmp_path: Path) -> None:
    def axis(position: int, size: int = DIMENSION) -> list[float]:
        return [1.0 if number == position else 0.0 for number in range(size)]

    inference = ScriptedInference(embed=ProviderUnavailable("the engine of the vectors is down"))
    async with serve_notes(tmp_path, inference=inference) as server:
        insert = server.client.vector_io.insert
        chunks: Any = [{**LLAMAS, "embedding": axis(0)}, {**FERRIES, "embedding": axis(1)}]
        await insert(vector_db_id="team/notes", chunks=chunks)
        by_words = await found(server, "ferry", mode="keyword")
        with pytest.raises(BadRequestError, match=r"chunks\.1\.embedding has 3 numbers.*have 64"):
            await insert(vector_db_id="team/notes", chunks=[chunks[0], {**FERRIES, "embedding": [1, 2, 3]}])
        with pytest.raises(BadRequestError, match=r"chunks\.0\.embedding\.0: should be less than"):
            await insert(vector_db_id="team/notes", chunks=[{**FERRIES, "embedding": [1e39, *axis(0, 63)]}])
        with pytest.raises(InternalServerError, match="the engine of the vectors is down") as down:
            await insert(vector_db_id="team/notes", chunks=[{"content": "new", "metadata": {}}])
        with pytest.raises(InternalServerError, match="the engine of the vectors is down"):
            await found(server, "ferry")
    assert [content for content, _ in by_words] == [FERRIES["content"]]
    assert down.value.status_code == 503


async def test_only_the_direction_of_a_vector_counts(tmp_path: Path) -> None:
    """Also where its square is more, or less, than a float32 can hold."""
    async with serve_notes(tmp_path) as server:
        chunks: Any = [
            {"content": f"length {length}", "metadata": {"document_id": str(length)}, "embedding": [length] * DIMENSION}
            for length in (1.0, 1e-42, 1e38)
        ]
        await server.client.vector_io.insert(vector_db_id="team/notes", chunks=chunks)
        scores = [score for _, score in await found(server, "wool", mode="vector")]
    assert len(scores) == 3
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-5)


async def test_modes_rankers_and_thresholds(tmp_path: Path) -> None:
    async with serve_notes(tmp_path) as server:
        await server.client.vector_io.insert(vector_db_id="team/notes", chunks=[LLAMAS, FERRIES])
        by_words = await found(server, "wool", mode="keyword")
        by_meaning = await found(server, "wool over the Andes", mode="vector", score_threshold=0.5)
        unset = await found(server, "wool over the Andes", score_threshold=0.5)
        rrf = await found(server, "wool", mode="hybrid", ranker={"type": "rrf", "impact_factor": 10})
        weighted = await found(server, "wool", mode="hybrid", ranker={"type": "weighted", "alpha": 0.0})
    assert [content for content, _ in by_words] == [LLAMAS["content"]]
    assert by_meaning == unset
    assert [content for content, _ in by_meaning] == [LLAMAS["content"]]
    best = 2 / 11
    assert rrf == [
        (LLAMAS["content"], pytest.approx(1.0)),
        (FERRIES["content"], pytest.approx(1 / 12 / best)),
    ]
    assert weighted[0] == (LLAMAS["content"], pytest.approx(1.0))
    assert all(score == 0 for _, score in weighted[1:])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mode": "fuzzy"}, "params.mode: should be 'vector', 'keyword' or 'hybrid'"),
        ({"ranker": {"type": "best"}}, "params.ranker.type: must be one of 'rrf', 'weighted', not 'best'"),
        ({"ranker": {"type": "rrf", "impact_factor": 0}}, "params.ranker.impact_factor: should be greater than 0"),
        ({"ranker": {"type": "weighted", "alpha": 2}}, "params.ranker.alpha: should be less than or equal to 1"),
        ({"max_chunks": 0}, "params.max_chunks: should be greater than or equal to 1"),
        ({"max_chunks": 10_000}, "params.max_chunks: should be less than or equal to 200"),
        ({"score_threshold": "high"}, "params.score_threshold: should be a valid number"),
        ({"top_k": 3}, "params.top_k: is not a known field"),
    ],
)
async def test_params_that_mean_nothing_are_refused(tmp_path: Path, params: Any, message: str) -> None:
    async with serve_notes(tmp_path) as server:
        with pytest.raises(BadRequestError) as refused:
            await found(server, "wool", **params)
    body: Any = refused.value.body
    assert message in body["detail"]


async def test_what_cannot_be_inserted_or_asked_is_refused(tmp_path: Path) -> None:
    async with serve_notes(tmp_path) as server:
        insert, query = server.client.vector_io.insert, server.client.vector_io.query
        with pytest.raises(BadRequestError, match="ttl_seconds: documents stay until they are deleted"):
            await insert(vector_db_id="team/notes", chunks=[LLAMAS], ttl_seconds=60)
        with pytest.raises(BadRequestError, match=r"chunks\.1\.content: has no text"):
            await insert(vector_db_id="team/notes", chunks=[LLAMAS, {"content": " ", "metadata": {}}])
        with pytest.raises(BadRequestError, match=r"chunks\.0\.metadata\.document_id: should be a text"):
            await insert(vector_db_id="team/notes", chunks=[{"content": "x", "metadata": {"document_id": 7}}])
        with pytest.raises(BadRequestError, match="chunks: "):
            await insert(vector_db_id="team/notes", chunks=[])
        with pytest.raises(NotFoundError, match="there is no memory bank 'nope'; there are: team/notes"):
            await insert(vector_db_id="nope", chunks=[LLAMAS])
        with pytest.raises(NotFoundError, match="there is no memory bank 'nope'; there are: team/notes"):
            await query(vector_db_id="nope", query="x")
        with pytest.raises(BadRequestError, match="query: has no text"):
            await query(vector_db_id="team/notes", query="  ")
        stats = (await server.http.get("/v1/memory/stats", params={"bank_id": "team/notes"})).json()
    assert stats["chunks"] == 0
