"""While a large document is embedded, who brings one text, or asks a question, is answered by the next requests."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.files import NewFile
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest
from llama_stack.api.memory import Chunk, Embedded
from llama_stack.api.resources import MemoryBank, VectorBank
from llama_stack.errors import InvalidRequest, ProviderUnavailable, StackError
from llama_stack.memory import embedding
from llama_stack.memory.embedding import FEW_TEXTS, REQUESTS_AT_ONCE, SMALL_REQUEST, TEXTS_A_REQUEST, Embedder
from tests.memory.hashed import ALICE, BOB, DIMENSION, EmbeddingInference, hashed, open_memory_stack

MODEL = "scripted-embedding"
LARGE = [f"text {number} of a large document" for number in range(2_000)]


@dataclass(eq=False)
class Asked:
    """A request to the model, which answers when it is told to."""

    texts: list[str]
    task: str | None
    owner: str
    answered: asyncio.Event
    is_stopped: bool = False


class Patient(EmbeddingInference):
    """Every request waits until `answer` lets it go; `refused` is a text that the model refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Asked] = []
        self.answers = 0
        self.news = asyncio.Event()
        self.refused: dict[str, StackError] = {}

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        asked = Asked([str(text) for text in request.inputs], request.task, caller.owner, asyncio.Event())
        self.waiting.append(asked)
        self.news.set()
        try:
            await asked.answered.wait()
        except asyncio.CancelledError:
            asked.is_stopped = True
            raise
        finally:
            self.waiting.remove(asked)
        for text in asked.texts:
            if text in self.refused:
                raise self.refused[text]
        return await super().embed(request, caller)

    async def asked(self, count: int) -> list[Asked]:
        """Those that wait, once there are so many and whoever could ask has asked."""
        async with asyncio.timeout(60):
            while len(self.waiting) < count:
                self.news.clear()
                await self.news.wait()
        await settled()
        return list(self.waiting)

    async def answer(self, *asked: Asked) -> None:
        for one in asked:
            self.answers += 1
            one.answered.set()
        await settled()

    async def answer_all(self, work: "asyncio.Task[object]") -> None:
        async with asyncio.timeout(60):
            while not work.done():
                await self.answer(*self.waiting)


