"""What a session may take: time, memory, processes, output and disk, each met on purpose."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from llama_stack.api.tools import ToolResult
from llama_stack_providers.inline._code_interpreter import bubblewrap
from llama_stack_providers.inline._code_interpreter.bubblewrap import BubblewrapSandbox
from llama_stack_providers.inline._code_interpreter.cgroup import find_cgroups
from llama_stack_providers.inline._code_interpreter.processes import memory_of, state_of
from tests.providers.code_interpreter.conftest import Desk, needs_bubblewrap, open_desk, printed, settings, until

pytestmark = needs_bubblewrap

# Room enough for every call that is to end by another limit, on a slow machine too.
TIGHT = {"timeout_s": 30.0, "memory_mb": 256, "processes": 16, "disk_mb": 8, "output_kb": 64}
FORK_EACH = """
import os, time
def fork(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid
"""


@pytest.fixture(params=["control groups", "a watch"])
def bounded_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways to bound the sum of a sandbox's processes."""
    if request.param == "a watch":
        monkeypatch.setattr(bubblewrap, "find_cgroups", lambda: None)
    elif find_cgroups() is None:
        pytest.skip("this user can make no control groups here")
    return str(request.param)


async def run_once(home: Path, code: str) -> ToolResult:
    """One call under tight limits, after which no process of it may be left."""
    async with open_desk(home, settings("bubblewrap", **TIGHT)) as desk:
        await desk.call("kept = 1")
        pids = pids_of(desk)
        result = await desk.call(code)
        pids |= pids_of(desk)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
    return result


def pids_of(desk: Desk) -> set[int]:
    sessions = desk.interpreter._sessions
    assert sessions is not None
    found = set()
    for session in sessions._by_key.values():
        assert isinstance(session.sandbox, BubblewrapSandbox)
        found |= {session.sandbox.process.pid, *session.sandbox.pids()}
    return found


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("an endless loop", "while True: pass"),
        ("sleep", "import time; time.sleep(100)"),
        (
            "every signal ignored",
            "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
            "    except (OSError, ValueError): pass\nwhile True: pass",
        ),
        ("a loop in C", "sum(range(10**12))"),
        ("a child that holds the pipes", f"{FORK_EACH}fork(lambda: time.sleep(100))\ntime.sleep(100)"),
    ],
)
async def test_too_long_is_ended(stack_home: Path, name: str, code: str) -> None:
    async with open_desk(stack_home, settings("bubblewrap", **{**TIGHT, "timeout_s": 2.0})) as desk:
        await desk.call("kept = 1")
        pids = pids_of(desk)
        result = await desk.call(f"print('begun')\n{code}")
        assert not [pid for pid in pids if psutil.pid_exists(pid)]
        assert result.metadata["limit"] == "time"
        assert result.is_error
        assert "begun" in str(result.content)
        assert "all variables and files are lost" in str(result.content)
        assert "NameError" in await desk.says("kept")


async def test_memory_of_one_process_raises_and_keeps_the_session(stack_home: Path, bounded_by: str) -> None:
    async with open_desk(stack_home, settings("bubblewrap", **TIGHT)) as desk:
        await desk.call("kept = 1")
        result = await desk.call("bytearray(1 << 30)")
        assert result.metadata["limit"] == "memory"
        assert "MemoryError" in str(result.content)
        assert printed(await desk.says("kept")) == "1"


async def test_memory_of_many_processes_is_bounded_together(stack_home: Path, bounded_by: str) -> None:
    """Each child stays below the limit of a process; their sum would be several times that of the session."""
    fill = f"{FORK_EACH}\ndef fill():\n    held = b'x' * (80 << 20)\n    time.sleep(30)\n"
    code = f"{fill}for _ in range(20):\n    try: fork(fill)\n    except OSError: break\ntime.sleep(30)"
    async with open_desk(stack_home, settings("bubblewrap", **{**TIGHT, "timeout_s": 4.0})) as desk:
        await desk.call("kept = 1")
        pids, peak = pids_of(desk), 0
        calling = asyncio.create_task(desk.call(code))
        while not calling.done():
            peak = max([peak, *(memory_of(pid) for pid in pids)])
            await asyncio.sleep(0.02)
        result = await calling
    assert result.metadata["limit"] in ("memory", "time")
    assert (80 << 20) < peak < (512 << 20)
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("fork", "import os, time\nfor _ in range(300):\n    if os.fork() == 0: time.sleep(30)"),
        (
            "thread",
            "import threading, time\nfor _ in range(300):\n"
            "    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()",
        ),
        ("bomb", "import os\nwhile True: os.fork()"),
    ],
)
async def test_processes_are_bounded(stack_home: Path, bounded_by: str, name: str, code: str) -> None:
    result = await run_once(stack_home, code)
    assert result.metadata["limit"] in ("processes", "time")
    assert result.is_error


async def test_files_are_bounded(stack_home: Path) -> None:
    code = "for n in range(100):\n    with open(f'fill{n}', 'wb') as file: file.write(b'x' * (1 << 20))"
    result = await run_once(stack_home, code)
    assert result.metadata["limit"] == "disk"
    result = await run_once(stack_home, "open('big', 'wb').write(b'x' * (64 << 20))")
    assert result.metadata["limit"] == "disk"


