"""Questions do not wait for long lists of texts, and long lists take turns."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.inference import EmbeddingRequest
from llama_stack.api.resources import ModelType
from llama_stack_providers.inline._llama_cpp.embeddings import INPUTS_A_CALL
from llama_stack_providers.inline._llama_cpp.engine import Engine
from llama_stack_providers.inline._llama_cpp.turns import Turns
from tests.providers.inline.llama_cpp.conftest import CALLER, opened, resource


class Work:
    """Holds a turn until it is let go."""

    def __init__(self, turns: Turns, name: str, order: list[str]) -> None:
        self._turns, self._name, self._order = turns, name, order
        self.end = asyncio.Event()

    async def run(self, precedence: int = 0, *, is_bulk: bool = False) -> None:
        async with self._turns.turn(precedence, is_bulk=is_bulk):
            self._order.append(self._name)
            await self.end.wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_lowest_precedence_comes_first_and_bulk_leaves_slots_free() -> None:
    turns = Turns(2)
    order: list[str] = []
    works = {name: Work(turns, name, order) for name in ("long", "longer", "short", "first question", "question")}
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(works["long"].run(0, is_bulk=True))
        await settled()
        group.create_task(works["longer"].run(1, is_bulk=True))
        await settled()
        assert (order, turns.waiting, turns.is_free(), turns.is_free(is_bulk=True)) == (["long"], 1, True, False)
        group.create_task(works["first question"].run(-2))
        await settled()
        assert order == ["long", "first question"]
        group.create_task(works["short"].run(-1, is_bulk=True))
        group.create_task(works["question"].run(-2))
        await settled()
        works["long"].end.set()
        await settled()
        assert order == ["long", "first question", "question"]
        works["question"].end.set()
        await settled()
        assert order[3:] == ["short"]
        works["short"].end.set()
        await settled()
        assert order[4:] == ["longer"]
        for work in works.values():
            work.end.set()
    assert turns.waiting == 0
    assert turns.is_free(is_bulk=True)


async def test_who_leaves_gives_the_turn_to_the_next() -> None:
    turns = Turns(1)
    order: list[str] = []
    held, left, kept = (Work(turns, name, order) for name in ("held", "left", "kept"))
    running = [asyncio.create_task(work.run(is_bulk=True)) for work in (held, left, kept)]
    await settled()
    running[1].cancel()
    await settled()
    assert turns.waiting == 1
    running[0].cancel()
    await settled()
    assert order == ["held", "kept"]
    kept.end.set()
    await running[2]
    # Cancelled between being let in and going on.
    one = asyncio.create_task(held.run())
    waiting = asyncio.create_task(left.run())
    await settled()
    held.end.set()
    one.cancel()
    waiting.cancel()
    await settled()
    assert turns.is_free(is_bulk=True)
    assert turns.waiting == 0


@pytest.mark.engine
async def test_a_question_waits_for_one_part_of_a_long_list_at_most(
    minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = resource(minilm, ModelType.EMBEDDING)
    async with opened(tmp_path, embedding) as inference:
        ended: list[int] = []
        one_ended = asyncio.Event()
        work = Engine.work

        async def told(engine: Engine, path: str, body: Any = None) -> Any:
            answer = await work(engine, path, body)
            if path == "/v1/embeddings":
                ended.append(len(body["input"]))
                one_ended.set()
            return answer

        async with inference.models.use(minilm):
            monkeypatch.setattr(Engine, "work", told)
            texts = [f"{number} " + "some words of a long document " * 20 for number in range(40)]
            document = EmbeddingRequest(model=minilm, inputs=texts, truncate="end", task="document")
            question = EmbeddingRequest(model=minilm, inputs=["what is asked?"], truncate="end", task="query")
            sentence = question.model_copy(update={"task": "document"})
            long = asyncio.create_task(inference.embed(document, CALLER))
            async with asyncio.timeout(60):
                await one_ended.wait()
                before = len(ended)
                await inference.embed(question, CALLER)
                assert len(ended) - before <= 2
                before = len(ended)
                await inference.embed(sentence, CALLER)
                assert len(ended) - before <= 3
                assert not long.done()
                assert len((await long).vectors) == len(texts)
        assert max(ended) < INPUTS_A_CALL
