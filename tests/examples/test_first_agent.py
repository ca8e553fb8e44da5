"""The sample agent: what it shows, its exit status, and that it finds what it is asked for."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.knowledge_search import FOLDER, Knowledge
from llama_stack import LlamaStack
from llama_stack.errors import ProviderUnavailable
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import ScriptedInference, ScriptedStack, calls, says
from tests.client.ways import play

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "examples/first_agent.py", *arguments]
    return subprocess.run(command, cwd=ROOT, input=typed, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def inference() -> ScriptedInference:
    return ScriptedInference()


@pytest.fixture
def url(inference: ScriptedInference) -> Iterator[str]:
    with LoopThread(lambda: serving(create_app(ScriptedStack(inference)))) as server:
        yield server.held


def test_a_question_of_ones_own_is_shown_step_by_step(url: str, inference: ScriptedInference) -> None:
    play(inference, calls(("calculate", '{"expression": "6 times 7"}')), says("It is ", "42."))
    ended = run("--url", url, "--ask", "What is 6 times 7?")

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == (
        'you    What is 6 times 7?\ncall   calculate({"expression": "6 times 7"})\nresult 42\nagent  It is 42.\n'
    )


def test_an_error_of_a_tool_is_shown_and_read_by_the_model(url: str, inference: ScriptedInference) -> None:
    play(inference, calls(("get_weather", '{"city": "Atlantis"}')), says("I do not know."))
    ended = run("--url", url, "--ask", "Weather in Atlantis?")

    assert "result Error: ValueError: no weather for Atlantis; there is bergen" in ended.stdout
    assert ended.stdout.endswith("agent  I do not know.\n")


def test_wrong_answers_are_failures_and_the_exit_status_says_so(url: str, inference: ScriptedInference) -> None:
    play(inference, says("I know nothing."))
    ended = run("--url", url)

    assert ended.returncode == 1
    assert ended.stdout.count("FAILED") == 4
    assert "1 of 5 questions answered" in ended.stdout


def test_a_chat_remembers_and_ends_with_an_empty_line(url: str, inference: ScriptedInference) -> None:
    play(inference, says("Hello."), says("Goodbye."))
    ended = run("--url", url, "--chat", typed="hi\nbye\n\n")

    assert ended.returncode == 0, ended.stderr
    assert "agent  Hello." in ended.stdout
    assert "agent  Goodbye." in ended.stdout
    assert [message.role for message in inference.requests[-1].messages] == ["user", "assistant", "user"]  # type: ignore[union-attr]


def test_a_chat_goes_on_after_a_failure(url: str, inference: ScriptedInference) -> None:
    play(inference, [ProviderUnavailable("the engine is away")], says("Here I am."))
    ended = run("--url", url, "--chat", typed="hi\nhi\n\n")

    assert ended.returncode == 0, ended.stderr
    assert "error  the engine is away\n" in ended.stdout
    assert "agent  Here I am.\n" in ended.stdout


def test_a_failure_of_the_model_is_one_line(url: str, inference: ScriptedInference) -> None:
    play(inference, [ProviderUnavailable("the engine is away")])
    ended = run("--url", url, "--ask", "hi")

    assert ended.returncode == 1
    assert ended.stderr == "error: the engine is away\n"


def test_a_server_that_is_not_there_is_said_with_the_remedy() -> None:
    ended = run("--url", "http://127.0.0.1:9", "--ask", "hi")

    assert ended.returncode == 1
    assert ended.stderr.startswith("error: cannot reach a stack at http://127.0.0.1:9")
    assert "llama stack run starter" in ended.stderr
    assert "Traceback" not in ended.stderr


# --- on the real engine --------------------------------------------------------------------------------------------

FOUND_IN = [
    ("Which port does the server listen on?", "server.md"),
    ("What licence is Llama Stack published under?", "licence.md"),
    ("Which Python version do I need?", "installation.md"),
    ("How many numbers has a vector of the embedding model?", "embeddings.md"),
    ("Where is the state kept?", "storage.md"),
    ("What happens when the engine crashes?", "engine.md"),
    ("What is a distribution?", "distributions.md"),
    ("What happens when a tool raises an error?", "agents.md"),
    ("How do I serve another model?", "models.md"),
    ("What is a provider?", "providers.md"),
    ("How many tools run at once?", "tools.md"),
    ("What does the server answer to a wrong field?", "errors.md"),
]


@pytest.fixture
def knowledge(micro_model: Path) -> Iterator[Knowledge]:
    with LlamaStack.open("starter", model=str(micro_model)) as stack:
        yield Knowledge(stack)


@pytest.mark.engine
def test_every_document_is_found_by_a_question_about_it(knowledge: Knowledge) -> None:
    assert {file for _, file in FOUND_IN} == {file.name for file in FOLDER.glob("*.md")}
    for question, file in FOUND_IN:
        (passage,) = knowledge.nearest(question, count=1)
        assert passage.file == file, question


@pytest.mark.engine
@pytest.mark.parametrize(
    ("question", "tool", "answer"),
    [
        ("What is 127 plus 48?", "calculate", "175"),
        ("Which port does the server listen on?", "knowledge_search", "8321"),
        ("What is the weather in Oslo?", "get_weather", "-2"),
        ("set a timer for 12 minutes", "set_timer", "12"),
    ],
)
def test_the_shipped_model_calls_the_right_tool_and_answers_from_it(question: str, tool: str, answer: str) -> None:
    ended = run("--in-process", "--ask", question)

    assert ended.returncode == 0, ended.stderr
    assert f"call   {tool}(" in ended.stdout
    assert answer in ended.stdout.splitlines()[-1]


@pytest.mark.engine
def test_the_shipped_model_greets_without_a_tool() -> None:
    ended = run("--in-process", "--ask", "hello")

    assert "call " not in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("agent  Hello")
