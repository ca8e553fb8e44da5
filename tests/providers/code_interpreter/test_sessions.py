"""Variables kept from call to call, who shares them, and when they end."""

import asyncio
import logging
import sys
from pathlib import Path

import psutil
import pytest

from llama_stack.errors import InvalidRequest, NotFound, RateLimited
from llama_stack_providers.inline._code_interpreter.bubblewrap import BubblewrapDriver
from llama_stack_providers.inline._code_interpreter.sessions import Sessions
from tests.providers.code_interpreter.conftest import (
    ALICE,
    BOB,
    GROUP,
    SANDBOXES,
    Desk,
    children,
    needs_bubblewrap,
    open_desk,
    printed,
    settings,
    until,
)

in_each_sandbox = pytest.mark.parametrize("driver", SANDBOXES)


@in_each_sandbox
async def test_a_session_keeps_variables_imports_and_files(stack_home: Path, driver: str) -> None:
    async with open_desk(stack_home, settings(driver)) as desk:
        assert await desk.says("import math\nclass Ring: r = 2\narea = math.pi * Ring.r ** 2") == "completed"
        assert printed(await desk.says("round(area, 2)")) == "12.57"
        await desk.call("open('notes.txt', 'w').write('kept')")
        assert printed(await desk.says("print(open('notes.txt').read())")) == "kept"
        assert printed(await desk.says("_")) == "4"


@in_each_sandbox
async def test_an_error_is_told_and_harms_nothing(stack_home: Path, driver: str) -> None:
    async with open_desk(stack_home, settings(driver)) as desk:
        await desk.call("x = 1")
        result = await desk.call("print('before')\ndef divide():\n    return x / 0\ndivide()")
        assert result.is_error
        answer = str(result.content)
        assert answer.startswith("failed\n[stdout]before[/stdout]\n[stderr]Traceback (most recent call last):")
        assert "return x / 0" in answer
        assert "ZeroDivisionError: division by zero" in answer
        assert "worker" not in answer
        assert "SyntaxError" in await desk.says("def")
        assert printed(await desk.says("x")) == "1"


@in_each_sandbox
async def test_the_words_of_a_shell_are_there(stack_home: Path, driver: str) -> None:
    async with open_desk(stack_home, settings(driver)) as desk:
        assert await desk.says("x = 1\nexit()\nx = 2") == "completed"
        assert "SystemExit: too old" in await desk.says("quit('too old')")
        assert printed(await desk.says("print(x); input.__name__")) == "1\n'input'"
        assert "Return the absolute value" in await desk.says("help(abs)")


