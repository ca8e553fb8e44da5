"""Which driver is used, and that a missing or leaking one is never used."""

import ctypes
import struct
import sys
import tempfile
import venv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llama_stack.api.common import HealthStatus
from llama_stack.errors import ProviderUnavailable
from llama_stack_providers.inline._code_interpreter import bubblewrap, choice, wasm
from llama_stack_providers.inline._code_interpreter.bubblewrap import BubblewrapDriver
from llama_stack_providers.inline._code_interpreter.interpreter import find_interpreter
from llama_stack_providers.inline._code_interpreter.seccomp import ABSENT, DENIED, filter_program
from llama_stack_providers.inline._code_interpreter.selftest import self_test
from llama_stack_providers.inline._code_interpreter.settings import Config
from llama_stack_providers.inline._code_interpreter.unsafe_subprocess import UnsafeSubprocessDriver
from tests.providers.code_interpreter.conftest import ALICE, GROUP, Desk, needs_bubblewrap, open_desk, printed, settings


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@asynccontextmanager
async def unavailable(home: Path, config: Config) -> AsyncIterator[tuple[Desk, str]]:
    """The interpreter, and what both a listing and a call say."""
    async with open_desk(home, config) as desk:
        said = []
        for asked in (desk.interpreter.list_tools(GROUP, ALICE), desk.call("1")):
            with pytest.raises(ProviderUnavailable) as raised:
                await asked
            said.append(raised.value.message)
        assert said[0] == said[1]
        health = await desk.interpreter.health()
        assert health.status is HealthStatus.FAILED
        assert health.message == said[0]
        yield desk, said[0]


async def test_without_a_sandbox_nothing_runs_and_the_remedy_is_told(
    stack_home: Path, no_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wasm, "find_deno", lambda: None)
    async with unavailable(stack_home, Config()) as (_, said):
        assert "bubblewrap is not installed; install it: apt install bubblewrap" in said
        assert "Deno is not installed; install it: pip install 'llama-stack[code-wasm]'" in said


async def test_a_missing_pyodide_is_named_with_the_command_that_fetches_it(stack_home: Path) -> None:
    pytest.importorskip("deno")
    async with unavailable(stack_home, Config(driver="wasm")) as (_, said):
        assert f"Pyodide is not in {stack_home / 'pyodide'}" in said
        assert f"python -m llama_stack_providers.inline._code_interpreter.pyodide {stack_home / 'pyodide'}" in said


async def test_a_named_driver_has_no_stand_in(stack_home: Path, no_bubblewrap: None) -> None:
    async with unavailable(stack_home, Config(driver="bubblewrap")) as (_, said):
        assert "bubblewrap is not installed" in said
        assert "wasm" not in said


