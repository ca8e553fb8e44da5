"""The benchmark of concurrent turns: it runs, and it finds what is missing in a database."""

from pathlib import Path

from benchmarks import concurrent_turns
from llama_stack.api.agents import AgentConfig
from llama_stack.api.common import Caller
from llama_stack.storage import AgentStore, open_database
from tests.storage.workers import new_turn, said


def test_turns_through_a_real_server_are_counted_and_read_back() -> None:
    outcome = concurrent_turns.run("sqlite", count=4, concurrency=2)
    assert (outcome.kept, outcome.errors, outcome.faults) == (4, 0, [])
    # One more turn was run before, to warm up.
    assert (outcome.session_rows, outcome.step_rows) == (5, 15)
    assert outcome.p99_ms >= outcome.p50_ms > 0
    assert "| sqlite | 2 | 4 | 4 | 0 |" in concurrent_turns.table([outcome])


async def test_a_turn_that_lost_a_step_is_found(tmp_path: Path, caller: Caller) -> None:
    url = f"sqlite:///{tmp_path / 'stack.db'}"
    async with open_database(url) as database:
        store = AgentStore(database)
        agent = await store.create_agent(AgentConfig(model="m"), caller)
        session = await store.create_session(agent.agent_id, "s", caller)
        async with store.open_turn(new_turn(session.session_id, "turn-1"), caller) as open_turn:
            await open_turn.append_step(said("one"))
    whole, session_rows, step_rows, faults = await concurrent_turns.read_back(url)
    assert (whole, session_rows, step_rows) == (0, 1, 1)
    assert faults == ["turn turn-1: running, None, ['inference'], [0]"]
