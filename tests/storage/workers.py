"""What storage tests run in processes of their own: `python workers.py FUNCTION ARGUMENTS`."""

import asyncio
import os
import signal
import sys

from sqlalchemy import Connection

from llama_stack.api.agents import AgentConfig, InferenceStep, Turn
from llama_stack.api.common import Caller
from llama_stack.api.messages import AssistantMessage, UserMessage
from llama_stack.storage import AgentStore, KeyValueStore, open_database, upgrade_schema
from llama_stack.storage.columns import now
from llama_stack.storage.engine import create_engine, locate
from llama_stack.storage.schema import Migration, load_migrations, migrate_schema


async def write_many(url: str, owner: str, agent_id: str, worker: str, writers: str, steps: str) -> None:
    """Each writer at the same time: a session of its own, a turn with some steps, and a value that names the turn."""
    caller = Caller(owner=owner)

    async def write(store: AgentStore, values: KeyValueStore, writer: int) -> None:
        session = await store.create_session(agent_id, f"{worker}/{writer}", caller)
        turn = new_turn(session.session_id, f"{session.session_id}/turn")
        async with store.open_turn(turn, caller) as open_turn:
            for number in range(int(steps)):
                await open_turn.append_step(said(f"step-{number}"))
            await open_turn.complete(open_turn.turn.model_copy(update={"end_reason": "completed"}))
        await values.put("written", session.name, turn.turn_id, caller)

    async with open_database(url) as database, asyncio.TaskGroup() as group:
        for writer in range(int(writers)):
            group.create_task(write(AgentStore(database), KeyValueStore(database), writer))


async def echo_values(url: str, owner: str) -> None:
    """For each key that comes in: print the value another process wrote, then write an answer and say so."""
    async with open_database(url) as database:
        values = KeyValueStore(database)
        while key := (await asyncio.to_thread(sys.stdin.readline)).strip():
            value = await values.get("mail", key, Caller(owner=owner))
            await values.put("mail", f"{key}/answer", value, Caller(owner=owner))
            print(value, flush=True)


async def die_in_a_turn(url: str, owner: str, stored_steps: str) -> None:
    """Store some steps of a turn, say where, and be killed."""
    caller = Caller(owner=owner)
    async with open_database(url) as database:
        store = AgentStore(database)
        agent = await store.create_agent(AgentConfig(model="m"), caller)
        session = await store.create_session(agent.agent_id, "s", caller)
        async with store.open_turn(new_turn(session.session_id, f"{session.session_id}/turn"), caller) as open_turn:
            for number in range(int(stored_steps)):
                await open_turn.append_step(said(f"step-{number}"))
            print(agent.agent_id, session.session_id, open_turn.turn.turn_id, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


async def upgrade(url: str) -> None:
    print(len(await upgrade_schema(url)))


async def die_in_an_upgrade(url: str) -> None:
    """Be killed in the middle of one more migration."""

    def half_a_migration(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE notes (note TEXT)")
        connection.exec_driver_sql("DELETE FROM key_values")
        os.kill(os.getpid(), signal.SIGKILL)

    location = locate(url)
    shipped = load_migrations()
    next_one = Migration(len(shipped) + 1, "dies", half_a_migration, half_a_migration)
    await migrate_schema(create_engine(location), location, migrations=[*shipped, next_one])


def new_turn(session_id: str, turn_id: str) -> Turn:
    return Turn(turn_id=turn_id, session_id=session_id, input=[UserMessage(content="hello")], started_at=now())


def said(step_id: str) -> InferenceStep:
    return InferenceStep(step_id=step_id, message=AssistantMessage(content=f"this is {step_id}"))


if __name__ == "__main__":
    functions = {
        function.__name__: function for function in (write_many, echo_values, die_in_a_turn, upgrade, die_in_an_upgrade)
    }
    asyncio.run(functions[sys.argv[1]](*sys.argv[2:]))
