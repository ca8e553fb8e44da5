"""Documents in, chunks out: the whole way over a real index, with an embedder that needs no model."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.files import FilePurpose, NewFile
from llama_stack.api.filters import Comparison
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest
from llama_stack.api.memory import (
    Chunk,
    ChunkSizes,
    Document,
    DocumentState,
    Embedded,
    Entity,
    Expiry,
    Facts,
    MemoryQuery,
    Relation,
    SearchMode,
)
from llama_stack.api.resources import BankKind, GraphBank, KeyValueBank, KeywordBank, MemoryBank, VectorBank
from llama_stack.compose import LocalStack
from llama_stack.errors import Conflict, InvalidRequest, NotFound, ProviderUnavailable, UnsupportedParameter
from llama_stack.memory import selecting
from llama_stack.memory.service import MemoryService
from tests.agents.scripts import says
from tests.memory.hashed import ALICE, BOB, EmbeddingInference, hashed, open_memory_stack

TENT = Document(
    document_id="tent",
    name="tent.md",
    content="# Tarn 2\n\nThe tent weighs 1.8 kg and stands on two poles.\n\n## Care\n\nDry it before storing it.",
    metadata={"kind": "tent", "year": 2024},
)
STOVE = Document(document_id="stove", content="The stove burns gas.", metadata={"kind": "stove", "year": 2023})


def bank(identifier: str, kind: BankKind | None = None) -> MemoryBank:
    return MemoryBank(identifier=identifier, provider_id="", provider_resource_id="", bank=kind or VectorBank())


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    async with open_memory_stack(tmp_path) as opened:
        yield opened


@pytest.fixture
async def memory(stack: LocalStack) -> MemoryService:
    return await stack.memory()


async def texts(memory: MemoryService, question: str, bank_id: str = "notes", **settings: object) -> list[str]:
    query = MemoryQuery.model_validate({"query": question, **settings})
    return [chunk.content for chunk in await memory.query([bank_id], query, ALICE)]


async def test_what_goes_in_comes_out_with_its_source(memory: MemoryService) -> None:
    made = await memory.create_bank(bank("notes"), ALICE, name="My notes", metadata={"team": "red"})
    assert (made.bank.provider_id, made.name, made.metadata) == ("sqlite-vec", "My notes", {"team": "red"})
    statuses = await memory.insert_documents("notes", [TENT, STOVE], ALICE)
    assert [(one.document_id, one.state, one.error) for one in statuses] == [
        ("tent", DocumentState.COMPLETED, None),
        ("stove", DocumentState.COMPLETED, None),
    ]
    (best, *_) = await memory.query(["notes"], MemoryQuery(query="how much does the tent weigh?"), ALICE)
    assert "1.8 kg" in best.content
    assert (best.document_id, best.document_name, best.metadata) == ("tent", "tent.md", TENT.metadata)
    assert str(TENT.content)[best.start : best.end] == best.content
    assert 0 < best.score <= 1
    stats = await memory.stats("notes", ALICE)
    assert stats.documents == {DocumentState.COMPLETED: 2}
    assert stats.chunks >= 2


@pytest.mark.parametrize("mode", list(SearchMode))
async def test_every_mode_finds_and_filters_before_it_counts(memory: MemoryService, mode: SearchMode) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    many = [
        Document(document_id=f"d{number}", content=f"gas stove number {number}", metadata={"number": number})
        for number in range(60)
    ]
    await memory.insert_documents("notes", many, ALICE)
    found = await texts(
        memory,
        "gas stove",
        mode=mode,
        max_chunks=3,
        filters={"type": "and", "filters": [
            {"type": "gte", "key": "number", "value": 40},
            {"type": "in", "key": "number", "value": [3, 41, 52, 59]},
        ]},
    )  # fmt: skip
    assert sorted(found) == [f"gas stove number {number}" for number in (41, 52, 59)]


async def test_inserting_again_replaces_and_the_same_again_embeds_nothing(tmp_path: Path) -> None:
    inference = EmbeddingInference()
    async with open_memory_stack(tmp_path, inference=inference) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)
        await memory.insert_documents("notes", [TENT], ALICE)
        embedded = len(inference.requests)
        await memory.insert_documents("notes", [TENT], ALICE)
        twin = TENT.model_copy(update={"document_id": "twin", "metadata": {"kind": "twin"}})
        await memory.insert_documents("notes", [twin], ALICE)
        assert len(inference.requests) == embedded
        only_twins = Comparison(type="eq", key="kind", value="twin")
        found = await memory.query(["notes"], MemoryQuery(query="tent", filters=only_twins), ALICE)
        assert {chunk.document_id for chunk in found} == {"twin"}

        shorter = TENT.model_copy(update={"content": "Nothing about camping."})
        await memory.insert_documents("notes", [shorter], ALICE)
        assert [chunk.content for chunk in await memory.chunks_of("notes", "tent", ALICE)] == ["Nothing about camping."]


async def test_deleted_is_deleted_by_id_by_filter_and_with_the_bank(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    await memory.insert_documents("notes", [TENT, STOVE], ALICE)
    assert await memory.delete_documents("notes", ["tent", "unknown"], ALICE) == 1
    assert await texts(memory, "tent poles") == ["The stove burns gas."]
    assert await memory.delete_where("notes", Comparison(type="lt", key="year", value=2024), ALICE) == 1
    assert await texts(memory, "tent stove gas") == []
    with pytest.raises(NotFound, match="no document 'tent'"):
        await memory.document("notes", "tent", ALICE)
    await memory.insert_documents("notes", [TENT], ALICE)
    await memory.drop_bank("notes", ALICE)
    with pytest.raises(NotFound, match="no memory bank 'notes'"):
        await memory.query(["notes"], MemoryQuery(query="tent"), ALICE)
    await memory.create_bank(bank("notes"), ALICE)
    assert await texts(memory, "tent") == []


def files_holding(folder: Path, words: bytes) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and words in file.read_bytes().lower()]


async def test_nothing_of_what_was_deleted_is_left_in_the_files(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"Project Nightingale begins in May."

    about = {"of": "nightingale"}
    async with open_memory_stack(tmp_path) as stack:
        memory, files = await stack.memory(), await stack.files()
        for name in ("nightingale", "notes"):
            await memory.create_bank(bank(name), ALICE, metadata=about if name == "nightingale" else {})
            document = Document(document_id="d", name="nightingale.md", content="Nightingale begins.", metadata=about)
            await memory.insert_documents(name, [document], ALICE)
            file = await files.create(
                pieces(), NewFile(filename="nightingale.md", purpose=FilePurpose.ASSISTANTS), ALICE
            )
            await memory.attach_file(name, file.file_id, ALICE, metadata=about)
            await memory.delete_documents(name, ["d", file.file_id], ALICE)
            await files.delete(file.file_id, ALICE)
        await memory.drop_bank("nightingale", ALICE)
    assert "stack.db" in files_holding(tmp_path, b"")
    assert files_holding(tmp_path, b"nightingale") == []


async def test_owners_do_not_meet_even_under_one_name(memory: MemoryService) -> None:
    shared_name = MemoryBank(
        identifier="notes", provider_id="sqlite-vec", provider_resource_id="the-same", bank=VectorBank()
    )
    await memory.create_bank(shared_name, ALICE)
    await memory.create_bank(shared_name, BOB)
    await memory.insert_documents("notes", [TENT], ALICE)
    assert await memory.query(["notes"], MemoryQuery(query="tent"), BOB) == []
    with pytest.raises(NotFound):
        await memory.document("notes", "tent", BOB)
    await memory.drop_bank("notes", BOB)
    assert await texts(memory, "tent")
    await memory.create_bank(bank("hers"), ALICE)
    for work in (
        memory.bank("hers", BOB),
        memory.query(["hers"], MemoryQuery(query="x"), BOB),
        memory.insert_documents("hers", [TENT], BOB),
        memory.drop_bank("hers", BOB),
        memory.stats("hers", BOB),
    ):
        with pytest.raises(NotFound):
            await work


async def test_a_restart_finds_everything(tmp_path: Path) -> None:
    async with open_memory_stack(tmp_path) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)
        await memory.insert_documents("notes", [TENT, STOVE], ALICE)
        before = await memory.query(["notes"], MemoryQuery(query="tent"), ALICE)
    async with open_memory_stack(tmp_path) as stack:
        memory = await stack.memory()
        assert await memory.query(["notes"], MemoryQuery(query="tent"), ALICE) == before
        page = await memory.documents("notes", ALICE)
        assert {one.document_id for one in page.entries} == {"tent", "stove"}


async def test_one_bad_document_does_not_hold_up_the_others(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    empty = Document(document_id="empty", content="   \n ")
    neither = Document(document_id="neither")
    statuses = await memory.insert_documents("notes", [empty, TENT, neither], ALICE)
    assert [(one.state, one.error and one.error.code) for one in statuses] == [
        (DocumentState.FAILED, "empty"),
        (DocumentState.COMPLETED, None),
        (DocumentState.FAILED, "invalid_request"),
    ]
    assert (await memory.document("notes", "empty", ALICE)).error == statuses[0].error
    failed = await memory.documents("notes", ALICE, states=[DocumentState.FAILED])
    assert {one.document_id for one in failed.entries} == {"empty", "neither"}


async def test_what_was_read_in_part_says_what_was_left_out(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes", KeywordBank()), ALICE)
    wide = ",".join(f"c{number}" for number in range(1_200))
    documents = [
        Document(document_id=name, name="wide.csv", content=f"{wide}\n{wide}\n") for name in ("first", "the same again")
    ]
    for document in documents:
        (status,) = await memory.insert_documents("notes", [document], ALICE)
        assert status.state is DocumentState.COMPLETED
        assert status.warnings == ["a table has more than 1000 columns; the others were left out"]
    assert (await memory.document("notes", "the same again", ALICE)).warnings == status.warnings
    whole = Document(document_id="first", name="wide.csv", content="a,b\n1,2\n")
    (replaced,) = await memory.insert_documents("notes", [whole], ALICE)
    assert (replaced.state, replaced.warnings) == (DocumentState.COMPLETED, [])


async def test_what_is_sent_as_text_may_be_called_as_the_file_it_was_taken_from(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    documents = [
        Document(document_id="sent", name="report.pdf", mime_type="application/pdf", content="Owls hunt at night."),
        Document(document_id="fetched", name="report.pdf", url="data:application/pdf,This is not a PDF"),
    ]
    sent, fetched = await memory.insert_documents("notes", documents, ALICE)
    assert (sent.state, sent.name) == (DocumentState.COMPLETED, "report.pdf")
    assert fetched.error is not None
    assert fetched.error.code == "file_type_mismatch"


async def test_a_model_that_is_down_is_told_per_document_and_to_whoever_searches(tmp_path: Path) -> None:
    inference = EmbeddingInference()
    inference._embed = ProviderUnavailable("the embedding model is away")
    async with open_memory_stack(tmp_path, inference=inference) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)
        (status,) = await memory.insert_documents("notes", [TENT], ALICE)
        assert status.error is not None
        assert (status.error.code, status.error.message) == ("provider_unavailable", "the embedding model is away")
        with pytest.raises(ProviderUnavailable, match="model is away"):
            await memory.query(["notes"], MemoryQuery(query="tent"), ALICE)
        assert (await memory.stats("notes", ALICE)).chunks == 0


async def test_vectors_of_the_wrong_width_are_a_failure_not_a_mess(tmp_path: Path) -> None:
    inference = EmbeddingInference()
    async with open_memory_stack(tmp_path, inference=inference) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)

        def wrong(request: EmbeddingRequest) -> object:
            return EmbeddingInference()._embed(request).model_copy(update={"vectors": [[1.0, 2.0]]})  # type: ignore[operator]

        inference._embed = wrong  # type: ignore[assignment]
        (status,) = await memory.insert_documents("notes", [STOVE], ALICE)
        assert status.error is not None
        assert "vectors of 64 numbers" in status.error.message


async def test_a_cancelled_insert_leaves_nothing_under_way(tmp_path: Path) -> None:
    entered = asyncio.Event()

    class Hanging(EmbeddingInference):
        async def embed(self, request: EmbeddingRequest, caller: Caller) -> object:  # type: ignore[override]
            entered.set()
            await asyncio.Event().wait()
            return None

    async with open_memory_stack(tmp_path, inference=Hanging()) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)
        inserting = asyncio.create_task(memory.insert_documents("notes", [TENT, STOVE], ALICE))
        async with asyncio.timeout(60):
            await entered.wait()
        inserting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await inserting
        assert (await memory.documents("notes", ALICE)).entries == []
        assert (await memory.stats("notes", ALICE)).chunks == 0


class Held(EmbeddingInference):
    """Has its vectors once it is let go. asked: it works on some."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def embed(self, request: EmbeddingRequest, caller: Caller) -> EmbeddingAnswer:
        self.asked.set()
        await self.go.wait()
        return await super().embed(request, caller)

    async def hold(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """The work, begun and waiting for vectors."""
        self.asked.clear()
        self.go.clear()
        task = asyncio.create_task(work)
        async with asyncio.timeout(60):
            await self.asked.wait()
        return task


NEWER = STOVE.model_copy(update={"content": "The stove burns petrol.", "metadata": {"kind": "burner"}})


async def test_a_replacement_that_is_cancelled_leaves_the_document_that_was_there(tmp_path: Path) -> None:
    async with open_memory_stack(tmp_path, inference=(inference := Held())) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)
        await memory.insert_documents("notes", [STOVE], ALICE)
        inserting = await inference.hold(memory.insert_documents("notes", [NEWER], ALICE))
        inserting.cancel()
        await asyncio.wait([inserting])
        inference.go.set()
        assert await texts(memory, "stove") == ["The stove burns gas."]
        assert (await memory.document("notes", "stove", ALICE)).state is DocumentState.CANCELLED


