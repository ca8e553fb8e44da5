"""Chunks by a filter alone, and modes where a bank has none."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llama_stack.api.filters import Comparison
from llama_stack.api.memory import Document, Facts, MemoryQuery, Relation, SearchMode
from llama_stack.api.resources import BankKind, GraphBank, KeyValueBank, KeywordBank, MemoryBank, VectorBank
from llama_stack.errors import InvalidRequest, UnsupportedParameter
from llama_stack.memory.service import MemoryService
from tests.memory.hashed import ALICE, open_memory_stack

RED = Comparison(type="eq", key="colour", value="red")


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[MemoryService]:
    async with open_memory_stack(tmp_path) as stack:
        yield await stack.memory()


async def make(memory: MemoryService, bank_id: str, kind: BankKind) -> None:
    bank = MemoryBank(identifier=bank_id, provider_id="", provider_resource_id="", bank=kind)
    await memory.create_bank(bank, ALICE)


@pytest.mark.parametrize("kind", [VectorBank(), KeywordBank(), KeyValueBank()], ids=lambda kind: kind.kind)
async def test_a_filter_alone_selects_in_the_order_of_the_documents(memory: MemoryService, kind: BankKind) -> None:
    await make(memory, "things", kind)
    things = [("c", "red"), ("a", "red"), ("b", "blue"), ("d", "red")]
    await memory.insert_documents(
        "things", [Document(document_id=one, content="a thing", metadata={"colour": hue}) for one, hue in things], ALICE
    )
    found = await memory.query(["things"], MemoryQuery(filters=RED), ALICE)
    first = await memory.query(["things"], MemoryQuery(filters=RED, max_chunks=2, score_threshold=1.0), ALICE)
    assert [(one.document_id, one.score) for one in found] == [("a", 1.0), ("c", 1.0), ("d", 1.0)]
    assert [one.document_id for one in first] == ["a", "c"]


async def test_a_filter_alone_goes_through_the_banks_as_they_are_named(memory: MemoryService) -> None:
    await make(memory, "graph", GraphBank())
    await make(memory, "words", KeywordBank())
    relation = Relation(subject="Ada", relation="likes", object="red")
    await memory.insert_facts(
        "graph", [Facts(document_id="z", relations=[relation], metadata={"colour": "red"})], ALICE
    )
    await memory.insert_documents("words", [Document(document_id="a", content="x", metadata={"colour": "red"})], ALICE)
    both = MemoryQuery(filters=RED, max_chunks=4)
    found = await memory.query(["graph", "words"], both, ALICE)
    other = await memory.query(["words", "graph"], both.model_copy(update={"max_chunks": 2}), ALICE)
    assert [one.document_id for one in found] == ["z", "z", "z", "a"]
    assert [one.document_id for one in other] == ["a", "z"]


@pytest.mark.parametrize("ranked", [{"mode": "vector"}, {"diversity": 0.5}, {"query": " "}])
async def test_what_ranks_needs_a_question(memory: MemoryService, ranked: dict[str, object]) -> None:
    await make(memory, "things", VectorBank())
    query = MemoryQuery.model_validate({"filters": RED, **ranked})
    with pytest.raises(InvalidRequest, match="query: has no text to search for"):
        await memory.query(["things"], query, ALICE)


@pytest.mark.parametrize(
    ("kind", "asked"), [(KeyValueBank(), "for `keys`"), (GraphBank(), "for `entities`")], ids=["keyvalue", "graph"]
)
async def test_a_bank_that_is_not_searched_has_no_mode(memory: MemoryService, kind: BankKind, asked: str) -> None:
    await make(memory, "other", kind)
    with pytest.raises(
        UnsupportedParameter, match=f"'other' is a .* bank, which is asked {asked}; leave out mode"
    ) as it:
        await memory.query(["other"], MemoryQuery(query="x", mode=SearchMode.HYBRID), ALICE)
    assert it.value.param == "mode"
