"""Turns: one writer at a time, nothing lost when it dies."""

import asyncio
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select, update

from llama_stack.api.agents import AgentConfig, InferenceStep, Session, Step, ToolExecutionStep, Turn
from llama_stack.api.common import Caller
from llama_stack.api.inference import Usage
from llama_stack.api.messages import AssistantMessage, ToolCall, ToolMessage
from llama_stack.errors import Conflict, InvalidRequest, NotFound
from llama_stack.storage import AgentStore, Database, OpenTurn
from llama_stack.storage import turns as turns_module
from llama_stack.storage.columns import now
from llama_stack.storage.tables import turns
from tests.storage.conftest import PROCESS_LIMIT_S
from tests.storage.workers import new_turn, said

CALL = ToolCall(id="call_1", name="add", arguments='{"a": 1}')
STEPS: list[Step] = [
    InferenceStep(step_id="s1", message=AssistantMessage(tool_calls=[CALL]), usage=Usage(input_tokens=5)),
    ToolExecutionStep(step_id="s2", tool_calls=[CALL], results=[ToolMessage(tool_call_id="call_1", content="\0 2")]),
    InferenceStep(
        step_id="s3", message=AssistantMessage(content="2"), usage=Usage(output_tokens=7, reasoning_tokens=1)
    ),
]


@pytest.fixture
def store(database: Database) -> AgentStore:
    return AgentStore(database)


@pytest.fixture
async def session(store: AgentStore, alice: Caller) -> Session:
    agent = await store.create_agent(AgentConfig(model="m"), alice)
    return await store.create_session(agent.agent_id, "s", alice)


def a_turn(session: Session, name: str = "turn") -> Turn:
    return new_turn(session.session_id, f"{session.session_id}/{name}")


def ended(open_turn: OpenTurn) -> Turn:
    update = {"output": AssistantMessage(content="2"), "end_reason": "completed", "completed_at": now()}
    return open_turn.turn.model_copy(update=update)


async def holder_dies(database: Database, turn: Turn) -> None:
    """As if the lease had run out."""
    async with database.write() as connection:
        moment = now() - timedelta(seconds=1)
        await connection.execute(update(turns).where(turns.c.turn_id == turn.turn_id).values(held_until=moment))


async def test_a_turn_comes_back_with_its_steps_in_order(store: AgentStore, session: Session, alice: Caller) -> None:
    async with store.open_turn(a_turn(session), alice) as open_turn:
        for step in STEPS:
            await open_turn.append_step(step)
        finished = ended(open_turn)
        await open_turn.complete(finished)
    assert finished.usage == Usage(input_tokens=5, output_tokens=7, reasoning_tokens=1)
    assert await store.turn(session.session_id, finished.turn_id, alice) == finished
    assert (await store.session(session.agent_id, session.session_id, alice)).turns == [finished]


async def test_a_step_and_its_usage_are_stored_at_once(store: AgentStore, session: Session, alice: Caller) -> None:
    async with store.open_turn(a_turn(session), alice) as open_turn:
        for count, step in enumerate(STEPS, start=1):
            await open_turn.append_step(step)
            stored = await store.turn(session.session_id, open_turn.turn.turn_id, alice)
            assert stored.steps == STEPS[:count]
            assert stored == open_turn.turn


async def test_turns_come_back_in_the_order_they_began(store: AgentStore, session: Session, alice: Caller) -> None:
    names = ["z", "a", "m", "b"]
    for name in names:
        async with store.open_turn(a_turn(session, name), alice) as open_turn:
            await open_turn.append_step(said(f"step of {name}"))
            await open_turn.complete(ended(open_turn))
    stored = (await store.session(session.agent_id, session.session_id, alice)).turns
    assert [turn.turn_id for turn in stored] == [a_turn(session, name).turn_id for name in names]
    assert [turn.steps for turn in stored] == [[said(f"step of {name}")] for name in names]


async def test_of_twenty_turns_that_begin_together_one_runs(store: AgentStore, session: Session, alice: Caller) -> None:
    leave = asyncio.Event()
    refused: list[Conflict] = []
    begun: list[str] = []

    async def begin(number: int) -> None:
        try:
            async with store.open_turn(a_turn(session, str(number)), alice) as open_turn:
                begun.append(open_turn.turn.turn_id)
                await leave.wait()
        except Conflict as error:
            refused.append(error)
            if len(refused) == 19:
                leave.set()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(begin(number))
    assert len(begun) == 1
    assert all(f"turn {begun[0]} of session {session.session_id} is being worked on" in str(e) for e in refused)