async def test_metadata_that_is_set_while_a_document_is_read_is_its_chunks(tmp_path: Path) -> None:
    async with open_memory_stack(tmp_path, inference=(inference := Held())) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)
        inserting = await inference.hold(memory.insert_documents("notes", [STOVE], ALICE))
        await memory.set_metadata("notes", "stove", {"kind": "cooker"}, ALICE)
        inference.go.set()
        (status,) = await inserting
        assert status.metadata == {"kind": "cooker"}
        assert [chunk.metadata for chunk in await memory.chunks_of("notes", "stove", ALICE)] == [{"kind": "cooker"}]


async def test_deleting_by_filter_spares_what_is_put_in_place_of_what_it_selects(tmp_path: Path) -> None:
    stoves = Comparison(type="eq", key="kind", value="stove")
    async with open_memory_stack(tmp_path, inference=(inference := Held())) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("notes"), ALICE)
        await memory.insert_documents("notes", [STOVE], ALICE)
        inserting = await inference.hold(memory.insert_documents("notes", [NEWER], ALICE))
        assert await memory.delete_where("notes", stoves, ALICE) == 1
        assert (await memory.stats("notes", ALICE)).chunks == 0
        inference.go.set()
        (status,) = await inserting
        assert status.state is DocumentState.COMPLETED
        assert await texts(memory, "stove") == ["The stove burns petrol."]


