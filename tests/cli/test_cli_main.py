"""The command as a whole: light, helpful when mistyped, the same as a module, fit for pipes and odd terminals."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from llama_stack import __version__
from llama_stack.cli.lazy import Lazy, LazyGroup
from llama_stack.cli.main import cli
from tests.cli.running import LLAMA, Llama, assert_refused
from tests.cli.terminal import run_in_terminal

HEAVY = ("pydantic", "fastapi", "uvicorn", "sqlalchemy", "httpx", "aiohttp", "rich", "yaml", "numpy", "xllamacpp")


def commands(group: LazyGroup, *above: str) -> list[tuple[tuple[str, ...], Lazy]]:
    """Every command of the tree with its path."""
    found: list[tuple[tuple[str, ...], Lazy]] = []
    for name, entry in group.table.items():
        found.append(((*above, name), entry))
        command = entry.load()
        if isinstance(command, LazyGroup):
            found += commands(command, *above, name)
    return found


assert isinstance(cli, LazyGroup)
COMMANDS = commands(cli)
IDS = [" ".join(path) for path, _ in COMMANDS]


def test_the_version_is_told(llama: Llama) -> None:
    done = llama("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"llama {__version__}\n", "")


def test_importing_the_command_imports_nothing_heavy() -> None:
    program = "import sys, llama_stack.cli.main; print(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()).isdisjoint(HEAVY)


def test_a_module_run_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "llama_stack", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: python -m llama_stack [OPTIONS] COMMAND")


def test_there_are_at_most_ten_verbs() -> None:
    assert len(cli.table) <= 10


@pytest.mark.parametrize(("path", "entry"), COMMANDS, ids=IDS)
def test_the_line_in_the_list_is_the_first_line_of_the_help(path: tuple[str, ...], entry: Lazy) -> None:
    assert (entry.load().help or "").partition("\n")[0] == entry.summary


@pytest.mark.parametrize(("path", "entry"), COMMANDS, ids=IDS)
def test_help_describes_every_option_and_fits_the_terminal(path: tuple[str, ...], entry: Lazy) -> None:
    done = CliRunner().invoke(cli, [*path, "--help"], prog_name="llama", terminal_width=80)
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: llama {' '.join(path)} ")
    assert max(len(line) for line in done.output.splitlines()) <= 80
    options = [param for param in entry.load().params if isinstance(param, click.Option)]
    assert [param.name for param in options if not param.help] == []


@pytest.mark.parametrize("group", [(), ("stack",), ("model",), ("db",)], ids=" ".join)
def test_a_group_alone_shows_its_help(group: tuple[str, ...], llama: Llama) -> None:
    assert llama(*group).stdout == llama(*group, "--help").stdout


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(("stakc",), "'stack'"), (("stack", "rnu"), "'run'"), (("model", "prompt-fromat"), "'prompt-format'")],
    ids=lambda value: " ".join(value),
)
def test_an_unknown_command_is_answered_with_the_nearest(typed: tuple[str, ...], meant: str, llama: Llama) -> None:
    assert_refused(llama(*typed), f"no command '{typed[-1]}'", f"Did you mean {meant}?", "--help")


def test_an_unknown_option_is_answered_with_the_nearest(llama: Llama) -> None:
    assert_refused(llama("stack", "show", "--resolvd"), "--resolvd", "--resolved", "llama stack show --help")


def test_a_reader_that_leaves_early_is_no_failure_worth_a_trace() -> None:
    writer = subprocess.Popen([str(LLAMA), "model", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    assert writer.stderr.read() == b""
    writer.stderr.close()
    assert writer.wait(timeout=60) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="closes a descriptor by its number")
def test_closed_streams_are_no_reason_to_fail() -> None:
    command = [str(LLAMA), "stack", "list"]
    for descriptor in (1, 2):
        done = subprocess.run(command, capture_output=True, preexec_fn=partial(os.close, descriptor), check=False)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_that_cannot_show_a_character_still_gets_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("version: 1\nname: Łódź\nproviders: {}\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([str(LLAMA), "stack", "show", str(file)], capture_output=True, env=environment, check=True)
    assert done.stdout.startswith(b"?\xf3d?\n")


def test_colours_are_for_terminals_and_no_color_switches_them_off(llama: Llama) -> None:
    assert "\x1b[" in run_in_terminal("stack", "list")
    assert "\x1b[" in run_in_terminal("stakc")
    assert "\x1b[" not in run_in_terminal("stack", "list", NO_COLOR="1")
    assert "\x1b[" not in run_in_terminal("stakc", NO_COLOR="1")
    assert "\x1b[" not in llama("stack", "list").stdout


TABLES = [
    ("stack", "list"),
    ("stack", "list-apis"),
    ("stack", "list-providers"),
    ("stack", "show", "starter"),
    ("stack", "show", "starter", "--resolved"),
    ("model", "list", "--show-all"),
    ("model", "describe", "Llama3.2-1B-Instruct"),
    ("db", "status"),
]


@pytest.mark.parametrize("command", TABLES, ids=" ".join)
def test_a_table_fits_a_terminal_of_80_columns(command: tuple[str, ...]) -> None:
    shown = re.sub(r"\x1b\[[0-9;]*m", "", run_in_terminal(*command))
    assert len(shown.splitlines()) > 1
    assert max(len(line) for line in shown.splitlines()) <= 80