async def settled() -> None:
    """Everything that can go on without an answer has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def model() -> Patient:
    return Patient()


@pytest.fixture
async def embedder(model: Patient) -> AsyncIterator[Embedder]:
    async with Embedder(model).running() as running:
        yield running


@pytest.mark.parametrize("in_background", [True, False])
async def test_one_text_and_a_question_are_answered_by_the_next_request(
    model: Patient, embedder: Embedder, in_background: bool
) -> None:
    large = asyncio.create_task(embedder.embed_documents(MODEL, LARGE, DIMENSION, ALICE, in_background=in_background))
    before = await model.asked(REQUESTS_AT_ONCE)
    assert [len(one.texts) for one in before] == [TEXTS_A_REQUEST] * REQUESTS_AT_ONCE

    small = asyncio.create_task(embedder.embed_documents(MODEL, ["one sentence"], DIMENSION, ALICE))
    (inserted,) = [one for one in await model.asked(REQUESTS_AT_ONCE + 1) if one not in before]
    assert inserted.texts == ["one sentence"]
    await model.answer(inserted)
    assert (await small).row(0) == pytest.approx(hashed("one sentence"))

    question = asyncio.create_task(embedder.embed_query(MODEL, "a question", DIMENSION, ALICE))
    (queried,) = [one for one in await model.asked(REQUESTS_AT_ONCE + 1) if one not in before]
    assert (queried.texts, queried.task) == (["a question"], "query")
    await model.answer(queried)
    await question
    assert not large.done()
    assert model.answers == 2

    await model.answer_all(large)
    made = await large
    assert len(made) == len(LARGE)
    assert [made.row(at) for at in (0, 999, 1_999)] == [pytest.approx(hashed(LARGE[at])) for at in (0, 999, 1_999)]


async def test_while_somebody_waits_or_has_just_waited_large_documents_go_in_small_requests_one_by_one(
    model: Patient, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = asyncio.create_task(embedder.embed_query(MODEL, "a question", DIMENSION, BOB))
    (queried,) = await model.asked(1)
    large = asyncio.create_task(embedder.embed_documents(MODEL, LARGE, DIMENSION, ALICE, in_background=True))
    _, first = await model.asked(2)
    assert len(first.texts) == SMALL_REQUEST
    await model.answer(queried)
    await question
    await model.answer(first)
    (second,) = await model.asked(1)
    assert second.texts == LARGE[SMALL_REQUEST : 2 * SMALL_REQUEST]

    monkeypatch.setattr(embedding, "CALM_AFTER_S", 0.0)
    await model.answer(second)
    after = await model.asked(REQUESTS_AT_ONCE)
    assert [len(one.texts) for one in after] == [TEXTS_A_REQUEST] * REQUESTS_AT_ONCE
    await model.answer_all(large)


async def test_everybody_with_much_gets_a_part_of_each_request(model: Patient, embedder: Embedder) -> None:
    """Who waits for the answer gets more than a file in the background, which gets some nevertheless."""
    before = asyncio.create_task(embedder.embed_documents(MODEL, LARGE, DIMENSION, ALICE))
    busy = await model.asked(REQUESTS_AT_ONCE)
    orders = {
        name: asyncio.create_task(
            embedder.embed_documents(
                MODEL, [f"{name} {number}" for number in range(100)], DIMENSION, ALICE, in_background=name == "file"
            )
        )
        for name in ("file", "one", "other")
    }
    await settled()
    await model.answer(busy[0])
    (mixed,) = [one for one in await model.asked(REQUESTS_AT_ONCE) if one not in busy]
    counts = {name: sum(text.startswith(name) for text in mixed.texts) for name in ("file", "one", "other", "text")}
    assert sum(counts.values()) == TEXTS_A_REQUEST
    assert all(counts.values())
    assert min(counts["one"], counts["other"], counts["text"]) > counts["file"]
    for order in (*orders.values(), before):
        await model.answer_all(order)
    assert (await orders["one"]).row(99) == pytest.approx(hashed("one 99"))


async def test_many_who_bring_one_text_share_requests_and_do_not_wait_for_large_ones(
    model: Patient, embedder: Embedder
) -> None:
    large = asyncio.create_task(embedder.embed_documents(MODEL, LARGE, DIMENSION, ALICE))
    before = await model.asked(REQUESTS_AT_ONCE)
    small = [
        asyncio.create_task(embedder.embed_documents(MODEL, [f"sentence {number}"], DIMENSION, ALICE))
        for number in range(FEW_TEXTS)
    ]
    (together,) = [one for one in await model.asked(REQUESTS_AT_ONCE + 1) if one not in before]
    assert sorted(together.texts) == sorted(f"sentence {number}" for number in range(FEW_TEXTS))
    await model.answer(together)
    made = await asyncio.gather(*small)
    assert [one.row(0) for one in made] == [pytest.approx(hashed(f"sentence {at}")) for at in range(FEW_TEXTS)]
    large.cancel()


async def test_who_leaves_frees_the_room_and_the_model(model: Patient, embedder: Embedder) -> None:
    large = asyncio.create_task(embedder.embed_documents(MODEL, LARGE, DIMENSION, ALICE))
    before = await model.asked(REQUESTS_AT_ONCE)
    other = asyncio.create_task(
        embedder.embed_documents(MODEL, ["kept " * (n + 1) for n in range(20)], DIMENSION, ALICE)
    )
    await settled()
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    (left,) = await model.asked(1)
    assert all(one.is_stopped for one in before)
    assert all(text.startswith("kept") for text in left.texts)
    await model.answer(left)
    assert len(await other) == 20
    assert model.waiting == []


async def test_what_two_wait_for_is_not_stopped_when_one_leaves(model: Patient, embedder: Embedder) -> None:
    one = asyncio.create_task(embedder.embed_documents(MODEL, ["one"], DIMENSION, ALICE))
    other = asyncio.create_task(embedder.embed_documents(MODEL, ["other"], DIMENSION, ALICE))
    (both,) = await model.asked(1)
    one.cancel()
    await settled()
    assert not both.is_stopped
    await model.answer(both)
    assert (await other).row(0) == pytest.approx(hashed("other"))


async def test_a_text_that_is_refused_is_its_own_documents_fault(model: Patient, embedder: Embedder) -> None:
    model.refused["bad"] = InvalidRequest("no such characters")
    good = asyncio.create_task(embedder.embed_documents(MODEL, ["good"], DIMENSION, ALICE))
    bad = asyncio.create_task(embedder.embed_documents(MODEL, ["bad"], DIMENSION, ALICE))
    (both,) = await model.asked(1)
    assert sorted(both.texts) == ["bad", "good"]
    await model.answer_all(good)
    assert (await good).row(0) == pytest.approx(hashed("good"))
    with pytest.raises(InvalidRequest, match="no such characters"):
        await model.answer_all(bad)
        await bad


async def test_a_model_that_is_away_is_told_to_all_and_asked_once(model: Patient, embedder: Embedder) -> None:
    model.refused["one"] = ProviderUnavailable("away")
    orders = [
        asyncio.create_task(embedder.embed_documents(MODEL, [text], DIMENSION, ALICE)) for text in ("one", "other")
    ]
    await model.answer(*await model.asked(1))
    for order in orders:
        with pytest.raises(ProviderUnavailable, match="away"):
            await order
    assert model.waiting == []


async def test_owners_have_requests_of_their_own_and_equal_texts_go_once(model: Patient, embedder: Embedder) -> None:
    hers = asyncio.create_task(embedder.embed_documents(MODEL, ["a", "b", "a"], DIMENSION, ALICE))
    his = asyncio.create_task(embedder.embed_documents(MODEL, ["a"], DIMENSION, BOB))
    asked = await model.asked(2)
    assert {one.owner: one.texts for one in asked} == {"alice": ["a", "b"], "bob": ["a"]}
    await model.answer(*asked)
    made = await hers
    assert [made.row(at) for at in range(3)] == [pytest.approx(hashed(text)) for text in ("a", "b", "a")]
    await his


async def test_closing_lets_nobody_wait_for_ever(model: Patient) -> None:
    async with Embedder(model).running() as embedder:
        large = asyncio.create_task(embedder.embed_documents(MODEL, LARGE, DIMENSION, ALICE))
        small = asyncio.create_task(embedder.embed_documents(MODEL, ["one"], DIMENSION, ALICE))
        more = asyncio.create_task(embedder.embed_documents(MODEL, LARGE[1_000:], DIMENSION, BOB))
        before = await model.asked(3)
    assert all(one.is_stopped for one in before)
    for order in (large, small, more):
        async with asyncio.timeout(60):
            with pytest.raises(asyncio.CancelledError):
                await order


async def test_a_file_in_the_background_is_behind_what_callers_bring(
    model: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    come = asyncio.Event()
    embed_documents = Embedder.embed_documents

    async def embed_and_tell(embedder: Embedder, name: str, texts: Sequence[str], *more: Any, **options: Any) -> Any:
        if "chapter 0" in texts:
            come.set()
        return await embed_documents(embedder, name, texts, *more, **options)

    monkeypatch.setattr(Embedder, "embed_documents", embed_and_tell)
    async with open_memory_stack(tmp_path, inference=model) as stack:
        memory, files = await stack.memory(), await stack.files()
        bank = MemoryBank(
            identifier="notes", provider_id="", provider_resource_id="", bank=VectorBank(chunk_size_tokens=32)
        )
        await memory.create_bank(bank, ALICE)

        async def content() -> AsyncIterator[bytes]:
            for number in range(4_000):
                yield f"A file says in its sentence {number} what nobody waits for.\n\n".encode()

        about = NewFile(filename="large.txt", purpose="assistants", mime_type="text/plain")
        file = await files.create(content(), about, ALICE)
        await memory.attach_file("notes", file.file_id, ALICE)
        before = await model.asked(REQUESTS_AT_ONCE)

        async def insert(*texts: str) -> None:
            chunks = [Chunk(chunk_id=text, document_id=text, content=text) for text in texts]
            await memory.insert_chunks("notes", [Embedded(chunk=chunk) for chunk in chunks], ALICE)

        sentence = asyncio.create_task(insert("one sentence"))
        (own,) = [one for one in await model.asked(REQUESTS_AT_ONCE + 1) if one not in before]
        assert own.texts == ["one sentence"]
        await model.answer(own)
        async with asyncio.timeout(60):
            await sentence

        chapters = asyncio.create_task(insert(*(f"chapter {number}" for number in range(100))))
        async with asyncio.timeout(60):
            await come.wait()
        await settled()
        await model.answer(*before)
        (mixed,) = await model.asked(1)
        of_file = sum(text.startswith("A file says") for text in mixed.texts)
        assert 0 < of_file < len(mixed.texts) - of_file
        chapters.cancel()