async def test_deleting_by_filter_looks_again_only_at_what_was_touched_meanwhile(
    memory: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "CLOCKS_APART", timedelta())
    stoves = Comparison(type="eq", key="kind", value="stove")
    await memory.create_bank(bank("notes"), ALICE)
    await memory.insert_documents(
        "notes", [STOVE, *(STOVE.model_copy(update={"document_id": name}) for name in ("pan", "pot"))], ALICE
    )
    index = (await memory._banks.share("notes", ALICE)).index
    list_chunks, looks = index.list_chunks, []

    async def listed(*arguments: Any, **settings: Any) -> Any:
        found = await list_chunks(*arguments, **settings)
        if "where" not in settings:
            return found
        looks.append(settings["document_ids"])
        if len(looks) == 1:
            await memory.set_metadata("notes", "pan", {"kind": "pan"}, ALICE)
            await memory.insert_chunks("notes", [Embedded(chunk=found[-1].chunk)], ALICE)
        return found

    monkeypatch.setattr(index, "list_chunks", listed)
    assert await memory.delete_where("notes", stoves, ALICE) == 2
    assert looks == [None, ["pan", "stove"]]
    monkeypatch.undo()
    assert [one.metadata for one in await memory.query(["notes"], MemoryQuery(query="gas"), ALICE)] == [{"kind": "pan"}]


