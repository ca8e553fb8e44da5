"""Small values by key."""

import secrets
from typing import Any

import pytest

from llama_stack.api.common import Caller
from llama_stack.errors import InvalidRequest, NotFound, PayloadTooLarge
from llama_stack.storage import Database, KeyValue, KeyValueStore
from llama_stack.storage.key_values import MAX_VALUE_BYTES


@pytest.fixture
def store(database: Database) -> KeyValueStore:
    return KeyValueStore(database)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        1.5,
        10**30,
        "",
        "text",
        "NUL \0 inside",
        "🦙",
        "half a pair \ud83e",
        [],
        {"b": [1, {"a": None}], "a": "z"},
    ],
)
async def test_a_value_comes_back_as_it_was(store: KeyValueStore, alice: Caller, value: Any) -> None:
    await store.put("n", "k", value, alice)
    assert await store.get("n", "k", alice) == value


async def test_a_later_value_takes_the_place_of_an_earlier_one(store: KeyValueStore, alice: Caller) -> None:
    await store.put("n", "k", 1, alice)
    await store.put("n", "k", 2, alice)
    assert (await store.page("n", alice)).entries == [KeyValue(key="k", value=2)]


async def test_a_deleted_value_is_gone(store: KeyValueStore, alice: Caller) -> None:
    await store.put("n", "k", 1, alice)
    await store.delete("n", "k", alice)
    with pytest.raises(NotFound):
        await store.get("n", "k", alice)
    with pytest.raises(NotFound):
        await store.delete("n", "k", alice)


async def test_namespaces_are_apart(store: KeyValueStore, alice: Caller) -> None:
    await store.put("one", "k", 1, alice)
    with pytest.raises(NotFound):
        await store.get("two", "k", alice)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": {1, 2}}, b"bytes"])
async def test_what_is_not_json_is_refused(store: KeyValueStore, alice: Caller, value: Any) -> None:
    with pytest.raises(InvalidRequest, match="not JSON"):
        await store.put("n", "k", value, alice)


async def test_a_large_value_is_refused(store: KeyValueStore, alice: Caller) -> None:
    await store.put("n", "k", "x" * (MAX_VALUE_BYTES - 2), alice)
    with pytest.raises(PayloadTooLarge):
        await store.put("n", "k", "x" * (MAX_VALUE_BYTES - 1), alice)


KEYS = [
    "",
    "a",
    "A",
    "a%",
    "a_",
    "ab",
    "a/b",
    "b",
    "Z",
    "é",
    "z",
    "a\U0010ffff",
    "a\U0010ffffb",
    "\ud7ff",
    "\ue000",
    "%",
]


@pytest.mark.parametrize("prefix", KEYS)
async def test_a_prefix_finds_what_begins_with_it_and_nothing_else(
    store: KeyValueStore, alice: Caller, prefix: str
) -> None:
    keys = [key for key in KEYS if key]
    for key in keys:
        await store.put("n", key, key, alice)
    found = (await store.page("n", alice, prefix=prefix)).entries
    assert [entry.key for entry in found] == sorted(key for key in keys if key.startswith(prefix))


@pytest.mark.parametrize("limit", [1, 3, 10, 11])
async def test_pages_give_every_entry_once_while_others_come_and_go(
    store: KeyValueStore, alice: Caller, limit: int
) -> None:
    keys = [f"k{number:02d}" for number in range(10)]
    for key in keys:
        await store.put("n", key, key, alice)
    seen: list[str] = []
    after: str | None = None
    while True:
        page = await store.page("n", alice, prefix="k", limit=limit, after=after)
        assert len(page.entries) <= limit
        seen += [entry.key for entry in page.entries]
        if page.next_after is None:
            break
        after = page.next_after
        await store.delete("n", after, alice)
        await store.put("n", "k", "sorts before all that were seen", alice)
    assert seen == keys


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_limit_is_bounded(store: KeyValueStore, alice: Caller, limit: int) -> None:
    with pytest.raises(InvalidRequest, match="limit must be 1 to 1000"):
        await store.page("n", alice, limit=limit)


async def test_the_longest_names_fit_one_index(store: KeyValueStore) -> None:
    owner, namespace, key = (secrets.token_hex(256) for _ in range(3))
    await store.put(namespace, key, 1, Caller(owner=owner))
    assert await store.get(namespace, key, Caller(owner=owner)) == 1