@needs_bubblewrap
async def test_folders_below_folders_without_end_spoil_no_session(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        await desk.call("import os\nfor _ in range(2500): os.mkdir('d'); os.chdir('d')")
        result = await desk.call("os.chdir('/sandbox'); open('d/near', 'w').write('x')")
    assert [made["name"] for made in result.metadata["files"]] == ["d/near"]


@needs_bubblewrap
async def test_owners_and_sessions_share_nothing(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        await desk.call("secret = 'of alice'; open('of-alice', 'w').write('x')", session="one", caller=ALICE)
        for session, caller in (("one", BOB), ("two", ALICE), (None, ALICE)):
            assert "NameError" in await desk.says("secret", session=session, caller=caller)
            assert "of-alice" not in await desk.says("import os; os.listdir('.')", session=session, caller=caller)
        assert printed(await desk.says("secret", session="one", caller=ALICE)) == "'of alice'"


@needs_bubblewrap
async def test_without_a_session_each_call_begins_anew(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        await desk.call("x = 1", session=None)
        assert "NameError" in await desk.says("x", session=None)
        assert len(sessions_of(desk)) == 0


@needs_bubblewrap
async def test_calls_of_one_session_take_turns(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        await desk.call("order = []")
        await asyncio.gather(*(desk.call(f"order.append({number})") for number in range(5)))
        assert printed(await desk.says("order")) == "[0, 1, 2, 3, 4]"


@needs_bubblewrap
async def test_an_idle_session_is_ended_and_the_model_is_told(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", idle_s=0.2)) as desk:
        await desk.call("x = 1")
        await until(lambda: len(sessions_of(desk)) == 0)
        answer = await desk.says("x")
        assert "NameError" in answer
        assert "Variables and files of earlier calls are lost: the session was idle for 0.2 seconds" in answer


@needs_bubblewrap
async def test_the_session_unused_longest_makes_room(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", max_sessions=2)) as desk:
        for session in ("first", "second", "third"):
            await desk.call("x = 1", session=session)
        assert printed(await desk.says("x", session="second")) == "1"
        assert "the session made room for others" in await desk.says("x", session="first")


@needs_bubblewrap
async def test_the_owner_with_most_sessions_makes_room(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", max_sessions=3)) as desk:
        await desk.call("x = 1", session="only", caller=BOB)
        for session in ("first", "second", "third"):
            await desk.call("x = 1", session=session)
        assert printed(await desk.says("x", session="only", caller=BOB)) == "1"
        assert "the session made room for others" in await desk.says("x", session="first")


@needs_bubblewrap
async def test_when_all_are_at_work_a_call_is_refused(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", max_sessions=1, timeout_s=100)) as desk:
        await desk.interpreter.sessions()
        working = asyncio.create_task(desk.call("import time; time.sleep(60)", session="busy"))
        await until_at_work(desk)
        with pytest.raises(RateLimited, match="max_sessions"):
            await desk.call("1", session="other")
        working.cancel()
        await asyncio.wait([working])
        assert printed(await desk.says("1", session="other")) == "1"


@in_each_sandbox
async def test_cancelling_a_call_ends_its_processes(stack_home: Path, driver: str) -> None:
    others = children()
    async with open_desk(stack_home, settings(driver)) as desk:
        await desk.call("x = 1")
        before = children() - others
        working = asyncio.create_task(desk.call("while True: pass"))
        await until_at_work(desk)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        if driver == "bubblewrap":
            assert not before & children()
        answer = await desk.says("x")
        assert "NameError" in answer
        assert "a call was stopped halfway" in answer


@in_each_sandbox
async def test_closing_leaves_no_process(stack_home: Path, driver: str) -> None:
    before = children()
    async with open_desk(stack_home, settings(driver)) as desk:
        await desk.call("import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()")
        await desk.call("1", session="another")
    assert children() == before


@needs_bubblewrap
async def test_warm_sandboxes_are_used_and_renewed(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap", warm=2)) as desk:
        await desk.call("1")
        await until(lambda: len(sessions_of(desk)._warm) == 2)
        waiting = set(sessions_of(desk)._warm)
        await desk.call("1", session="next")
        assert sessions_of(desk)._by_key["alice", "next"] in waiting


@needs_bubblewrap
async def test_every_call_leaves_a_line_without_its_code(stack_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "llama_stack.code_interpreter"):
        async with open_desk(stack_home, settings("bubblewrap")) as desk:
            await desk.call("password = 'hunter2'")
    (line,) = [record.getMessage() for record in caplog.records if "ran code" in record.getMessage()]
    assert "sha256=" in line
    assert "driver=bubblewrap" in line
    assert "exit=done" in line
    assert "hunter2" not in caplog.text


@needs_bubblewrap
@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "code"),
        ({"code": 1}, "code"),
        ({"code": "x" * (2 << 20)}, "code"),
        ({"code": "1", "language": "ruby"}, "language"),
        ({"code": "1", "session_id": ""}, "session_id"),
        ({"code": "1", "session_id": 5}, "session_id"),
        ({"code": "1", "files": ["a"]}, "files"),
        ({"code": "1", "files": {"../up": "x"}}, "files"),
        ({"code": "1", "files": {"/etc/x": "x"}}, "files"),
        ({"code": "1", "files": {".hidden": "x"}}, "files"),
        ({"code": "1", "files": {"a": 5}}, "files"),
        ({"code": "1", "files": {"a": "data:text/plain;base64,***"}}, "files"),
        ({"code": "1", "files": {"a": "data:nothing"}}, "files"),
        ({"code": "1", "files": {"a": "x" * (9 << 20)}}, "files"),
    ],
)
async def test_arguments_that_do_not_fit_name_their_field(
    stack_home: Path, arguments: dict[str, object], field: str
) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        with pytest.raises(InvalidRequest) as raised:
            await desk.interpreter.invoke_tool(GROUP, "code_interpreter", arguments, ALICE)
        assert raised.value.param == field


@needs_bubblewrap
async def test_another_tool_is_not_found(stack_home: Path) -> None:
    async with open_desk(stack_home, settings("bubblewrap")) as desk:
        with pytest.raises(NotFound, match="only 'code_interpreter'"):
            await desk.interpreter.invoke_tool(GROUP, "shell", {"code": "1"}, ALICE)


def sessions_of(desk: Desk) -> Sessions:
    sessions = desk.interpreter._sessions
    assert sessions is not None
    return sessions


async def until_at_work(desk: Desk) -> None:
    await until(lambda: any(session.at_work for session in sessions_of(desk)._by_key.values()))


ODD_DISK_MB = 13  # by which a sandbox of these tests is known among others on the machine


@needs_bubblewrap
async def test_a_start_that_is_cancelled_anywhere_leaves_nothing(stack_home: Path) -> None:
    """bubblewrap forks before it tells of its child; a child without it would wait for ever."""
    driver = BubblewrapDriver(settings("bubblewrap", disk_mb=ODD_DISK_MB), stack_home)
    await driver.check()
    for step in range(25):
        starting = asyncio.create_task(driver.start())
        await asyncio.sleep(step * 0.001)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            await starting.result().kill()
    await until(lambda: not odd_sandboxes())


@needs_bubblewrap
async def test_bubblewrap_that_has_not_told_of_its_child_takes_it_along(stack_home: Path) -> None:
    driver = BubblewrapDriver(settings("bubblewrap", disk_mb=ODD_DISK_MB), stack_home)
    await driver.check()
    for _ in range(5):
        sandbox = await driver.start()
        assert odd_sandboxes()
        sandbox.first_pid = None
        await sandbox.kill()
    await until(lambda: not odd_sandboxes())


def odd_sandboxes() -> set[int]:
    """Processes of bubblewrap that these tests started, orphans too."""
    size = str(ODD_DISK_MB << 20)
    return {process.pid for process in psutil.process_iter(["cmdline"]) if size in (process.info["cmdline"] or [])}


SERVER = """
import asyncio, sys
from pathlib import Path
from tests.providers.code_interpreter.conftest import open_desk, settings

async def main():
    async with open_desk(Path(sys.argv[1]), settings(sys.argv[2])) as desk:
        await desk.call("x = 1", session="idle")
        calling = asyncio.create_task(desk.call("while True: pass", session="busy"))
        while not any(session.at_work for session in desk.interpreter._sessions._by_key.values()):
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await calling

asyncio.run(main())
"""


@pytest.mark.parametrize("driver", [*(name for name in SANDBOXES if name != "container"), "unsafe_subprocess"])
async def test_a_killed_server_leaves_nothing_behind(stack_home: Path, driver: str) -> None:
    root = Path(__file__).parents[3]
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, str(stack_home), driver, stdout=asyncio.subprocess.PIPE, cwd=root
    )
    assert server.stdout is not None
    async with asyncio.timeout(60):
        assert await server.stdout.readline() == b"ready\n"
    inside = psutil.Process(server.pid).children(recursive=True)
    assert inside
    server.kill()
    await server.communicate()
    await until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in inside))
