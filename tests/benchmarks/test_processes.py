"""Servers as child processes: started, measured, stopped, and explained when they do not come up."""

import sys
from collections.abc import Callable

import psutil
import pytest

from benchmarks import targets
from benchmarks.load import CELLS, measure
from benchmarks.processes import ServerFailed, answers_200, cpu_s, free_port, memory, running


@pytest.mark.parametrize("app", [targets.bare, targets.typed])
async def test_a_pass_through_carries_every_kind_of_answer(upstream: str, app: Callable[[str], targets.Target]) -> None:
    target = app(upstream.removesuffix("/v1"))
    with running(target.name, target.command, port=target.port, env=target.env) as server:
        for name in ("chat-c1", "stream-c1", "embed-c1"):
            sample = await measure(
                f"{server.base_url}/v1", CELLS[name], target=target.name, pid=server.pid, seconds=0.2, warm_up_s=0.05
            )
            assert (sample.errors, sample.first_error) == (0, None)
            assert sample.requests > 0


def test_a_server_is_ready_measured_and_then_gone() -> None:
    mock = targets.upstream()
    with running(mock.name, mock.command, port=mock.port, env=mock.env) as server:
        used = memory(server.pid)
        assert server.start_s > 0
        assert cpu_s(server.pid) > 0
        assert (used.processes, used.tree_rss) == (1, used.main_rss)
        assert used.main_rss > 5
        assert answers_200(mock.port, "/v1/models")
        assert not answers_200(mock.port, "/v1/other")

    assert not psutil.pid_exists(server.pid)
    assert not answers_200(mock.port, "/v1/models")


def test_children_of_a_server_count() -> None:
    port = free_port()
    program = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        f"subprocess.run([sys.executable, '-m', 'benchmarks.mock_upstream', '--port', '{port}'])\n"
    )
    with running("family", [sys.executable, "-c", program], port=port, env=targets.upstream().env) as server:
        used = memory(server.pid)

    assert used.processes == 3
    assert used.tree_rss > used.main_rss


def test_a_server_that_ends_is_reported_with_the_end_of_its_log() -> None:
    command = [sys.executable, "-c", "import sys; print('no such model'); sys.exit(3)"]

    with (
        pytest.raises(ServerFailed, match=r"(?s)broken ended with status 3 on /v1/models.*no such model"),
        running("broken", command, port=free_port()),
    ):
        pytest.fail("it never was ready")
