"""Nobody sees or changes another owner's rows: one test for every public method of every store, found by reflection.

A new method is covered as soon as it exists; one with a parameter this file does not know fails until it is told.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from llama_stack.api.agents import AgentConfig
from llama_stack.api.common import Caller
from llama_stack.api.files import File, FilePurpose
from llama_stack.api.resources import KeywordBank, MemoryBank, Model
from llama_stack.api.responses import StoredCompletion
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.storage import AgentStore, Database, KeyValueStore, Page, ResourceStore
from llama_stack.storage.banks import BankStore
from llama_stack.storage.columns import now
from llama_stack.storage.completions import CompletionStore
from llama_stack.storage.conversations import ConversationStore
from llama_stack.storage.deletions import DeletionStore
from llama_stack.storage.documents import DocumentStore, NewDocument
from llama_stack.storage.files import FileStore
from llama_stack.storage.responses import ResponseStore
from llama_stack.storage.tables import metadata
from tests.storage.test_response_stores import kept
from tests.storage.workers import new_turn, said

STORES = (AgentStore, KeyValueStore, ResourceStore)
METHODS = [
    pytest.param(store, name, id=f"{store.__name__}.{name}")
    for store in STORES
    for name, _ in inspect.getmembers(store, inspect.isfunction)
    if not name.startswith("_")
]
# These need no row that is there already: the stranger gets a row of their own.
CREATING = {"create_agent", "put", "register"}


@dataclass
class World:
    """Alice's rows, one of each, and what a call needs to name them."""

    database: Database
    arguments: dict[str, Any]

    async def call(self, store: type[Any], name: str, caller: Caller) -> Any:
        """The method's answer to a call that names the rows of this world; a held turn is let go again."""
        method = getattr(store(self.database), name)
        wanted = [
            parameter
            for parameter in inspect.signature(method).parameters.values()
            if parameter.default is parameter.empty
        ]
        answer = method(*(caller if one.name == "caller" else self.arguments[one.name] for one in wanted))
        if isinstance(answer, AbstractAsyncContextManager):
            async with AsyncExitStack() as stack:
                return await stack.enter_async_context(answer)
        return await answer

    async def rows(self, caller: Caller) -> dict[str, list[Any]]:
        async with self.database.read() as connection:
            return {
                table.name: sorted(
                    map(repr, await connection.execute(select(table).where(table.c.owner == caller.owner)))
                )
                for table in metadata.sorted_tables
            }


@pytest.fixture
async def world(database: Database, alice: Caller) -> World:
    store = AgentStore(database)
    agent = await store.create_agent(AgentConfig(model="m"), alice)
    session = await store.create_session(agent.agent_id, "s", alice)
    turn = new_turn(session.session_id, f"{session.session_id}/1")
    async with store.open_turn(turn, alice) as open_turn:
        await open_turn.append_step(said("one"))
        await open_turn.await_results()
    model = Model(identifier="m", provider_id="p", provider_resource_id="m")
    await ResourceStore(database).register(model, alice)
    await KeyValueStore(database).put("n", "k", 1, alice)
    await keep_responses(database, alice)
    await keep_file(database, alice)
    await keep_bank(database, alice)
    arguments = {
        "config": AgentConfig(model="m"),
        "agent_id": agent.agent_id,
        "session_id": session.session_id,
        "turn_id": turn.turn_id,
        "turn": new_turn(session.session_id, f"{session.session_id}/2"),
        "name": "s",
        "resource": model,
        "kind": Model,
        "identifier": "m",
        "namespace": "n",
        "key": "k",
        "value": 2,
    }
    return World(database, arguments)


async def keep_responses(database: Database, alice: Caller) -> None:
    """A row in each table of responses; test_response_stores has what their stores show to whom."""
    record = await kept(database, alice, "hello")
    await ResponseStore(database).add_events(record.response_id, [{"sequence_number": 0}], alice)
    await ConversationStore(database).create([{"id": f"item of {alice.owner}", "type": "message"}], {}, alice)
    chat = StoredCompletion(completion_id=f"chat of {alice.owner}", model="m", metadata={}, messages=[], body={})
    await CompletionStore(database).keep(chat, alice)
    deleted = chat.model_copy(update={"completion_id": f"deleted chat of {alice.owner}"})
    await CompletionStore(database).keep(deleted, alice)
    await CompletionStore(database).delete(deleted.completion_id, alice)


async def keep_file(database: Database, alice: Caller) -> None:
    """tests/files has what its store shows to whom."""
    file = File(
        file_id=f"file of {alice.owner}",
        filename="a",
        purpose=FilePurpose.BATCH,
        mime_type="text/plain",
        size_bytes=1,
        sha256="0",
        created_at=now(),
    )
    await FileStore(database).add(file, alice)