async def test_a_document_that_comes_while_others_are_deleted_by_filter_is_there_or_not(
    memory: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    stoves = Comparison(type="eq", key="kind", value="stove")
    await memory.create_bank(bank("notes"), ALICE)
    await memory.insert_documents("notes", [STOVE], ALICE)
    share = await memory._banks.share("notes", ALICE)
    list_chunks = share.index.list_chunks

    async def listed(*arguments: Any, **settings: Any) -> Any:
        found = await list_chunks(*arguments, **settings)
        monkeypatch.undo()
        await memory.insert_documents("notes", [STOVE.model_copy(update={"document_id": "late"})], ALICE)
        return found

    monkeypatch.setattr(share.index, "list_chunks", listed)
    await memory.delete_where("notes", stoves, ALICE)
    listed_ids = {one.document_id for one in (await memory.documents("notes", ALICE)).entries}
    found_ids = {one.document_id for one in await memory.query(["notes"], MemoryQuery(filters=stoves), ALICE)}
    assert listed_ids == found_ids


# --- banks -----------------------------------------------------------------------------------------------------------


async def test_a_bank_says_at_once_what_cannot_be(memory: MemoryService) -> None:
    for kind, message in (
        (VectorBank(embedding_model="scripted"), "not a model that embeds"),
        (VectorBank(embedding_dimension=12), "makes vectors of 64 numbers"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            await memory.create_bank(bank("wrong", kind), ALICE)
    with pytest.raises(InvalidRequest, match=r"embedding_model: .*nobody"):
        await memory.create_bank(bank("wrong", VectorBank(embedding_model="nobody")), ALICE)
    with pytest.raises(InvalidRequest, match="no provider 'elsewhere'"):
        await memory.create_bank(bank("x").model_copy(update={"provider_id": "elsewhere"}), ALICE)
    await memory.create_bank(bank("notes"), ALICE)
    with pytest.raises(Conflict, match="registered with other values"):
        await memory.create_bank(bank("notes", KeywordBank()), ALICE)
    with pytest.raises(NotFound, match="wrong"):
        await memory.bank("wrong", ALICE)


async def test_a_stack_without_memory_says_what_to_add(tmp_path: Path) -> None:
    async with open_memory_stack(tmp_path, memory=()) as stack:
        with pytest.raises(UnsupportedParameter, match=r"providers\.memory"):
            await (await stack.memory()).create_bank(bank("notes"), ALICE)


async def test_a_keyword_bank_needs_no_model(memory: MemoryService) -> None:
    await memory.create_bank(bank("words", KeywordBank(chunk_size_tokens=16)), ALICE)
    await memory.insert_documents("words", [TENT, STOVE], ALICE)
    assert await texts(memory, "burning gases", "words") == ["The stove burns gas."]
    with pytest.raises(UnsupportedParameter, match="has not vectors"):
        await texts(memory, "gas", "words", mode="vector")
    with pytest.raises(InvalidRequest, match="no text to search for"):
        await texts(memory, "  ", "words")


async def test_a_key_value_bank_gives_what_lies_under_the_keys(memory: MemoryService) -> None:
    await memory.create_bank(bank("facts", KeyValueBank()), ALICE)
    values = [
        Document(document_id=f"user/{name}", content=value) for name, value in (("name", "Ada"), ("city", "Oslo"))
    ]
    await memory.insert_documents("facts", values, ALICE)
    found = await memory.query(["facts"], MemoryQuery(keys=["user/city", "user/none", "user/name"]), ALICE)
    assert [(chunk.document_id, chunk.content) for chunk in found] == [("user/city", "Oslo"), ("user/name", "Ada")]
    assert await texts(memory, "user/name", "facts") == ["Ada"]
    with pytest.raises(InvalidRequest, match="asked for `keys`"):
        await memory.query(["facts"], MemoryQuery(), ALICE)


async def test_other_metadata_of_facts_leave_the_graph_as_it_is(memory: MemoryService) -> None:
    await memory.create_bank(bank("family", GraphBank()), ALICE)
    mother = Relation(subject="Ada", relation="is the mother of", object="Ben")
    await memory.insert_facts("family", [Facts(document_id="d", relations=[mother], metadata={"source": "a"})], ALICE)
    assert (await memory.document("family", "d", ALICE)).metadata == {"source": "a"}
    await memory.set_metadata("family", "d", {"source": "b"}, ALICE)
    only_b = Comparison(type="eq", key="source", value="b")
    found = await memory.query(["family"], MemoryQuery(entities=["ben"], filters=only_b), ALICE)
    assert "Ada is the mother of Ben." in [chunk.content for chunk in found]


async def test_a_graph_bank_walks_from_entity_to_entity(memory: MemoryService) -> None:
    await memory.create_bank(bank("people", GraphBank()), ALICE)
    facts = [
        Facts(
            document_id="d1",
            entities=[Entity(name="Ada Lovelace", type="person", description="a mathematician")],
            relations=[Relation(subject="Ada Lovelace", relation="worked with", object="Charles Babbage")],
        ),
        Facts(
            document_id="d2",
            relations=[Relation(subject="charles  babbage", relation="designed", object="Analytical Engine")],
        ),
    ]
    await memory.insert_facts("people", facts, ALICE)
    one_step = await texts(memory, "What did Ada Lovelace do?", "people", max_chunks=10)
    assert "Ada Lovelace worked with Charles Babbage." in one_step
    assert "Ada Lovelace (person): a mathematician" in one_step
    assert not any("designed" in text for text in one_step)
    two_steps = await memory.query(["people"], MemoryQuery(entities=["ada lovelace"], depth=2, max_chunks=10), ALICE)
    scores = {chunk.content: chunk.score for chunk in two_steps}
    assert scores["charles  babbage designed Analytical Engine."] == 0.5
    await memory.delete_documents("people", ["d2"], ALICE)
    assert not any("designed" in text for text in await texts(memory, "Charles Babbage", "people", max_chunks=10))
    with pytest.raises(InvalidRequest, match="no extraction_model"):
        statuses = await memory.insert_documents("people", [TENT], ALICE)
        raise InvalidRequest(statuses[0].error.message if statuses[0].error else "")


async def test_a_model_reads_the_facts_out_of_documents(tmp_path: Path) -> None:
    said = (
        '{"entities": [{"name": "Oslo", "type": "city"}], "relations": [{"subject": "Oslo", "relation": '
        '"is the capital of", "object": "Norway", "evidence": "Oslo, capital of Norway"}]}'
    )
    async with open_memory_stack(tmp_path, says(said)) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("graph", GraphBank(extraction_model="scripted")), ALICE)
        (status,) = await memory.insert_documents(
            "graph", [Document(document_id="d", content="Oslo, capital of Norway.")], ALICE
        )
        assert status.state is DocumentState.COMPLETED
        found = await texts(memory, "Norway", "graph")
        assert "Oslo is the capital of Norway. (Oslo, capital of Norway)" in found
    async with open_memory_stack(tmp_path, says("I cannot.")) as stack:
        memory = await stack.memory()
        (status,) = await memory.insert_documents("graph", [Document(document_id="e", content="Bergen.")], ALICE)
        assert status.error is not None
        assert status.error.code == "structured_output_invalid"


async def test_facts_that_the_document_does_not_name_are_not_kept(tmp_path: Path) -> None:
    said = (
        '{"entities": [{"name": "Norways"}, {"name": "Atlantis"}], "relations": ['
        '{"subject": "Oslo", "relation": "is the capital of", "object": "Norway", "evidence": "as everybody knows"},'
        '{"subject": "Oslo", "relation": "is the capital of", "object": "Atlantis"}]}'
    )
    nothing = '{"entities": [{"name": "the text"}], "relations": []}'
    async with open_memory_stack(tmp_path, says(said), says(nothing)) as stack:
        memory = await stack.memory()
        await memory.create_bank(bank("graph", GraphBank(extraction_model="scripted")), ALICE)
        await memory.insert_documents("graph", [Document(document_id="d", content="Oslo, capital of Norway.")], ALICE)
        kept = {chunk.content for chunk in await memory.chunks_of("graph", "d", ALICE)}
        assert kept == {"Norways", "Oslo", "Norway", "Oslo is the capital of Norway."}
        (status,) = await memory.insert_documents("graph", [Document(document_id="e", content="Bergen.")], ALICE)
        assert status.error is not None
        assert "names; use a larger extraction_model" in status.error.message


async def test_an_expired_bank_says_so_and_can_be_revived(
    memory: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await memory.create_bank(bank("notes"), ALICE, expiry=Expiry(days=1))
    assert made.expires_at is not None
    await memory.insert_documents("notes", [TENT], ALICE)
    after = made.expires_at.replace(year=made.expires_at.year + 1)
    monkeypatch.setattr("llama_stack.memory.banks.now", lambda: after)
    monkeypatch.setattr("llama_stack.storage.banks.now", lambda: after)
    with pytest.raises(InvalidRequest, match="has expired") as refused:
        await texts(memory, "tent")
    assert refused.value.code == "vector_store_expired"
    await memory._empty_expired()
    assert (await memory.stats("notes", ALICE)).chunks == 0
    assert (await memory.update_bank("notes", ALICE, expiry="never")).expires_at is None
    assert await texts(memory, "tent") == []


# --- chunks of the callers own, and ways of searching ---------------------------------------------------------------


async def test_chunks_can_be_brought_with_and_without_vectors(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    chunks = [
        Embedded(chunk=Chunk(chunk_id="c1", document_id="d", content="gas"), vector=hashed("gas")),
        Embedded(chunk=Chunk(chunk_id="c2", document_id="d", content="poles")),
    ]
    await memory.insert_chunks("notes", chunks, ALICE)
    assert await texts(memory, "gas", mode="vector", max_chunks=1) == ["gas"]
    assert await texts(memory, "poles", mode="vector", max_chunks=1) == ["poles"]
    assert (await memory.document("notes", "d", ALICE)).chunks == 2
    with pytest.raises(InvalidRequest, match="has 2 numbers") as refused:
        await memory.insert_chunks("notes", [chunks[0].model_copy(update={"vector": [1.0, 2.0]})], ALICE)
    assert refused.value.param == "chunks.0.embedding"


async def test_sizes_are_counted_in_the_models_tokens(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    long = Document(
        document_id="long", content=" ".join(f"Sentence number {number} ends here." for number in range(80))
    )
    await memory.insert_documents("notes", [long], ALICE, sizes=ChunkSizes(chunk_size_tokens=20, overlap_size_tokens=5))
    chunks = await memory.chunks_of("notes", "long", ALICE)
    assert len(chunks) > 20
    assert all(len(chunk.content.split()) <= 20 for chunk in chunks)
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    with pytest.raises(InvalidRequest, match="overlap of 40 tokens"):
        await memory.insert_documents(
            "notes", [long], ALICE, sizes=ChunkSizes(chunk_size_tokens=20, overlap_size_tokens=40)
        )


async def test_reranking_diversity_and_thresholds_change_what_is_found(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    documents = [
        Document(document_id="short", content="gas stove"),
        Document(document_id="longer", content="gas stove with much more to say about it"),
        Document(document_id="copy", content="gas  stove"),
    ]
    await memory.insert_documents("notes", documents, ALICE)
    assert (await texts(memory, "gas stove"))[0].split() == ["gas", "stove"]
    assert len(await texts(memory, "gas stove")) == 2
    assert (await texts(memory, "gas stove", rerank_model="scripted"))[0].startswith("gas stove with")
    assert await texts(memory, "gas stove", mode="vector", score_threshold=0.99) in (["gas stove"], ["gas  stove"])
    assert len(await texts(memory, "gas stove", diversity=0.5, max_chunks=1)) == 1


async def test_a_filter_too_large_is_refused(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    nested: dict[str, object] = {"type": "eq", "key": "a", "value": 1}
    for _ in range(10):
        nested = {"type": "and", "filters": [nested]}
    with pytest.raises(InvalidRequest, match="11 levels"):
        await texts(memory, "x", filters=nested)


async def test_several_banks_are_one_search(memory: MemoryService) -> None:
    await memory.create_bank(bank("notes"), ALICE)
    await memory.create_bank(bank("words", KeywordBank()), ALICE)
    await memory.insert_documents("notes", [TENT], ALICE)
    await memory.insert_documents("words", [STOVE], ALICE)
    found = await memory.query(["notes", "words", "notes"], MemoryQuery(query="gas tent", max_chunks=10), ALICE)
    assert {chunk.document_id for chunk in found} == {"tent", "stove"}
    assert [chunk.score for chunk in found] == sorted((chunk.score for chunk in found), reverse=True)
