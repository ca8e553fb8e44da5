"""`make run` and `make demo`, as a stranger sees them."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DEMO = [sys.executable, "tools/demo.py"]

pytestmark = pytest.mark.engine


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_demo_answers_every_question_with_its_tools_and_ends() -> None:
    run = subprocess.run(
        [*DEMO, "--port", free_port()], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    for tool in ("calculate", "knowledge_search", "get_weather"):
        assert tool in run.stdout
    assert "Traceback" not in run.stderr


def test_the_run_keeps_serving_until_it_is_interrupted() -> None:
    command = [*DEMO, "--keep-serving", "--port", free_port()]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if line.startswith("Ctrl-C stops"):
                break
        assert demo.poll() is None
        demo.send_signal(signal.SIGINT)
        assert demo.stdout.read().endswith("stopped\n")
        assert demo.wait(20) == 0
    assert not (ROOT / "stack.db").exists()


def test_a_port_in_use_is_said_and_the_demo_ends(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = subprocess.run([*DEMO, "--port", port], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert port in run.stderr
    assert "Traceback" not in run.stderr