async def keep_bank(database: Database, alice: Caller) -> None:
    """test_memory_stores and tests/memory/test_deleting have what these stores show to whom."""
    banks = BankStore(database)
    await banks.create("bank", alice, kind="vector", name="", metadata={}, expiry_days=None)
    await banks.create_batch("bank", alice)
    await DocumentStore(database).begin("bank", [NewDocument("document")], alice, is_held=True)
    bank = MemoryBank(identifier="bank", provider_id="", provider_resource_id="", bank=KeywordBank())
    await DeletionStore(database).begin(bank, ["document"], alice)


@pytest.mark.parametrize(("store", "name"), METHODS)
def test_every_method_demands_a_caller(store: type[Any], name: str) -> None:
    caller = inspect.signature(getattr(store, name)).parameters["caller"]
    assert caller.annotation is Caller
    assert caller.default is caller.empty


@pytest.mark.parametrize(("store", "name"), METHODS)
async def test_the_owner_gets_an_answer(world: World, store: type[Any], name: str, alice: Caller) -> None:
    answer = await world.call(store, name, alice)
    assert not isinstance(answer, Page) or answer.entries


@pytest.mark.parametrize(("store", "name"), METHODS)
async def test_a_stranger_finds_nothing_and_changes_nothing(
    world: World, store: type[Any], name: str, alice: Caller, bob: Caller
) -> None:
    before = await world.rows(alice)
    assert all(before.values()), "the world must hold a row in every table"
    if name in CREATING:
        await world.call(store, name, bob)
        assert any((await world.rows(bob)).values())
    else:
        try:
            answer = await world.call(store, name, bob)
        except NotFound:
            answer = Page[Any](entries=[])
        assert answer == Page[Any](entries=[]), f"{name} showed a stranger {answer}"
        assert not any((await world.rows(bob)).values())
    assert await world.rows(alice) == before


ATTACKS = [
    "'; DROP TABLE agents; --",
    '" OR 1=1 --',
    "%",
    "_",
    "..",
    "../../etc/passwd",
    "$(id)",
    "${env.HOME}",
    "{{7*7}}",
    "a\nb\r\n\t\x1b[31m",
    "\\",
    "NULL",
    "\u202e",
    "🦙" * 128,
]


@pytest.mark.parametrize("text", ATTACKS)
async def test_hostile_text_is_text(database: Database, text: str, alice: Caller) -> None:
    """As owner, key, namespace, identifier and name it is kept and found, and finds nothing else."""
    owner = Caller(owner=f"{alice.owner}{text}"[:120])
    values, resources, agents = KeyValueStore(database), ResourceStore(database), AgentStore(database)
    model = Model(identifier=text, provider_id=text, provider_resource_id=text)
    await values.put(text, text, text, owner)
    await values.put(text, "another", 1, owner)
    await resources.register(model, owner)
    session = await agents.create_session(
        (await agents.create_agent(AgentConfig(model=text), owner)).agent_id, text, owner
    )
    assert await values.get(text, text, owner) == text
    assert [entry.key for entry in (await values.page(text, owner, prefix=text)).entries] == [text]
    assert await resources.get(Model, text, owner) == model
    assert await agents.session(session.agent_id, session.session_id, owner) == session
    with pytest.raises(NotFound):
        await agents.agent(text, owner)
    with pytest.raises(InvalidRequest):
        await agents.agents(owner, after=text)


LOOKUPS = [
    ("agent_id", lambda database, text, caller: AgentStore(database).agent(text, caller)),
    ("session_id", lambda database, text, caller: AgentStore(database).delete_session("a", text, caller)),
    ("turn_id", lambda database, text, caller: AgentStore(database).turn("s", text, caller)),
    ("agent_id", lambda database, text, caller: AgentStore(database).agents(caller, after=text)),
    ("key", lambda database, text, caller: KeyValueStore(database).get("n", text, caller)),
    ("key", lambda database, text, caller: KeyValueStore(database).put("n", text, 1, caller)),
    ("namespace", lambda database, text, caller: KeyValueStore(database).put(text, "k", 1, caller)),
    ("key", lambda database, text, caller: KeyValueStore(database).page("n", caller, prefix=text or "\0")),
    ("identifier", lambda database, text, caller: ResourceStore(database).unregister(Model, text, caller)),
    ("owner", lambda database, text, caller: AgentStore(database).agents(Caller(owner=text))),
]


@pytest.mark.parametrize("text", ["", "a\0b", "x" * 513, "é" * 257, "\ud800"], ids=repr)
@pytest.mark.parametrize(("param", "look_up"), LOOKUPS)
async def test_a_name_no_database_can_keep_is_refused_by_field(
    database: Database, param: str, look_up: Callable[[Database, str, Caller], Any], text: str, alice: Caller
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await look_up(database, text, alice)
    assert refused.value.param == param
    assert str(refused.value).startswith(param)
