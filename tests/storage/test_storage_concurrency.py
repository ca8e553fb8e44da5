"""Several processes on one database."""

import asyncio
import subprocess
from collections.abc import Callable

from llama_stack.api.agents import AgentConfig
from llama_stack.api.common import Caller
from llama_stack.storage import AgentStore, Database, KeyValueStore, open_database, schema_status
from tests.storage.conftest import finished
from tests.storage.workers import said

PROCESSES, WRITERS, STEPS = 4, 50, 2


async def test_four_processes_with_fifty_writers_each_lose_nothing(
    database: Database, url: str, alice: Caller, start_worker: Callable[..., subprocess.Popen[str]]
) -> None:
    """No worker may report an error, such as "database is locked", and every row must be there, in its order."""
    store, values = AgentStore(database), KeyValueStore(database)
    agent = await store.create_agent(AgentConfig(model="m"), alice)
    workers = [
        start_worker("write_many", url, alice.owner, agent.agent_id, str(number), str(WRITERS), str(STEPS))
        for number in range(PROCESSES)
    ]
    for worker in workers:
        await asyncio.to_thread(finished, worker)
    page = await store.sessions(agent.agent_id, alice, limit=1000)
    assert {session.name for session in page.entries} == {
        f"{process}/{writer}" for process in range(PROCESSES) for writer in range(WRITERS)
    }
    written = {entry.key: entry.value for entry in (await values.page("written", alice, limit=1000)).entries}
    for entry in page.entries:
        session = await store.session(agent.agent_id, entry.session_id, alice)
        assert [turn.steps for turn in session.turns] == [[said(f"step-{number}") for number in range(STEPS)]]
        assert written.pop(entry.name) == session.turns[0].turn_id
    assert written == {}


async def test_what_one_process_wrote_another_sees_at_once(
    database: Database, url: str, alice: Caller, start_worker: Callable[..., subprocess.Popen[str]]
) -> None:
    values = KeyValueStore(database)
    # Opening and closing the file once more in one process must not cost the first opening its locks.
    await schema_status(url)
    async with open_database(url):
        pass
    worker = start_worker("echo_values", url, alice.owner)
    assert worker.stdin is not None
    assert worker.stdout is not None
    for number in range(50):
        await values.put("mail", f"k{number}", number, alice)
        worker.stdin.write(f"k{number}\n")
        worker.stdin.flush()
        assert await asyncio.wait_for(asyncio.to_thread(worker.stdout.readline), 60) == f"{number}\n"
        assert await values.get("mail", f"k{number}/answer", alice) == number
    assert await asyncio.to_thread(finished, worker) == ""
