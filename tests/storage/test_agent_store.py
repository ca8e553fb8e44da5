"""Agents and sessions."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from llama_stack.api.agents import AgentConfig, Budget
from llama_stack.api.common import Caller
from llama_stack.api.tools import ToolDefinition
from llama_stack.errors import InvalidRequest, NotFound
from llama_stack.storage import AgentStore, Database
from llama_stack.storage.tables import sessions, steps, turns
from tests.storage.workers import new_turn, said

CONFIG = AgentConfig(
    model="m",
    instructions="Say 'NUL \0' and 🦙.",
    client_tools=[ToolDefinition(name="t", parameters={"type": "object", "properties": {"b": {}, "a": {}}})],
    budget=Budget(max_infer_iters=3, max_seconds=1.5),
    metadata={"x": [1, None]},
)


@pytest.fixture
def store(database: Database) -> AgentStore:
    return AgentStore(database)


async def test_an_agent_comes_back_as_it_was_created(store: AgentStore, alice: Caller) -> None:
    created = await store.create_agent(CONFIG, alice)
    assert created.agent_id.startswith("agent_")
    assert created.config == CONFIG
    assert await store.agent(created.agent_id, alice) == created


async def test_moments_are_of_now_and_in_utc(store: AgentStore, alice: Caller) -> None:
    created = await store.create_agent(CONFIG, alice)
    stored = await store.agent(created.agent_id, alice)
    assert stored.created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - stored.created_at) < timedelta(minutes=1)


async def test_agents_are_listed_in_pages_oldest_first(store: AgentStore, alice: Caller) -> None:
    created = [await store.create_agent(CONFIG, alice) for _ in range(5)]
    first = await store.agents(alice, limit=2)
    second = await store.agents(alice, limit=2, after=first.next_after)
    third = await store.agents(alice, limit=2, after=second.next_after)
    assert [*first.entries, *second.entries, *third.entries] == created
    assert third.next_after is None


async def test_a_page_goes_on_behind_a_deleted_agent_and_not_behind_one_that_never_was(
    store: AgentStore, alice: Caller, bob: Caller
) -> None:
    created = [await store.create_agent(CONFIG, alice) for _ in range(3)]
    await store.delete_agent(created[1].agent_id, alice)
    assert (await store.agents(alice, after=created[1].agent_id)).entries == created[2:]
    for after, caller in (("agent_x", alice), (created[1].agent_id, bob)):
        with pytest.raises(InvalidRequest) as refused:
            await store.agents(caller, after=after)
        assert refused.value.param == "after"


async def test_a_session_begins_empty_and_belongs_to_its_agent(store: AgentStore, alice: Caller) -> None:
    agent = await store.create_agent(CONFIG, alice)
    other = await store.create_agent(CONFIG, alice)
    session = await store.create_session(agent.agent_id, "a name", alice)
    assert (session.name, session.turns, session.agent_id) == ("a name", [], agent.agent_id)
    assert await store.session(agent.agent_id, session.session_id, alice) == session
    with pytest.raises(NotFound):
        await store.session(other.agent_id, session.session_id, alice)
    with pytest.raises(NotFound):
        await store.delete_session(other.agent_id, session.session_id, alice)


async def test_sessions_are_listed_in_pages_without_turns(store: AgentStore, alice: Caller) -> None:
    agent = await store.create_agent(CONFIG, alice)
    created = [await store.create_session(agent.agent_id, f"s{number}", alice) for number in range(3)]
    async with store.open_turn(new_turn(created[0].session_id, f"{created[0].session_id}/1"), alice):
        pass
    first = await store.sessions(agent.agent_id, alice, limit=2)
    second = await store.sessions(agent.agent_id, alice, limit=2, after=first.next_after)
    assert [*first.entries, *second.entries] == created


async def test_a_session_needs_an_agent(store: AgentStore, alice: Caller) -> None:
    with pytest.raises(NotFound, match="no agent 'agent_none'"):
        await store.create_session("agent_none", "s", alice)


async def test_a_deleted_agent_takes_everything_below_it_along(
    store: AgentStore, database: Database, alice: Caller
) -> None:
    agent = await store.create_agent(CONFIG, alice)
    session = await store.create_session(agent.agent_id, "s", alice)
    async with store.open_turn(new_turn(session.session_id, f"{session.session_id}/1"), alice) as open_turn:
        await open_turn.append_step(said("one"))
    await store.delete_agent(agent.agent_id, alice)
    async with database.read() as connection:
        for table in (sessions, turns, steps):
            count = select(func.count()).select_from(table).where(table.c.owner == alice.owner)
            assert (await connection.execute(count)).scalar() == 0, table.name
    with pytest.raises(NotFound):
        await store.agent(agent.agent_id, alice)