async def test_a_turn_that_awaits_results_can_be_taken_up_again(
    store: AgentStore, session: Session, alice: Caller
) -> None:
    async with store.open_turn(a_turn(session), alice) as open_turn:
        await open_turn.append_step(STEPS[0])
        await open_turn.await_results()
    async with store.reopen_turn(session.session_id, open_turn.turn.turn_id, alice) as again:
        assert again.turn == open_turn.turn
        with pytest.raises(Conflict, match="being worked on"):
            async with store.reopen_turn(session.session_id, open_turn.turn.turn_id, alice):
                pass
        for step in STEPS[1:]:
            await again.append_step(step)
        await again.complete(ended(again))
    stored = await store.turn(session.session_id, open_turn.turn.turn_id, alice)
    assert (stored.steps, stored.end_reason) == (STEPS, "completed")
    with pytest.raises(Conflict, match=r"has ended \(completed\)"):
        async with store.reopen_turn(session.session_id, open_turn.turn.turn_id, alice):
            pass


@pytest.mark.parametrize("awaiting", [True, False], ids=["awaiting", "let go"])
async def test_a_new_turn_ends_the_one_that_was_left_behind(
    store: AgentStore, session: Session, alice: Caller, awaiting: bool
) -> None:
    async with store.open_turn(a_turn(session, "1"), alice) as left:
        await left.append_step(STEPS[0])
        if awaiting:
            await left.await_results()
    async with store.open_turn(a_turn(session, "2"), alice):
        pass
    first, second = (await store.session(session.agent_id, session.session_id, alice)).turns
    assert (first.steps, first.end_reason, first.completed_at is None) == (STEPS[:1], "interrupted", False)
    assert second.end_reason is None
    with pytest.raises(Conflict, match="interrupted"):
        async with store.reopen_turn(session.session_id, first.turn_id, alice):
            pass


