"""Every example runs and does what it says: on the shipped models where those carry it, else on a model that follows a
script behind the same wire, so that all but the thinking is real.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from nbclient import NotebookClient

from llama_stack.api.inference import ChatRequest
from llama_stack.api.messages import text_of
from llama_stack.compose import open_stack
from llama_stack.distribution import load_distribution
from llama_stack.sdk.loop_thread import LoopThread
from llama_stack.server.app import create_app
from llama_stack.server.serve import serving
from llama_stack.testing.scripted import Script, ScriptedInference, ScriptedStack, calls, says
from tests.providers.remote.upstream import json_reply, running

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
HAVE_TESTS_OF_THEIR_OWN = {"first_agent.py", "calculator.py", "knowledge_search.py"}

# example -> what its output holds
SHOWS = {
    "hello.py": ["Hello"],
    "custom_tools.py": ['convert_temperature({"value": 100', "-> 212 degrees Fahrenheit", "212"],
    "structured_output.py": ["name='Ada' city='Bergen'"],
    "openai_client.py": ["models: llama-micro, all-minilm-l6-v2", "Hello", "embeddings: 2 of 384 numbers"],
    "mcp_client/client.py": ['get_weather({"city": "Lisbon"}) -> ', "The weather in Lisbon is sunny, 21 degrees.\n"],
}
# Each has a test of its own below.
TESTED_BELOW = {
    "durable_session.py",
    "human_approval.py",
    "web_search_agent.py",
    "react_agent.py",
    "multi_agent.py",
    "data_analyst/analyst.py",
    "mcp_client/weather_server.py",
    "fastapi_agent.py",
    "notebook.ipynb",
    # In test_memory_examples.py.
    "session_memory.py",
    "code_questions.py",
    "chat_with_documents/chat.py",
    "support_desk/desk.py",
}


@asynccontextmanager
async def served_starter() -> AsyncIterator[str]:
    async with open_stack(load_distribution("starter")) as stack, serving(create_app(stack)) as url:
        yield url


@pytest.fixture
def url() -> Iterator[str]:
    with LoopThread(served_starter) as server:
        yield server.held


def output_of(
    name: str, *arguments: str, typed: str = "", cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> str:
    """What the example prints; typed: what it reads."""
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        input=typed,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_every_example_is_run_and_listed() -> None:
    found = {str(file.relative_to(EXAMPLES)) for kind in ("py", "ipynb") for file in EXAMPLES.rglob(f"*.{kind}")}
    assert found == SHOWS.keys() | HAVE_TESTS_OF_THEIR_OWN | TESTED_BELOW
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(found) if f"]({name})" not in listed] == []


@pytest.mark.engine
@pytest.mark.parametrize("name", SHOWS)
def test_it_runs_and_shows_what_it_is_for(name: str, request: pytest.FixtureRequest) -> None:
    arguments = [request.getfixturevalue("url")] if name == "openai_client.py" else []
    output = output_of(name, *arguments)
    for text in SHOWS[name]:
        assert text in output


@pytest.mark.engine
def test_a_session_goes_on_in_another_process() -> None:
    output_of("durable_session.py")
    assert output_of("durable_session.py", "Add bread to the shopping list") == (
        "before  Add milk to the shopping list  ->  The shopping list is now milk.\n"
        "you     Add bread to the shopping list\n"
        "agent   The shopping list is now milk, bread.\n"
    )


@pytest.mark.engine
def test_a_call_waits_for_a_person_over_a_restart() -> None:
    asked = 'set_timer({"minutes": 5})  yes, no, or why not? '
    assert output_of("human_approval.py") == f"{asked}\nThe call waits; run this again to decide.\n"
    assert output_of("human_approval.py", typed="yes\n") == f"{asked}Timer set for 5 minutes.\n"
    assert "denied" in output_of("human_approval.py", typed="the oven is broken\n")


@pytest.mark.engine
def test_a_page_gets_calls_results_and_words_as_they_come(stack_home: Path) -> None:
    command = [sys.executable, "-m", "uvicorn", "examples.fastapi_agent:app", "--port", "0", "--no-use-colors"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            said = iter(server.stderr.readline, "")
            url = next(found[1] for line in said if (found := re.search(r"running on (http://\S+)", line)))
            assert "<form>" in httpx.get(url, timeout=30).text
            first = events_of(url, "convert 100 degrees to fahrenheit")
            second = events_of(url, "word " * 6000)
        finally:
            server.terminate()
    assert first[0] == ("call", 'convert_to_fahrenheit({"degrees": 100})')
    assert first[1] == ("result", "212 degrees Fahrenheit")
    assert "212" in "".join(text for kind, text in first if kind == "text")
    assert first[-1] == ("done", "")
    assert second[-1][0] == "error" and "window of the model" in second[-1][1]


def events_of(url: str, question: str) -> list[tuple[str, str]]:
    response = httpx.get(f"{url}/ask", params={"session": "one", "question": question}, timeout=60)
    assert response.headers["content-type"].startswith("text/event-stream")
    pairs = [frame.split("\n") for frame in response.text.removesuffix("\n\n").split("\n\n")]
    return [(event.removeprefix("event: "), json.loads(told.removeprefix("data: "))) for event, told in pairs]


@pytest.mark.engine
def test_the_notebook_runs_from_top_to_bottom(stack_home: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without its outputs"
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [told_by(cell) for cell in notebook.cells if cell.cell_type == "code"]
    assert "Hello" in shown[0]
    assert shown[2].startswith('get_weather({"city": "Lisbon"}) -> The weather in Lisbon is sunny, 21 degrees.')
    cat_and_kitten, cat_and_tax = map(float, re.findall(r"\d\.\d+", shown[3]))
    assert cat_and_kitten > cat_and_tax
    assert "Oslo" in shown[4]


def told_by(cell: Any) -> str:
    outputs = [output.get("text") or output["data"]["text/plain"] for output in cell.outputs]
    return "".join(outputs)


# --- examples that want a model which can think: here it follows a script ------------------------------------------

Serve = Callable[..., tuple[dict[str, str], ScriptedInference]]


@pytest.fixture
def your_model() -> Iterator[Serve]:
    """`your_model(*scripts)`: the environment of an example whose model follows the scripts, and the model."""
    with ExitStack() as servers:

        def served(*scripts: Script) -> tuple[dict[str, str], ScriptedInference]:
            inference = ScriptedInference(*scripts)
            server = servers.enter_context(LoopThread(lambda: serving(create_app(ScriptedStack(inference)))))
            return {"MODEL_URL": f"{server.held}/v1", "MODEL": "scripted"}, inference

        yield served


def read_by(inference: ScriptedInference) -> str:
    """All the text that the model was asked the last time."""
    request = inference.requests[-1]
    assert isinstance(request, ChatRequest)
    return "\n".join(text_of(message.content or "") for message in request.messages)


def test_a_web_search_with_its_sources(your_model: Serve) -> None:
    env, model = your_model(calls(("web_search", '{"query": "tour winner"}')), says("Ada won."))
    page = {
        "type": "search_result",
        "title": "Tour",
        "url": "https://tour.example/",
        "description": "Ada won the Tour.",
    }
    found = {"type": "search", "web": {"type": "search", "results": [page]}}

    @asynccontextmanager
    async def brave() -> AsyncIterator[str]:
        async with running(json_reply(found)) as upstream:
            yield upstream.url

    with LoopThread(brave) as search:
        env |= {"BRAVE_SEARCH_URL": search.held, "BRAVE_SEARCH_API_KEY": "key"}
        output = output_of("web_search_agent.py", "Who won?", env=env)
    assert output == 'searched  {"query": "tour winner"}\nsource    Tour  https://tour.example/\nAda won.\n'
    assert "Ada won the Tour." in read_by(model)


def test_reasoning_and_acting_in_turns(your_model: Serve) -> None:
    steps = [
        ("look_up", "Eiffel Tower"),
        ("look_up", "brooklyn bridge"),
        ("subtract", "1889 1883"),
        ("finish", "By 6."),
    ]
    script = [says(json.dumps({"thought": f"So {action}.", "action": action, "input": to})) for action, to in steps]
    env, model = your_model(says("Let me think."), *script)
    output = output_of("react_agent.py", env=env)
    assert output.startswith("no step  Let me think.\nthought  So look_up.\n")
    assert "subtract 1889 1883\nobserved 6\n" in output
    assert output.endswith("finish   By 6.\n")
    assert "Observation: 1889" in read_by(model) and "Observation: 6" in read_by(model)


def test_a_hand_off_and_an_agent_as_a_tool(your_model: Serve) -> None:
    env, model = your_model(
        calls(("transfer_to_billing", "{}")),
        calls(("open_bills", '{"customer": "7"}')),
        calls(("calculator", '{"message": "19.5 + 42.25"}')),
        calls(("add", '{"numbers": [19.5, 42.25]}')),
        says("It is 61.75."),
        says("You owe 61.75 euros."),
    )
    output = output_of("multi_agent.py", env=env)
    assert 'call    open_bills({"customer": "7"})\nresult  [19.5,42.25]\n' in output
    assert output.endswith("result  It is 61.75.\nanswer  You owe 61.75 euros.\n")
    told = [request.messages[0].content for request in model.requests if isinstance(request, ChatRequest)]
    assert [text for text in told if isinstance(text, str) and "bills" in text] == [told[1]] * 3


CODE = """
import pandas
import matplotlib.pyplot as plt
sales = pandas.read_csv("sales.csv")
growth = sales.groupby("region").revenue.agg(lambda column: column.iloc[-1] / column.iloc[0])
sales.pivot(index="month", columns="region", values="revenue").plot()
plt.show()
print(growth.idxmax())
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_python_over_a_table_with_a_plot_saved(your_model: Serve, tmp_path: Path) -> None:
    env, model = your_model(calls(("code_interpreter", json.dumps({"code": CODE}))), says("South grew most."))
    output = output_of("data_analyst/analyst.py", cwd=tmp_path, env=env)
    assert "[stdout]south[/stdout]" in output and output.endswith("--- answer\nSouth grew most.\n")
    (figure,) = tmp_path.glob("*.png")
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "sales.csv, which begins:\nmonth,region,units,revenue" in text_of(model.requests[0].messages[0].content)  # type: ignore[union-attr]
