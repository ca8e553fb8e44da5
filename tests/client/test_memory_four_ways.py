"""stack.memory: the same in process and over HTTP, async and sync."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from llama_stack import Document, errors
from llama_stack.api.agents import MemoryRetrievalStep, ToolExecutionStep
from llama_stack.api.filters import Comparison, Compound
from llama_stack.api.inference import EmbeddingAnswer, EmbeddingRequest
from llama_stack.api.memory import ChunkSizes, DocumentState, Facts, Relation
from llama_stack.api.resources import GraphBank, KeywordBank, VectorBank
from llama_stack.testing.scripted import calls, says
from tests.client.conftest import WAYS
from tests.client.memory_ways import MemoryFace, MemoryWay
from tests.client.test_four_ways import facts
from tests.memory.hashed import EmbeddingInference

BERGEN = "# Bergen\n\nBergen is a town of rain and fish in Norway.\n"
OSLO = "# Oslo\n\nOslo is the capital of Norway.\n"


@pytest.fixture(params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryWay:
    face, place = request.param
    return MemoryWay(face, place, tmp_path / "server")


@pytest.fixture
async def memory(way: MemoryWay) -> AsyncIterator[MemoryFace]:
    async with way.open() as face:
        yield face


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "towns"
    folder.mkdir()
    (folder / "bergen.md").write_text(BERGEN)
    (folder / "oslo.md").write_text(OSLO)
    return folder


async def test_a_file_is_added_and_found_without_naming_a_bank(memory: MemoryFace, folder: Path) -> None:
    (status,) = await memory.call("add", folder / "bergen.md")
    found = await memory.call("search", "Where does it rain?")

    assert (status.state, status.name, status.bank_id) == (DocumentState.COMPLETED, "bergen.md", "default")
    assert status.metadata == {"path": str(folder / "bergen.md")}
    assert [(chunk.document_name, chunk.headings) for chunk in found] == [("bergen.md", ["Bergen"])]
    assert found[0].content.endswith("Bergen is a town of rain and fish in Norway.")


async def test_what_was_added_is_there_after_a_restart(way: MemoryWay, folder: Path) -> None:
    async with way.open() as memory:
        await memory.call("add", folder)
    async with way.open() as memory:
        (best, *_) = await memory.call("search", "the capital", mode="keyword")

    assert best.document_name == "oslo.md"


async def test_an_unchanged_file_is_left_and_a_changed_one_replaced(memory: MemoryFace, folder: Path) -> None:
    first = await memory.add_each(folder)
    again = await memory.add_each(folder)
    (folder / "oslo.md").write_text("# Oslo\n\nOslo was once called Christiania.\n")
    changed = await memory.add_each(folder)

    assert [one.outcome for one in first + again] == ["added", "added", "unchanged", "unchanged"]
    assert {one.source.rpartition("/")[2]: one.outcome for one in changed} == {
        "bergen.md": "unchanged",
        "oslo.md": "changed",
    }
    assert len(await memory.call("documents")) == 2
    assert not await memory.call("search", "capital", mode="keyword")
    assert [chunk.document_name for chunk in await memory.call("search", "Christiania", mode="keyword")] == ["oslo.md"]


async def test_new_metadata_of_an_unchanged_file_is_kept(memory: MemoryFace, folder: Path) -> None:
    await memory.call("add", folder, metadata={"land": "Norway"})
    results = await memory.add_each(folder / "oslo.md", metadata={"land": "Norge"})

    assert [(one.outcome, one.status and one.status.metadata["land"]) for one in results] == [("unchanged", "Norge")]
    found = await memory.call("search", "town", filters={"land": "Norge"})
    assert [chunk.document_name for chunk in found] == ["oslo.md"]


async def test_a_file_that_cannot_be_read_is_told_and_the_others_are_there(memory: MemoryFace, folder: Path) -> None:
    (folder / "odd.pdf").write_bytes(b"%PDF-1.7 and then nothing")
    with pytest.raises(errors.InvalidRequest) as raised:
        await memory.call("add", folder)

    assert raised.value.code == "damaged"
    assert f"not remembered: {folder / 'odd.pdf'}: " in raised.value.message
    assert raised.value.message.endswith("The other 2 are there")
    (failed,) = await memory.call("documents", states=[DocumentState.FAILED])
    assert (failed.name, failed.error.code) == ("odd.pdf", "damaged")
    (folder / "odd.pdf").write_text("# No PDF\n\nBut text all the same.\n")
    (result,) = await memory.add_each(folder / "odd.pdf")
    assert result.error is not None
    assert (result.error.code, result.outcome) == ("file_type_mismatch", "failed")
    assert len(await memory.call("documents")) == 3


async def test_texts_and_documents_are_remembered(memory: MemoryFace) -> None:
    await memory.call("add_text", "Ada drinks tea.", name="notes", metadata={"of": "Ada"})
    await memory.call("add_text", "Bob drinks beer.", document_id="bob")
    await memory.call("add_text", "Bob drinks water now.", document_id="bob")
    await memory.call("add", Document(document_id="carl", content="Carl drinks milk."), metadata={"of": "Carl"})

    found = await memory.call("search", "drinks", mode="keyword")
    assert sorted(chunk.content for chunk in found) == ["Ada drinks tea.", "Bob drinks water now.", "Carl drinks milk."]
    (tea,) = await memory.call("search", "drinks", filters={"of": ["Ada", "Eve"]})
    assert (tea.document_name, tea.metadata) == ("notes", {"of": "Ada"})


async def test_an_empty_file_and_a_document_without_content_are_told(memory: MemoryFace, folder: Path) -> None:
    (folder / "empty.md").touch()
    results = await memory.add_each(folder / "empty.md", folder / "oslo.md", Document(document_id="nothing"))

    by_source = {one.source.rpartition("/")[2]: one for one in results}
    assert {name: one.error and one.error.code for name, one in by_source.items()} == {
        "empty.md": "empty_file",
        "oslo.md": None,
        "nothing": "invalid_request",
    }
    assert by_source["empty.md"].status is None
    assert [one.name for one in await memory.call("documents", states=[DocumentState.COMPLETED])] == ["oslo.md"]


async def test_a_key_of_metadata_that_the_stack_keeps_is_refused(memory: MemoryFace, folder: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"metadata\.path: is kept by the stack"):
        await memory.call("add", folder, metadata={"path": "mine"})


async def test_a_path_where_nothing_is_is_refused(memory: MemoryFace, folder: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"there is no file or folder '.*paris\.md'; to remember a text"):
        await memory.call("add", str(folder / "paris.md"))


async def test_filters_are_those_of_the_protocol_or_plain(memory: MemoryFace) -> None:
    for number in range(4):
        await memory.call(
            "add_text", f"Note {number}", document_id=str(number), metadata={"n": number, "odd": number % 2}
        )
    for filters, expected in [
        ({"odd": 1}, ["1", "3"]),
        ({"odd": 1, "n": [2, 3]}, ["3"]),
        ({"type": "gte", "key": "n", "value": 2}, ["2", "3"]),
        (Comparison(type="lt", key="n", value=1), ["0"]),
        (
            Compound(
                type="or",
                filters=[Comparison(type="eq", key="n", value=0), Comparison(type="eq", key="n", value=3)],
            ),
            ["0", "3"],
        ),
    ]:
        found = await memory.call("search", "note", filters=filters)
        assert sorted(chunk.document_id for chunk in found) == expected
    alone = await memory.call("search", filters={"odd": 1})
    assert [(chunk.document_id, chunk.score) for chunk in alone] == [("1", 1.0), ("3", 1.0)]
    with pytest.raises(errors.InvalidRequest, match="filters: "):
        await memory.call("search", "note", filters={"type": "like", "key": "n", "value": 2})
    with pytest.raises(errors.InvalidRequest, match=r"filters: must be a mapping such as .*, not 5"):
        await memory.call("search", "note", filters=5)
    with pytest.raises(errors.InvalidRequest, match=r"filters: 'n' can be compared with a text, .*, not with None"):
        await memory.call("search", "note", filters={"n": None})


async def test_wrong_options_are_named(memory: MemoryFace) -> None:
    with pytest.raises(errors.InvalidRequest, match="max_chunks: "):
        await memory.call("search", "x", max_chunks=0)
    with pytest.raises(errors.InvalidRequest, match="there are vector, keyword and hybrid"):
        await memory.call("search", "x", mode="telepathy")
    with pytest.raises(errors.InvalidRequest, match="colour: is no option"):
        await memory.call("search", "x", colour="red")
    with pytest.raises(errors.InvalidRequest, match="query"):
        await memory.call("search", " ")
    with pytest.raises(errors.NotFound, match="there is no memory bank 'nowhere'"):
        await memory.call("search", "x", bank="nowhere")


async def test_banks_of_every_kind(memory: MemoryFace) -> None:
    made = await memory.call(
        "create_bank", "small", VectorBank(chunk_size_tokens=64), name="Small", metadata={"a": "b"}
    )
    await memory.call("create_bank", "words", "keyword", expires_after_days=3)
    await memory.call("create_bank", "facts", "keyvalue")
    await memory.call("create_bank", "graph", GraphBank())
    assert (made.name, made.metadata) == ("Small", {"a": "b"})
    assert isinstance(made.bank.bank, VectorBank) and made.bank.bank.embedding_dimension == 64

    await memory.call("add_text", "teal", document_id="colour", bank="facts")
    assert [chunk.content for chunk in await memory.call("search", "colour", bank="facts")] == ["teal"]
    assert [chunk.content for chunk in await memory.call("search", keys=["colour"], bank="facts")] == ["teal"]

    kinds = {one.bank.identifier: one.bank.bank.kind for one in await memory.call("banks")}
    assert kinds == {"small": "vector", "words": "keyword", "facts": "keyvalue", "graph": "graph"}
    (words,) = await memory.call("banks", "keyword")
    assert words.expiry is not None and words.expiry.days == 3
    with pytest.raises(errors.Conflict):
        await memory.call("create_bank", "words", "vector")
    again = await memory.call("create_bank", "words", "keyword", exist_ok=True)
    assert isinstance(again.bank.bank, KeywordBank)
    await memory.call("drop_bank", "words")
    assert await memory.call("banks", "keyword") == []


async def test_only_the_bank_that_is_asked_for_is_taken_for_it(memory: MemoryFace) -> None:
    small = VectorBank(chunk_size_tokens=64)
    made = await memory.call("create_bank", "small", small, name="Small", exist_ok=True)
    for same in ("vector", VectorBank(), small):
        assert (await memory.call("create_bank", "small", same, exist_ok=True)).bank == made.bank
    others: list[tuple[dict[str, Any], str]] = [
        ({"kind": "keyword"}, "kind is 'vector', not 'keyword'"),
        ({"kind": VectorBank(chunk_size_tokens=128)}, "chunk_size_tokens is 64, not 128"),
        ({"name": "Large"}, "name is 'Small', not 'Large'"),
        ({"expires_after_days": 3}, "expires_after_days is None, not 3"),
    ]
    for options, differing in others:
        with pytest.raises(errors.Conflict, match=f"'small' is there already, and another one: {differing}; "):
            await memory.call("create_bank", "small", **options, exist_ok=True)


async def test_facts_go_into_a_graph_bank(memory: MemoryFace) -> None:
    await memory.call("create_bank", "family", "graph")
    relation = Relation(subject="Ada", relation="is the mother of", object="Ben")
    await memory.call("add_facts", Facts(document_id="tree", relations=[relation]), bank="family")
    found = await memory.call("search", entities=["ben"], bank="family")
    assert "Ada is the mother of Ben." in [chunk.content for chunk in found]
    await memory.call("create_bank", "words", "keyword")
    with pytest.raises(errors.InvalidRequest, match="'words' is no graph bank"):
        await memory.call("add_facts", Facts(document_id="tree", relations=[relation]), bank="words")


async def test_several_banks_are_searched_together(memory: MemoryFace) -> None:
    for bank in ("one", "two"):
        await memory.call("create_bank", bank)
        await memory.call("add_text", f"The {bank} fish", document_id=bank, bank=bank)
    found = await memory.call("search", "fish", bank=["one", "two"])
    assert sorted(chunk.document_id for chunk in found) == ["one", "two"]


async def test_documents_go_by_path_folder_name_id_and_filter(memory: MemoryFace, folder: Path) -> None:
    await memory.call("add", folder)
    await memory.call("add_text", "Paris", document_id="paris", metadata={"land": "France"})
    assert await memory.call("delete", folder / "bergen.md") == 1
    assert await memory.call("delete", "oslo.md") == 1
    assert await memory.call("delete", where={"land": "France"}) == 1
    assert await memory.call("documents") == []
    await memory.call("add", folder)
    assert await memory.call("delete", folder) == 2
    assert await memory.call("search", "Norway") == []
    with pytest.raises(errors.NotFound, match=r"the memory bank .default. has no document .oslo\.md."):
        await memory.call("delete", "oslo.md")


async def test_uploads_go_with_their_documents(memory: MemoryFace, folder: Path) -> None:
    async def uploads() -> int:
        stack = memory.stack
        held = getattr(stack, "held", stack)

        async def count() -> int:
            return len((await (await held.files()).page(held.caller)).entries)

        return int(stack.wait(count()) if hasattr(stack, "wait") else await count())

    await memory.call("create_bank", "towns")
    await memory.call("add", folder, bank="towns")
    await memory.call("add", folder / "oslo.md")
    assert await uploads() == 3
    await memory.call("delete", "oslo.md")
    assert await uploads() == 2
    await memory.call("drop_bank", "towns")
    assert await uploads() == 0


async def test_sizes_of_chunks_are_asked_for(memory: MemoryFace, folder: Path) -> None:
    (folder / "long.md").write_text("\n\n".join(f"Sentence number {number} stands here." for number in range(60)))
    (whole,) = await memory.call("add", folder / "long.md")
    (cut,) = await memory.call("add", folder / "long.md", sizes=ChunkSizes(chunk_size_tokens=32, overlap_size_tokens=0))

    assert whole.chunks < cut.chunks
    assert len(await memory.call("documents")) == 1


async def test_statistics_tell_what_is_there(memory: MemoryFace, folder: Path) -> None:
    empty = await memory.call("stats")
    await memory.call("add", folder)
    stats = await memory.call("stats")

    assert (empty.chunks, empty.documents) == (0, {})
    assert (stats.chunks, stats.documents) == (2, {DocumentState.COMPLETED: 2})


@pytest.mark.parametrize("kept", [False, True], ids=["own-session", "kept-session"])
async def test_an_agent_answers_from_its_banks(way: MemoryWay, folder: Path, kept: bool) -> None:
    async with way.open(says("It rains in Bergen.")) as memory:
        await memory.call("add", folder)
        result = await memory.ask("Where is fish and rain?", memory_banks=["default"], kept=kept)

    (step,) = [step for step in result.steps if isinstance(step, MemoryRetrievalStep)]
    assert step.chunks[0].document_name == "bergen.md"
    assert result.text.startswith("It rains in Bergen.")


@pytest.mark.parametrize("kept", [False, True], ids=["own-session", "kept-session"])
async def test_a_model_searches_by_a_tool_and_its_answer_is_cited(way: MemoryWay, folder: Path, kept: bool) -> None:
    script = [calls(("knowledge_search", '{"query": "fish"}')), says("Bergen is a town of rain and fish in Norway.")]
    async with way.open(*script) as memory:
        await memory.call("add", folder)
        search = memory.stack.memory.as_tool(mode="keyword", max_chunks=1, with_headings=False)
        result = await memory.ask("Where is fish?", tools=[search], kept=kept)

    (passage,) = result.passages
    assert (passage.document_name, passage.headings) == ("bergen.md", ["Bergen"])
    (step,) = [step for step in result.steps if isinstance(step, ToolExecutionStep)]
    assert step.results[0].content == "[1] bergen.md\nBergen is a town of rain and fish in Norway."
    (citation,) = result.citations
    assert (citation.document_name, citation.quote) == ("bergen.md", "Bergen is a town of rain and fish in Norway.")


@pytest.mark.parametrize("kept", [False, True], ids=["own-session", "kept-session"])
async def test_a_small_model_reads_one_sentence_of_what_a_function_finds(
    way: MemoryWay, folder: Path, kept: bool
) -> None:
    (folder / "bergen.md").write_text("# Bergen\n\nBergen lies by the sea. Its fish market opens at seven.\n")
    script = [calls(("knowledge_search", '{"query": "When does the fish market open?"}')), says("At seven.")]
    async with way.open(*script, context_length=1_024) as memory:
        await memory.call("add", folder)
        search = memory.stack.memory.as_tool(mode="keyword")
        result = await memory.ask("When does the fish market open?", tools=[search], kept=kept)

    (step,) = [step for step in result.steps if isinstance(step, ToolExecutionStep)]
    assert step.results[0].content == "[1] bergen.md\nIts fish market opens at seven."
    assert [passage.content for passage in result.passages] == ["Its fish market opens at seven."]


async def test_a_tool_that_finds_nothing_says_so(way: MemoryWay) -> None:
    async with way.open(calls(("look", '{"query": "fish"}')), says("I do not know.")) as memory:
        search = memory.stack.memory.as_tool(name="look", description="Look.", filters={"land": "Norway"})
        result = await memory.ask("Where is fish?", tools=[search])

    (step,) = [step for step in result.steps if isinstance(step, ToolExecutionStep)]
    assert step.results[0].content == "Nothing was found for 'fish'."
    assert (result.passages, result.citations) == ([], [])


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimited("slow down", retry_after_s=0.5),
        errors.ProviderFailed("the key is wrong", upstream_status=401, code="invalid_api_key"),
        errors.ProviderFailed("it broke", upstream_status=500),
    ],
    ids=repr,
)
async def test_an_embedders_error_is_the_same_error_in_a_search(way: MemoryWay, error: errors.StackError) -> None:
    inference = EmbeddingInference()
    async with way.open(inference=inference) as memory:
        await memory.call("add_text", BERGEN)

        def fail(request: EmbeddingRequest) -> EmbeddingAnswer:
            raise error

        inference._embed = fail
        with pytest.raises(type(error)) as raised:
            await memory.call("search", "rain")
        assert facts(raised.value) == facts(error)