async def test_a_cancelled_turn_is_let_go_and_can_be_taken_up_again(
    store: AgentStore, session: Session, alice: Caller
) -> None:
    stored = asyncio.Event()

    async def work() -> None:
        async with store.open_turn(a_turn(session), alice) as open_turn:
            await open_turn.append_step(STEPS[0])
            stored.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.wait_for(stored.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.reopen_turn(session.session_id, a_turn(session).turn_id, alice) as again:
        assert again.turn.steps == STEPS[:1]


async def test_an_unseen_turn_is_stored_with_its_first_step(store: AgentStore, session: Session, alice: Caller) -> None:
    new = a_turn(session)
    async with store.open_turn(new, alice, is_unseen=True) as open_turn:
        await open_turn.renew()
        with pytest.raises(NotFound):
            await store.turn(session.session_id, new.turn_id, alice)
        await open_turn.append_step(STEPS[0])
        assert (await store.turn(session.session_id, new.turn_id, alice)).steps == STEPS[:1]
        await open_turn.append_step(STEPS[1])
        await open_turn.complete(ended(open_turn))
    assert (await store.turn(session.session_id, new.turn_id, alice)).end_reason == "completed"


async def test_an_unseen_turn_that_is_left_is_stored_unless_it_was_withdrawn(
    store: AgentStore, session: Session, alice: Caller
) -> None:
    async with store.open_turn(a_turn(session, "withdrawn"), alice, is_unseen=True) as open_turn:
        await open_turn.withdraw()
    with pytest.raises(NotFound):
        await store.turn(session.session_id, open_turn.turn.turn_id, alice)
    async with store.open_turn(a_turn(session, "left"), alice, is_unseen=True) as open_turn:
        pass
    async with store.reopen_turn(session.session_id, open_turn.turn.turn_id, alice) as again:
        assert again.turn.steps == []
        await again.complete(ended(again))


async def test_an_unseen_turn_is_let_go_where_storing_its_first_step_was_cancelled(
    store: AgentStore, session: Session, alice: Caller
) -> None:
    async with store.open_turn(a_turn(session), alice, is_unseen=True) as open_turn:
        storing = asyncio.create_task(open_turn.append_step(STEPS[0]))
        # Begun by then, and so finished before the task is.
        await asyncio.sleep(0)
        storing.cancel()
        await asyncio.wait([storing])
    async with store.reopen_turn(session.session_id, open_turn.turn.turn_id, alice) as again:
        await again.complete(ended(again))


async def test_a_holder_that_was_only_slow_can_no_longer_write(
    store: AgentStore, database: Database, session: Session, alice: Caller
) -> None:
    async with store.open_turn(a_turn(session), alice) as slow:
        await slow.append_step(STEPS[0])
        await holder_dies(database, slow.turn)
        async with store.reopen_turn(session.session_id, slow.turn.turn_id, alice) as quick:
            with pytest.raises(Conflict, match="taken over"):
                await slow.append_step(STEPS[1])
            with pytest.raises(Conflict, match="taken over"):
                await slow.complete(ended(slow))
            await slow.release()
            await quick.append_step(STEPS[1])
            await quick.complete(ended(quick))
    assert (await store.turn(session.session_id, slow.turn.turn_id, alice)).steps == STEPS[:2]


async def test_the_lease_is_renewed_while_a_turn_works(
    store: AgentStore, database: Database, session: Session, alice: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "LEASE", timedelta(seconds=0.3))
    async with store.open_turn(a_turn(session), alice) as open_turn:
        query = select(turns.c.held_until).where(turns.c.turn_id == open_turn.turn.turn_id)
        seen: set[datetime | None] = set()
        async with asyncio.timeout(60):
            while len(seen) < 3:
                async with database.read() as connection:
                    seen.add((await connection.execute(query)).scalar())
        await open_turn.append_step(STEPS[0])


async def test_a_deleted_session_stops_its_turn_at_the_next_write(
    store: AgentStore, session: Session, alice: Caller
) -> None:
    async with store.open_turn(a_turn(session), alice) as open_turn:
        await store.delete_session(session.agent_id, session.session_id, alice)
        with pytest.raises(Conflict, match="deleted"):
            await open_turn.append_step(STEPS[0])


async def test_a_turn_is_completed_with_what_was_stored_and_nothing_else(
    store: AgentStore, session: Session, alice: Caller
) -> None:
    async with store.open_turn(a_turn(session), alice) as open_turn:
        finished = ended(open_turn)
        with pytest.raises(InvalidRequest, match="not those that were stored"):
            await open_turn.complete(finished.model_copy(update={"steps": STEPS[:1]}))
        with pytest.raises(InvalidRequest, match="end reason"):
            await open_turn.complete(open_turn.turn)
        with pytest.raises(InvalidRequest, match="by itself"):
            await open_turn.complete(finished.model_copy(update={"turn_id": "another"}))
        await open_turn.append_step(STEPS[0])
        with pytest.raises(Conflict, match="has a step s1 already"):
            await open_turn.append_step(STEPS[0])
        assert open_turn.turn.steps == STEPS[:1]


async def test_a_turn_that_is_not_new_cannot_be_opened(store: AgentStore, session: Session, alice: Caller) -> None:
    begun = a_turn(session).model_copy(update={"steps": STEPS[:1]})
    with pytest.raises(InvalidRequest, match="not new"):
        async with store.open_turn(begun, alice):
            pass
    async with store.open_turn(a_turn(session), alice):
        pass
    with pytest.raises(Conflict, match="already"):
        async with store.open_turn(a_turn(session), alice):
            pass
    stored = (await store.session(session.agent_id, session.session_id, alice)).turns
    assert [turn.end_reason for turn in stored] == [None]


async def test_a_turn_of_another_session_is_not_found(store: AgentStore, session: Session, alice: Caller) -> None:
    other = await store.create_session(session.agent_id, "other", alice)
    async with store.open_turn(a_turn(session), alice) as open_turn:
        await open_turn.await_results()
    with pytest.raises(NotFound):
        await store.turn(other.session_id, open_turn.turn.turn_id, alice)
    with pytest.raises(NotFound):
        async with store.reopen_turn(other.session_id, open_turn.turn.turn_id, alice):
            pass


async def test_a_holder_on_another_machine_keeps_its_turn_until_its_lease_has_run_out(
    store: AgentStore,
    database: Database,
    url: str,
    alice: Caller,
    start_worker: Callable[..., subprocess.Popen[str]],
) -> None:
    killed = start_worker("die_in_a_turn", url, alice.owner, "1")
    output, errors = await asyncio.to_thread(killed.communicate, timeout=PROCESS_LIMIT_S)
    assert killed.returncode == -9, errors
    agent_id, session_id, turn_id = output.split()
    await held_elsewhere(database, turn_id)
    session = await store.session(agent_id, session_id, alice)
    with pytest.raises(Conflict, match="being worked on"):
        async with store.open_turn(a_turn(session, "too early"), alice):
            pass
    with pytest.raises(Conflict, match="being worked on"):
        async with store.reopen_turn(session_id, turn_id, alice):
            pass
    await holder_dies(database, session.turns[0])
    async with store.reopen_turn(session_id, turn_id, alice) as again:
        assert again.turn.steps == [said("step-0")]


async def held_elsewhere(database: Database, turn_id: str) -> None:
    async with database.write() as connection:
        moved = update(turns).where(turns.c.turn_id == turn_id).values(holder="another-machine/1/aa/bb")
        await connection.execute(moved)


@pytest.mark.parametrize("stored_steps", [0, 3])
async def test_a_killed_process_loses_no_stored_step(
    store: AgentStore,
    url: str,
    alice: Caller,
    stored_steps: int,
    start_worker: Callable[..., subprocess.Popen[str]],
) -> None:
    killed = start_worker("die_in_a_turn", url, alice.owner, str(stored_steps))
    output, errors = await asyncio.to_thread(killed.communicate, timeout=PROCESS_LIMIT_S)
    assert killed.returncode == -9, errors
    _, session_id, turn_id = output.split()
    async with store.reopen_turn(session_id, turn_id, alice) as again:
        assert again.turn.steps == [said(f"step-{number}") for number in range(stored_steps)]
        await again.append_step(said("after the crash"))
        await again.complete(ended(again))
    stored = await store.turn(session_id, turn_id, alice)
    assert len(stored.steps) == stored_steps + 1
