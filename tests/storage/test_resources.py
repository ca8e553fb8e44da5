"""Registered resources."""

import pytest

from llama_stack.api.common import Caller
from llama_stack.api.resources import KeywordBank, MemoryBank, Model, Resource, Shield, VectorBank
from llama_stack.api.tools import ToolGroup
from llama_stack.errors import Conflict, NotFound
from llama_stack.storage import Database, ResourceStore

OWNED = {"identifier": "same-name", "provider_id": "p", "provider_resource_id": "theirs"}
RESOURCES: list[Resource] = [
    Model(**OWNED, context_length=4096, metadata={"b": 1, "a": [None, "🦙"]}),
    Shield(**OWNED, params={"categories": ["S1"]}),
    MemoryBank(**OWNED, bank=VectorBank(embedding_model="e", chunk_size_tokens=100)),
    ToolGroup(**OWNED, mcp_endpoint="http://localhost/mcp", args={"x": 1}),
]


@pytest.fixture
def store(database: Database) -> ResourceStore:
    return ResourceStore(database)


def model(identifier: str, created: int = 0) -> Model:
    return Model(identifier=identifier, provider_id="p", provider_resource_id="theirs", created=created)


async def test_every_kind_comes_back_whole_under_one_name(store: ResourceStore, alice: Caller) -> None:
    for resource in RESOURCES:
        await store.register(resource, alice)
    assert await store.get(Model, "same-name", alice) == RESOURCES[0]
    assert await store.get(Shield, "same-name", alice) == RESOURCES[1]
    assert await store.get(MemoryBank, "same-name", alice) == RESOURCES[2]
    assert await store.get(ToolGroup, "same-name", alice) == RESOURCES[3]
    assert (await store.page(Shield, alice)).entries == [RESOURCES[1]]


async def test_the_same_may_be_registered_again_but_nothing_else_in_its_place(
    store: ResourceStore, alice: Caller
) -> None:
    await store.register(model("m", created=1), alice)
    await store.register(model("m", created=2), alice)
    with pytest.raises(Conflict, match="model 'm' is registered with other values"):
        await store.register(model("m").model_copy(update={"context_length": 1}), alice)
    assert await store.get(Model, "m", alice) == model("m", created=1)


async def test_an_unregistered_resource_is_gone_and_its_name_free(store: ResourceStore, alice: Caller) -> None:
    bank = MemoryBank(**OWNED, bank=KeywordBank())
    await store.register(RESOURCES[2], alice)
    await store.unregister(MemoryBank, "same-name", alice)
    with pytest.raises(NotFound, match="no registered memory bank 'same-name'"):
        await store.get(MemoryBank, "same-name", alice)
    with pytest.raises(NotFound):
        await store.unregister(MemoryBank, "same-name", alice)
    await store.register(bank, alice)
    assert await store.get(MemoryBank, "same-name", alice) == bank


async def test_pages_are_sorted_by_code_point_and_complete(store: ResourceStore, alice: Caller) -> None:
    names = ["b", "B", "a", "é", "a-b", "ab", "Z"]
    for name in names:
        await store.register(model(name), alice)
    seen: list[str] = []
    after: str | None = None
    for _ in range(3):
        page = await store.page(Model, alice, limit=3, after=after)
        seen += [entry.identifier for entry in page.entries]
        after = page.next_after
    assert seen == sorted(names)
    assert after is None
