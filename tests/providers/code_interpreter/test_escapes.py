"""Nothing of the corpus gets out of any driver; without a sandbox its attempts do get out."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from tests.providers.code_interpreter.conftest import SANDBOXES, WHY_NOT, Desk, needs_wasm, open_desk, printed, settings
from tests.providers.code_interpreter.escapes import ATTEMPTS, SCRIPTS, Attempt

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-8b1f3a"
CHECKOUT = Path(__file__).parents[3]
FILES_OF_ITS_OWN = {"wasm": ("write /", "write beside", "read '/"), "container": ("read '/etc/passwd'", "pseudo")}
"""Attempts that succeed on files which the sandbox brought itself, and which say nothing of the host's."""


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What lies about on the host for the code to find, as lines of Python."""
    secret = tmp_path_factory.mktemp("host") / "secret"
    secret.write_text(CANARY, encoding="ascii")
    command = [sys.executable, "-c", "input()"]
    abstract = f"escape-{os.getpid()}"
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, env={"ESCAPE_CANARY": CANARY}) as holder,
        socket.socket() as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as local,
    ):
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        local.bind(f"\0{abstract}")
        tcp.listen()
        local.listen()
        found = {
            "SECRET": str(secret),
            "HOME": str(Path.home()),
            "CHECKOUT": str(CHECKOUT),
            "CANARY": CANARY,
            "TCP_PORT": tcp.getsockname()[1],
            "UDP_PORT": udp.getsockname()[1],
            "ABSTRACT": abstract,
            "HOST_PID": os.getpid(),
        }
        yield "".join(f"{name} = {value!r}\n" for name, value in found.items())
        holder.terminate()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=SANDBOXES)
async def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path_factory.mktemp("home"), settings(cast(str, request.param))) as desk:
        yield desk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nothing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path_factory.mktemp("home"), settings("unsafe_subprocess")) as desk:
        yield desk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wasm(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path_factory.mktemp("home"), settings("wasm")) as desk:
        yield desk


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
async def test_it_stays_inside(sandbox: Desk, names: str, attempt: Attempt) -> None:
    answer = await sandbox.says(names + attempt.code)
    if attempt.name.startswith(FILES_OF_ITS_OWN.get(sandbox.interpreter.config.driver, ())):
        return
    assert "ESCAPED" not in printed(answer)


@pytest.mark.parametrize("attempt", [one for one in ATTEMPTS if one.works_without], ids=lambda attempt: attempt.name)
async def test_the_attempt_is_sound(nothing: Desk, names: str, attempt: Attempt) -> None:
    assert "ESCAPED" in printed(await nothing.says(names + attempt.code))


@pytest.mark.parametrize("driver", WHY_NOT)
async def test_the_corpus_is_tried_on(driver: str) -> None:
    reason = WHY_NOT[driver]
    if reason is not None:
        pytest.skip(reason)


@needs_wasm
@pytest.mark.parametrize("attempt", SCRIPTS, ids=lambda attempt: attempt.name)
async def test_what_holds_webassembly_grants_nothing(wasm: Desk, attempt: Attempt) -> None:
    assert "ESCAPED" not in printed(await wasm.says(attempt.code))


async def test_a_sandbox_holds_nothing_of_the_host(sandbox: Desk, names: str) -> None:
    """Of what can be read there, nothing but Python and the packages beside it is the host's."""
    if sandbox.interpreter.config.driver != "bubblewrap":
        pytest.skip("the other drivers bring their own files")
    code = """
import os
found = [os.path.join(folder, name) for folder, _, names in os.walk('/') for name in names
         if not folder.startswith(('/proc', '/usr', '/dev')) and 'site-packages' not in folder
         and not folder.startswith(PREFIX)]
print(sorted(found))
"""
    answer = await sandbox.says(f"PREFIX = {sys.base_prefix!r}\n{code}")
    assert "secret" not in answer
    assert "pyproject.toml" not in answer
