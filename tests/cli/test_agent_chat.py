"""`llama agent chat` and `llama agent sessions`, as a person and as a pipe see them."""

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_stack.api.agents import StepProgress
from llama_stack.api.common import Caller
from llama_stack.api.inference import TextDelta
from llama_stack.api.tools import ToolDefinition, ToolGroup, ToolResult
from llama_stack.cli.chat_screen import ChatScreen, Flow
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, calls, says
from llama_stack.testing.scripted_stack import open_scripted_stack
from tests.cli.running import LLAMA, Llama, assert_refused

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class Weather:
    """A tool group of the served stack."""

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name="get_weather", description="Look up the weather.", parameters=CITY)]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        return ToolResult(content=f"{arguments['city']}: 21 degrees\n\x1b[31mclear")


class Python:
    """A tool group in the place of the code interpreter: it tells what it was given, and gives a figure and a file."""

    async def list_tools(self, tool_group: ToolGroup, caller: Caller) -> list[ToolDefinition]:
        return [ToolDefinition(name="code_interpreter", description="Run Python.", parameters={"type": "object"})]

    async def invoke_tool(
        self, tool_group: ToolGroup, name: str, arguments: dict[str, Any], caller: Caller
    ) -> ToolResult:
        figure = {"url": "data:image/png;base64,UE5H"}
        file = {"name": "../.top.csv", "url": "data:text/csv;base64,YSxi"}
        files = [
            file,
            {**file, "url": "data:text/csv;base64,Yw=="},
            {"name": "elsewhere", "url": "https://example.org"},
        ]
        return ToolResult(content=str(arguments["files"]), metadata={"figures": [figure, figure], "files": files})


TOOLS: dict[str, Any] = {"weather": Weather(), "builtin::code_interpreter": Python()}


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Any]:
    """Serve a stack whose model follows a script; gives its URL."""

    @contextmanager
    def served(*scripts: Script) -> Iterator[str]:
        @asynccontextmanager
        async def enter() -> AsyncIterator[str]:
            async with (
                open_scripted_stack(*scripts, tools=TOOLS, home=tmp_path / "server") as stack,
                serving(create_app(stack)) as url,
            ):
                yield url

        with LoopThread(enter) as running:
            yield running.held

    return served


def piped(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LLAMA), "agent", "chat", *arguments],
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def without_times(text: str) -> str:
    return re.sub(r"\(\d+\.\d s\)", "(0.0 s)", text)


ASKS = calls(("get_weather", '{"city": "Lisbon"}'))


def test_each_line_of_a_pipe_is_a_question(serve: Any, stack_home: Path) -> None:
    with serve(ASKS, says("It is ", "clear."), says("Bye.")) as url:
        done = piped("What is the weather?\nThanks\n", "--url", url, "--tools", "weather")

    assert (done.returncode, done.stderr) == (0, "")
    assert without_times(done.stdout) == (
        '  * get_weather(city="Lisbon")\n  = Lisbon: 21 degrees  (0.0 s)\n    [31mclear\nIt is clear.\nBye.\n'
    )


def test_a_chat_is_listed_and_gone_on_with(serve: Any, stack_home: Path, llama: Llama) -> None:
    with serve(says("Hello Ann."), says("You are Ann."), says("Another.")) as url:
        piped("I am Ann.\n", "--url", url, "--instructions", "Be kind.")
        done = piped("Who am I?\n/history\n", "--url", url, "--continue")
        assert done.stdout == "You are Ann.\n> I am Ann.\nHello Ann.\n> Who am I?\nYou are Ann.\n"
        piped("Something else entirely\n", "--url", url)
        listed = llama("agent", "sessions", "--url", url).stdout.splitlines()
        first = listed[1].split()[0]
        again = piped("/history\n", "--url", url, "--session", first)

    assert [re.split(r" {2,}", line)[-1] for line in listed] == ["FIRST WORDS", "I am Ann.", "Something else entirely"]
    assert again.stdout.startswith("> I am Ann.\n")


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("yes", "  = Lisbon: 21 degrees  (0.0 s)\n    [31mclear\n"),
        ("not today", ""),
        ("", ""),
    ],
    ids=["allowed", "denied", "nobody"],
)
def test_a_call_waits_for_a_word(serve: Any, stack_home: Path, word: str, result: str) -> None:
    with serve(ASKS, says("Well.")) as url:
        typed = f"Weather?\n{word}\n" if word else "Weather?\n"
        done = piped(typed, "--url", url, "--tools", "weather", "--ask")

    asked = '  ? The agent wants to call get_weather(city="Lisbon")\n'
    made = '  * get_weather(city="Lisbon")\n' if result else ""
    assert without_times(done.stdout) == f"{asked}{made}{result}Well.\n"


def test_who_is_asked_sees_the_whole_call(serve: Any, stack_home: Path) -> None:
    code = "print('a long and harmless beginning of a program')\nimport os\nos.system('rm -rf ~')  # \u202e"
    with serve(calls(("get_weather", json.dumps({"city": code}))), says("Well.")) as url:
        done = piped("Weather?\nno\n", "--url", url, "--tools", "weather", "--ask")

    assert done.stdout == (
        "  ? The agent wants to call get_weather(\n      city = \n"
        "        print('a long and harmless beginning of a program')\n        import os\n"
        "        os.system('rm -rf ~')  # \\u202e\n    )\nWell.\n"
    )


