"""Every code block of the README and the docs runs.

`python` blocks run as programs, `bash` blocks in a shell, against a server started as the README says; `yaml` blocks
are loaded as distributions, `toml` blocks parsed; `text` blocks show output and are not run. A command that a test
cannot run inside itself stands in RUN_ELSEWHERE with the place that runs it.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from llama_stack.catalog import Catalog
from llama_stack.compose import resolve_providers
from llama_stack.distribution import Distribution
from llama_stack.substitution import substitute

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
PORT_IN_TEXT = "8321"

# line -> (file, text in it) of what runs the command instead
RUN_ELSEWHERE: dict[str, tuple[str, str]] = {
    "make run": ("tests/examples/test_demo.py", "keep-serving"),
    "make demo": ("tests/examples/test_demo.py", "tools/demo.py"),
    "make test": (".ci/run", "make test"),
    "make bench": ("tests/docs/test_docs.py", "make bench"),
    "llama stack run starter": ("tests/docs/test_docs.py", '"stack", "run", "starter"'),
    "python3 -m venv .venv": ("Makefile", "-m venv $(VENV)"),
    ".venv/bin/pip install -e .": ("Makefile", "pip install"),
    ".venv/bin/pip install -e '.[dev]'": ("Makefile", "'.[dev]'"),
    ".venv/bin/python tools/demo.py --keep-serving": ("Makefile", "tools/demo.py --keep-serving"),
    ".venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy": ("Makefile", "$(BIN)/mypy"),
    ".venv/bin/python tools/run_tests.py": ("Makefile", "tools/run_tests.py"),
    ".venv/bin/python tools/check_wheel.py": ("Makefile", "tools/check_wheel.py"),
}


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        content = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", content, re.MULTILINE | re.DOTALL):
            line = content[: match.start()].count("\n") + 1
            found.append(Block(page, line, match[1].strip(), match[2]))
    return found


def blocks_of(*languages: str) -> list[Block]:
    return [block for block in blocks() if block.language in languages]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {**os.environ, "LLAMA_STACK_HOME": str(home), "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def port(environment: dict[str, str]) -> Iterator[int]:
    """The port of a server started as the README says."""
    port = free_port()
    command = [sys.executable, "-m", "llama_stack", "stack", "run", "starter", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(f"http://127.0.0.1:{port}/v1/health", timeout=10)
                break
            except httpx.TransportError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.05)
        yield port
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def test_every_block_says_what_it_is() -> None:
    known = {"python", "bash", "yaml", "toml", "text", "json"}
    assert not [str(block) for block in blocks() if block.language not in known]


def test_the_commands_run_elsewhere_are_run_there() -> None:
    for command, (file, text) in RUN_ELSEWHERE.items():
        assert text in (ROOT / file).read_text(encoding="utf-8"), command


def run(block: Block, command: list[str], port: int, folder: Path, environment: dict[str, str]) -> None:
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert finished.returncode == 0, f"{block}\n{finished.stdout}\n{finished.stderr}"


@pytest.mark.engine
@pytest.mark.parametrize("block", blocks_of("python"), ids=str)
def test_a_python_block_runs(block: Block, port: int, tmp_path: Path, environment: dict[str, str]) -> None:
    program = tmp_path / "block.py"
    program.write_text(block.text.replace(PORT_IN_TEXT, str(port)), encoding="utf-8")
    run(block, [sys.executable, str(program)], port, tmp_path, environment)


@pytest.mark.engine
@pytest.mark.parametrize("block", blocks_of("bash"), ids=str)
def test_a_bash_block_runs(block: Block, port: int, tmp_path: Path, environment: dict[str, str]) -> None:
    lines = [line for line in block.text.splitlines() if line.split("  #")[0].strip() not in RUN_ELSEWHERE]
    script = "\n".join(["set -eu", *lines]).replace(PORT_IN_TEXT, str(port))
    for name in ("examples", "distributions", "weights", "benchmarks", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    shell = shutil.which("bash")
    assert shell
    run(block, [shell, "-c", script], port, tmp_path, environment)


@pytest.mark.parametrize("block", blocks_of("yaml"), ids=str)
def test_a_yaml_block_is_a_distribution_with_right_settings(block: Block) -> None:
    environment = {"TOGETHER_API_KEY": "x", "TICKETS_TOKEN": "x", "BRAVE_SEARCH_API_KEY": "x"}
    tree, _ = substitute(yaml.safe_load(block.text), environment, where=str(block))
    resolve_providers(Distribution.model_validate(tree))


@pytest.mark.parametrize("block", blocks_of("toml", "json"), ids=str)
def test_a_data_block_is_well_formed(block: Block) -> None:
    if block.language == "toml":
        tomllib.loads(block.text)
    else:
        import json

        json.loads(block.text)


def test_the_readme_names_every_shipped_provider() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `((?:inline|remote)::[^`]+)` \|", readme, re.MULTILINE))
    assert listed == set(Catalog().types())


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
