"""Many turns at once: none is lost on either database, and the server answers others meanwhile."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks import mock_mcp, mock_upstream
from benchmarks.concurrent_turns import read_back
from tests.agents_faces.doors import LOCAL, Handiwork, Start

KIT = "builtin::kit"
TURNS = 50
FIRST_USE = Path(__file__).parent / "first_use.py"
MODULES = 40
"""So many may be imported where the event loop waits for it; a library of weight has more."""
LIMIT_S = 60.0


@asynccontextmanager
async def a_model_that_calls_tools() -> AsyncIterator[str]:
    """The URL of an upstream and MCP server in this process."""
    server = await mock_upstream.serve("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
async def test_turns_that_run_together_keep_all_their_steps(
    kind: str, start: Start, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storage_url = f"sqlite:///{tmp_path / 'many.db'}"
    if kind == "postgresql":
        create: Callable[[], str] = request.getfixturevalue("create_postgres_database")
        storage_url = create()
    tools = {KIT: Handiwork(get_weather=lambda **given: mock_mcp.RESULT)}
    async with a_model_that_calls_tools() as upstream_url:
        far = {
            "provider_id": "up",
            "provider_type": "remote::openai-compatible",
            "config": {"base_url": f"{upstream_url}/v1"},
            "models": [{"identifier": mock_upstream.TOOL_MODEL}],
        }
        async with start(tools=tools, providers={"inference": [far]}, storage_url=storage_url) as server:
            door = server.doors["classic-stream"]
            agent_id, first = await door.begin(model=mock_upstream.TOOL_MODEL, tool_groups=[KIT])
            sessions = [first, *[await door.new_session(agent_id) for _ in range(TURNS - 1)]]
            answered_meanwhile = 0
            async with asyncio.timeout(LIMIT_S):
                asking = [asyncio.create_task(door.ask(agent_id, session)) for session in sessions]
                while not any(task.done() for task in asking):
                    assert (await server.http.get("/v1/health")).status_code == 200
                    answered_meanwhile += 1
                await asyncio.wait(asking)
                answers = [task.result() for task in asking]
        kept, session_rows, step_rows, faults = await read_back(storage_url)
    assert all(answer is not None and answer.startswith(mock_upstream.ANSWER[:40]) for answer in answers)
    assert (kept, session_rows, step_rows, faults) == (TURNS, TURNS, 3 * TURNS, [])
    assert answered_meanwhile > 1


async def test_turns_of_one_session_are_numbered_in_their_order_whoever_asks(start: Start) -> None:
    async with start() as server:
        door, other = server.doors["classic"], server.doors["connected"]
        ids = await door.begin()
        taken = 0
        while taken < 10:
            results = await asyncio.gather(
                *(asker.ask(*ids) for asker in (door, other, door, other)), return_exceptions=True
            )
            told = [result for result in results if not isinstance(result, BaseException)]
            assert told, results
            assert all("is being worked on" in str(result) for result in results if isinstance(result, BaseException))
            taken += len(told)
        agents = await server.stack.agents()
        turns = await door.see_session(*ids)
        whole = (await agents.session(*ids, LOCAL)).turns
    assert len(turns) == len(set(turns)) == taken
    assert [turn.end_reason for turn in whole] == ["completed"] * taken
    assert sorted(turn.started_at for turn in whole) == [turn.started_at for turn in whole]


async def test_the_loop_never_stands_still_while_a_heavy_part_is_loaded(tmp_path: Path) -> None:
    async with a_model_that_calls_tools() as url:
        command = [sys.executable, "-W", "ignore", str(FIRST_USE), str(tmp_path / "home"), f"{url}/mcp"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        async with asyncio.timeout(LIMIT_S):
            told, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    imported: dict[str, list[str]] = json.loads(told)
    assert len(imported["agents"]) > 0, "what this test counts is no longer seen"
    assert {part: names for part, names in imported.items() if len(names) > MODULES} == {}