def test_code_is_given_files_and_what_it_makes_is_kept_where_a_person_finds_it(
    serve: Any, stack_home: Path, tmp_path: Path
) -> None:
    (tmp_path / "sales.csv").write_text("1")
    with serve(calls(("code_interpreter", "{}")), says("Done.")) as url:
        done = piped("Plot it.\n", "--url", url, "--file", str(tmp_path / "sales.csv"))

    (folder,) = (stack_home / "chat_files").iterdir()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "figure.png": b"PNG",
        "top.csv": b"a,b",
        "top-2.csv": b"c",
    }
    kept = [f"  + {folder / name}" for name in ("figure.png", "top.csv", "top-2.csv")]
    assert without_times(done.stdout).splitlines() == [
        "  * code_interpreter()",
        "  = {'sales.csv': 'data:application/octet-stream;base64,MQ=='}  (0.0 s)",
        *kept,
        "Done.",
    ]


def test_slash_commands(serve: Any, stack_home: Path) -> None:
    with serve(says("Hi.")) as url:
        done = piped("/help\n/tools\n/resume\n/nwe\n/quit now\nnever said\n", "--url", url, "--tools", "weather")

    assert "  /history  what was said in this chat\n" in done.stdout
    assert "  weather" in done.stdout
    assert done.stderr == "Nothing was said yet.\nThere is no /nwe. Did you mean '/new'?\n"
    assert "Hi." not in done.stdout


def test_a_failure_is_told_and_the_chat_goes_on(serve: Any, stack_home: Path) -> None:
    with serve(says("Hi.")) as url:
        done = piped("Hello\n", "--url", url, "--tools", "wether")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: There is no tool group 'wether'. Did you mean 'weather'?")


def test_what_cannot_be_is_refused_at_once(serve: Any, stack_home: Path, llama: Llama) -> None:
    assert_refused(llama("agent", "chat", "--url", "http://localhost:1", "--continue"), "cannot reach a stack", code=1)
    with serve() as url:
        assert_refused(llama("agent", "chat", "--url", url, "--session", "abc"), "no chat to go on with yet", code=1)
        assert llama("agent", "sessions", "--url", url).stdout.startswith("No chats yet")
    assert_refused(llama("agent", "chat", "stater"), "starter")
    for folder in ("here", "there"):
        (stack_home / folder).mkdir(parents=True)
        (stack_home / folder / "sales.csv").touch()
    same = [str(stack_home / folder / "sales.csv") for folder in ("here", "there")]
    assert_refused(llama("agent", "chat", "--file", same[0], "--file", same[1]), "'--file'", *same, "rename one")


@pytest.mark.engine
def test_the_starter_model_chats(stack_home: Path, llama: Llama) -> None:
    done = piped("hello\n")
    assert done.returncode == 0, done.stderr
    assert "Hello" in done.stdout
    listed = llama("agent", "sessions", "--json").stdout
    assert '"title": "hello"' in listed
    assert '"model": "llama-micro"' in listed


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_words_are_not_broken_at_the_edge_of_the_terminal(size: int) -> None:
    text = "The quick brown fox jumps over\n    it = again  and\nincomprehensibilities stay whole"
    flow = Flow(16)
    shown = "".join(flow.feed(text[start : start + size]) for start in range(0, len(text), size)) + flow.end()
    assert shown.split("\n") == [
        "The quick brown",
        "fox jumps over",
        "    it = again",
        "and",
        "incomprehensibilities",
        "stay whole",
    ]


def test_the_edge_is_where_it_is_now(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    screen = ChatScreen(wraps=True)
    monkeypatch.setenv("COLUMNS", "12")
    for word in ("one ", "two ", "three ", "four"):
        screen.show(StepProgress(step_id="s", event=TextDelta(text=word)))
    screen.end_line()
    assert capsys.readouterr().out == "one two\nthree four\n"


# --- a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
class TestAtATerminal:
    def test_a_conversation(self, serve: Any, stack_home: Path) -> None:
        from tests.cli.terminal import run_in_terminal

        with serve(ASKS, says("It is clear.")) as url:
            shown = run_in_terminal(
                *("agent", "chat", "--url", url, "--tools", "weather", "--ask"),
                typed="Weather in Lisbon?\nyes\n/quit\n",
                NO_COLOR="1",
            )

        assert f"scripted on {url}. /help says what you can do." in shown
        assert '? The agent wants to call get_weather(city="Lisbon")' in shown
        assert "  Allow it? yes, no, or why not: " in shown
        assert "It is clear.\n" in shown
        assert shown.endswith("This chat is kept: llama agent chat --continue\n")
        assert "Traceback" not in shown
        assert (stack_home / "chat_history").read_text(encoding="utf-8").startswith("Weather in Lisbon?\n")