@needs_bubblewrap
async def test_what_is_installed_later_is_found(
    stack_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        async with unavailable(stack_home, Config(driver="bubblewrap")) as (desk, _):
            without.undo()
            desk.interpreter._tried_at -= 3600
            assert printed(await desk.says("1 + 1")) == "2"
            assert (await desk.interpreter.health()).status is HealthStatus.OK


class LeakyDriver(BubblewrapDriver):
    """bubblewrap with one of its walls taken down."""

    drop: tuple[str, ...] = ()
    add: tuple[str, ...] = ()

    def _isolation(self, uid: int | None) -> Any:
        yield from (word for word in super()._isolation(uid) if word not in self.drop)

    def _files(self) -> Any:
        words = list(super()._files())
        end = words.index("--remount-ro", words.index("/sandbox"))
        yield from (*words[:end], *self.add, *words[end:])


@needs_bubblewrap
@pytest.mark.parametrize(
    ("hole", "drop", "add", "calls"),
    [
        ("TCP to the host", ("--unshare-net",), (), "allow all"),
        (
            "read a file of the host",
            (),
            ("--perms", "0755", "--dir", "/var", "--ro-bind", "/var/tmp", "/var/tmp"),
            None,
        ),
        ("write /etc/", (), ("--perms", "1777", "--tmpfs", "/etc"), None),
        ("make a user namespace", (), (), "allow all"),
    ],
)
async def test_a_hole_disables_the_driver(
    stack_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    hole: str,
    drop: tuple[str, ...],
    add: tuple[str, ...],
    calls: str | None,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")  # bubblewrap has a /tmp of its own
    allow_all = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    if calls is not None:
        monkeypatch.setattr(bubblewrap, "filter_program", lambda machine: allow_all)
    monkeypatch.setattr(LeakyDriver, "drop", drop)
    monkeypatch.setattr(LeakyDriver, "add", add)
    monkeypatch.setitem(choice.DRIVERS, "bubblewrap", LeakyDriver)
    monkeypatch.setattr(choice, "_passed", set())
    async with unavailable(stack_home, Config(driver="bubblewrap")) as (_, said):
        assert "failed its self-test and is not used" in said
        assert hole in said


async def test_no_isolation_must_be_accepted_in_words(stack_home: Path) -> None:
    with pytest.raises(ValidationError, match="i_accept_no_isolation"):
        Config(driver="unsafe_subprocess")
    with pytest.raises(ValidationError, match="driver_order"):
        Config(driver_order=["unsafe_subprocess"])
    async with open_desk(stack_home, settings("unsafe_subprocess")) as desk:
        result = await desk.call("import os; os.getpid() > 0")
        assert printed(str(result.content)) == "True"
        assert result.metadata["driver"] == "unsafe_subprocess"


def test_a_container_needs_an_image() -> None:
    with pytest.raises(ValidationError, match="container_image"):
        Config(driver="container")


@needs_bubblewrap
async def test_the_self_test_runs_once_a_process(stack_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def counted(driver: Any, config: Config) -> None:
        tried.append(driver.name)
        await self_test(driver, config)

    monkeypatch.setattr(choice, "self_test", counted)
    monkeypatch.setattr(choice, "_passed", set())
    for _ in range(3):
        async with open_desk(stack_home, settings("bubblewrap")) as desk:
            await desk.call("1")
    assert tried == ["bubblewrap"]


def test_the_drivers_are_those_that_the_settings_know() -> None:
    names = Config.model_json_schema()["properties"]["driver"]["anyOf"][1]["enum"]
    assert set(names) == set(choice.DRIVERS)
    assert choice.DRIVERS["unsafe_subprocess"] is UnsafeSubprocessDriver


def test_system_calls_have_the_numbers_of_this_kernel() -> None:
    """Against libseccomp's tables, where it is installed; one denied by a wrong number would be no denial."""
    library = find_library("seccomp")
    if library is None:
        pytest.skip("libseccomp is not installed")
    resolve = ctypes.CDLL(library).seccomp_syscall_resolve_name_arch
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    for name, numbers in {**DENIED, **ABSENT}.items():
        for number, architecture in zip(numbers, (0xC000003E, 0xC00000B7), strict=True):
            if number is not None:
                assert resolve(architecture, name.encode()) == number, name


def test_the_program_is_whole_instructions_within_the_kernels_limit() -> None:
    for machine in ("x86_64", "aarch64", "arm64"):
        program = filter_program(machine)
        assert program is not None
        assert len(program) % 8 == 0
        assert len(program) // 8 <= 4096
    assert filter_program("x86_64") != filter_program("aarch64")
    assert filter_program("riscv64") is None


def test_another_interpreter_can_be_named(tmp_path: Path) -> None:
    named = find_interpreter(Path(sys.executable))
    own = find_interpreter(None)
    assert (named.program, named.packages) == (own.program, own.packages)
    with pytest.raises(ProviderUnavailable, match="set python to one that does"):
        find_interpreter(tmp_path / "no-python")


@needs_bubblewrap
async def test_python_may_lie_where_files_of_a_moment_do(stack_home: Path) -> None:
    """As the environment of a clone under /tmp does; the rest of the host's /tmp is not there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        environment = Path(folder) / "environment"
        venv.create(environment, with_pip=False)
        package = next(environment.glob("lib/python3*/site-packages")) / "lies_in_tmp.py"
        package.write_text("WORD = 'found'\n", encoding="utf-8")
        (Path(folder) / "of the host").touch()
        async with open_desk(stack_home, settings("bubblewrap", python=environment / "bin" / "python")) as desk:
            answer = await desk.says(
                "import lies_in_tmp, pathlib\n"
                f"print(lies_in_tmp.WORD, [path.name for path in pathlib.Path({folder!r}).iterdir()])\n"
                "pathlib.Path('/tmp/mine').write_text('written')\n"
                "print(pathlib.Path('/tmp/mine').read_text())"
            )
        assert printed(answer).split("\n") == ["found ['environment']", "written"], answer