@pytest.mark.parametrize("place", ["/sandbox", "/dev/shm"])
async def test_files_are_bounded_in_number_too(stack_home: Path, bounded_by: str, place: str) -> None:
    """An empty file takes none of the room, and a kilobyte of the kernel's memory."""
    code = f"import os\nos.mkdir('{place}/many')\nn = 0\n" + (
        f"while True:\n    os.close(os.open(f'{place}/many/{{n}}', os.O_CREAT)); n += 1"
    )
    async with open_desk(stack_home, settings("bubblewrap", **{**TIGHT, "disk_mb": 1})) as desk:
        result = await desk.call(code)
    assert result.metadata["limit"] == "disk"


async def test_a_file_of_holes_is_bounded_by_its_length(stack_home: Path) -> None:
    result = await run_once(stack_home, "open('holes', 'wb').truncate(1 << 40)")
    assert result.metadata["limit"] == "disk"


@pytest.mark.parametrize("place", ["/sandbox", "/dev/shm", "/tmp"])
async def test_every_place_that_can_be_written_to_is_bounded(stack_home: Path, place: str) -> None:
    code = f"for n in range(100):\n    with open(f'{place}/fill{{n}}', 'wb') as file: file.write(b'x' * (1 << 20))"
    assert (await run_once(stack_home, code)).metadata["limit"] == "disk"


async def test_a_gigabyte_in_one_line_is_bounded(stack_home: Path) -> None:
    result = await run_once(stack_home, "import os\nfor _ in range(1 << 14): os.write(1, b'x' * 65536)")
    assert result.metadata["limit"] == "output"
    assert len(str(result.content)) < 9000


@pytest.mark.parametrize(
    ("name", "reason"), [("SIGKILL", "died"), ("SIGSTOP", "limit"), ("SIGTERM", "died"), ("SIGSEGV", "died")]
)
async def test_a_signal_to_the_supervisor_ends_the_session_only(stack_home: Path, name: str, reason: str) -> None:
    code = f"import os, signal, time\nos.kill(os.getppid(), signal.{name})\ntime.sleep(60)"
    async with open_desk(stack_home, settings("bubblewrap", **{**TIGHT, "timeout_s": 3.0})) as desk:
        await desk.call("kept = 1")
        pids = pids_of(desk)
        result = await desk.call(code)
        assert result.is_error
        assert result.metadata["exit_reason"] == reason
        await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
        assert "NameError" in await desk.says("kept")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_output_is_bounded(stack_home: Path, stream: str) -> None:
    result = await run_once(stack_home, f"import sys\nwhile True: sys.{stream}.write('flood ' * 1000)")
    assert result.metadata["limit"] == "output"
    assert len(str(result.content)) < 9000
    assert "bytes left out" in str(result.content)


async def test_a_flood_below_the_channel_is_bounded_too(stack_home: Path) -> None:
    result = await run_once(stack_home, "import subprocess; subprocess.run(['/usr/bin/yes'])")
    assert result.metadata["limit"] == "output"


async def test_between_calls_nothing_runs(stack_home: Path) -> None:
    """Threads and children of a finished call are stopped until the next one."""
    spin = "import os, threading\ndef spin():\n    while True: pass\n"
    async with open_desk(stack_home, settings("bubblewrap", **TIGHT)) as desk:
        await desk.call(spin + "threading.Thread(target=spin, daemon=True).start()")
        await desk.call("if os.fork() == 0: spin()")
        stopped: list[psutil.Process] = []
        async with asyncio.timeout(60):
            while len(stopped) < 2:
                inside = [psutil.Process(pid) for pid in pids_of(desk)]
                stopped = [process for process in inside if process.status() == psutil.STATUS_STOPPED]
                await asyncio.sleep(0)
        used = [process.cpu_times().user for process in stopped]
        await asyncio.sleep(0.1)
        assert [process.cpu_times().user for process in stopped] == used
        assert printed(await desk.says("1 + 1")) == "2"


async def test_what_wakes_up_between_calls_is_stopped_again_and_then_ended(stack_home: Path) -> None:
    """Whatever it is that wakes it: here the host does."""
    spin = "import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin, daemon=True).start()"
    async with open_desk(stack_home, settings("bubblewrap", **TIGHT)) as desk:
        await desk.call(spin)

        def stopped() -> list[int]:
            return [pid for pid in pids_of(desk) if state_of(pid) == "T"]

        await until(lambda: len(stopped()) == 1)
        (executor,) = stopped()
        os.kill(executor, signal.SIGCONT)
        await until(lambda: state_of(executor) == "T")
        assert printed(await desk.says("1 + 1")) == "2"
        pids = pids_of(desk)

        def woken_until_all_is_gone() -> bool:
            with suppress(ProcessLookupError):
                os.kill(executor, signal.SIGCONT)
            return not any(psutil.pid_exists(pid) for pid in pids)

        await until(woken_until_all_is_gone)
        assert "The interpreter ended" in await desk.says("1 + 1")
        assert printed(await desk.says("1 + 1")) == "2"
